package tasks

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// options gathers a task's options by type; processAt is zero where there is none.
func optionsOf(opts []asynq.Option) map[asynq.OptionType]any {
	m := make(map[asynq.OptionType]any)
	for _, o := range opts {
		m[o.Type()] = o.Value()
	}
	return m
}

func TestNewTasks(t *testing.T) {
	t.Parallel()
	type built struct {
		task *asynq.Task
		opts []asynq.Option
	}
	of := func(task *asynq.Task, opts []asynq.Option) built { return built{task, opts} }
	at := time.Date(2027, 2, 18, 12, 0, 1, 0, time.UTC)
	early := at.UnixMilli() - 999 // asynq would schedule this a second before at
	submission := Submission{RobotCode: "r", Keys: []string{"k"}}
	group := Submission{RobotCode: "r", Conversation: Conversation{ChatGroup, "c"}, Keys: []string{"k"}}
	tests := []struct {
		name                         string
		built                        built
		taskType, queue, id, payload string
		at                           time.Time
	}{
		{"submit", of(NewSubmitTask(submission, ClassBulk)), "recall:submit", "recall-bulk", SubmitTaskID(submission, ClassBulk),
			`{"v":1,"robotCode":"r","keys":["k"]}`, time.Time{}},
		{"submit of a group", of(NewSubmitTask(group, ClassBulk)), "recall:submit", "recall-bulk", SubmitTaskID(group, ClassBulk),
			`{"v":2,"robotCode":"r","chat":"group","openConversationId":"c","keys":["k"]}`, time.Time{}},
		{"dead of a group", of(NewDeadTask(DeadLetter{RobotCode: "r", Conversation: group.Conversation, Code: "c", RetainUntil: early}, "dead:x")),
			"recall:dead", "recall-dead", "dead:x",
			`{"v":2,"app":"","robotCode":"r","chat":"group","openConversationId":"c","keys":[],"code":"c","message":"","attempts":0,"class":"","diedAt":0,"retainUntil":1802952000001}`, at},
		{"dispatch", of(NewDispatchTask(Dispatch{App: "a", Slot: 3, Generation: 12})), "recall:dispatch", "recall-dispatch", "dispatch:a:3:12",
			`{"v":1,"app":"a","slot":3,"generation":12}`, time.Time{}},
		{"alarm", of(NewAlarmTask(Alarm{App: "a", At: early})), "recall:alarm", "recall", "alarm:a:1802952001000",
			`{"v":1,"app":"a","at":1802952001000}`, at},
		{"dead", of(NewDeadTask(DeadLetter{App: "a", RobotCode: "r", Code: "c", Class: ClassUrgent, RetainUntil: early}, DeadTaskID("a", 7, 1))),
			"recall:dead", "recall-dead", "dead:a:7:1",
			`{"v":1,"app":"a","robotCode":"r","keys":[],"code":"c","message":"","attempts":0,"class":"urgent","diedAt":0,"retainUntil":1802952000001}`, at},
		{"reconcile", of(NewReconcileTask()), "recall:reconcile", "recall", "reconcile", `{"v":1}`, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := optionsOf(tt.built.opts)
			if tt.built.task.Type() != tt.taskType || got[asynq.QueueOpt] != tt.queue || got[asynq.TaskIDOpt] != tt.id {
				t.Errorf("type %q, queue %v, id %v", tt.built.task.Type(), got[asynq.QueueOpt], got[asynq.TaskIDOpt])
			}
			if payload := string(tt.built.task.Payload()); payload != tt.payload {
				t.Errorf("payload %s\nwant    %s", payload, tt.payload)
			}
			if got[asynq.MaxRetryOpt] != MaxRetry || got[asynq.TimeoutOpt] != Timeout {
				t.Errorf("retries %v, timeout %v", got[asynq.MaxRetryOpt], got[asynq.TimeoutOpt])
			}
			when, _ := got[asynq.ProcessAtOpt].(time.Time)
			if !when.Equal(tt.at) && !(when.IsZero() && tt.at.IsZero()) {
				t.Errorf("scheduled for %v, want %v", when, tt.at)
			}
			for _, unwanted := range []asynq.OptionType{asynq.DeadlineOpt, asynq.UniqueOpt, asynq.RetentionOpt, asynq.GroupOpt} {
				if v, ok := got[unwanted]; ok {
					t.Errorf("option %v is set: %v", unwanted, v)
				}
			}
		})
	}
}

func TestScheduledTasksSurviveAsynq(t *testing.T) {
	t.Parallel()
	b := setup(t)
	until := time.Now().Add(time.Hour).Truncate(time.Second).Add(time.Millisecond)
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: b.redis.Addr()})
	defer func() { _ = client.Close() }()
	task, opts := NewDeadTask(DeadLetter{Code: "c", RobotCode: "r", Keys: []string{"k"}, RetainUntil: until.UnixMilli()}, "dead:x")
	if _, err := client.Enqueue(task, opts...); err != nil {
		t.Fatal(err)
	}
	info, err := b.inspector.GetTaskInfo(QueueDead, "dead:x")
	if err != nil {
		t.Fatal(err)
	}
	if info.NextProcessAt.Before(until) || info.NextProcessAt.After(until.Add(time.Second)) {
		t.Errorf("runs at %v, retention ends at %v", info.NextProcessAt, until)
	}
	if info.MaxRetry != MaxRetry {
		t.Errorf("retries %d", info.MaxRetry)
	}
}

func TestSubmitTaskIDIsOfTheContent(t *testing.T) {
	t.Parallel()
	base := Submission{RobotCode: "r", Keys: []string{"ab", "c"}, SentAt: 5}
	// Other content, other identity: from a valid value, one thing changed per case.
	different := map[string]struct {
		s     Submission
		class Class
	}{
		"itself":   {base, ClassDefault},
		"class":    {base, ClassUrgent},
		"robot":    {Submission{RobotCode: "s", Keys: base.Keys, SentAt: 5}, ClassDefault},
		"group":    {Submission{RobotCode: "r", Conversation: Conversation{ChatGroup, "c"}, Keys: base.Keys, SentAt: 5}, ClassDefault},
		"private":  {Submission{RobotCode: "r", Conversation: Conversation{ChatPrivate, "c"}, Keys: base.Keys, SentAt: 5}, ClassDefault},
		"chat":     {Submission{RobotCode: "r", Conversation: Conversation{ChatGroup, "d"}, Keys: base.Keys, SentAt: 5}, ClassDefault},
		"incident": {Submission{RobotCode: "r", Keys: base.Keys, SentAt: 5, Incident: "i"}, ClassDefault},
		"order":    {Submission{RobotCode: "r", Keys: []string{"c", "ab"}, SentAt: 5}, ClassDefault},
		"borders":  {Submission{RobotCode: "r", Keys: []string{"a", "bc"}, SentAt: 5}, ClassDefault},
		"fewer":    {Submission{RobotCode: "r", Keys: []string{"ab"}, SentAt: 5}, ClassDefault},
		"sentAt":   {Submission{RobotCode: "r", Keys: base.Keys, SentAt: 6}, ClassDefault},
		"sentAts":  {Submission{RobotCode: "r", Keys: base.Keys, SentAts: []int64{5, 6}}, ClassDefault},
	}
	seen := make(map[string]string)
	for name, d := range different {
		id := SubmitTaskID(d.s, d.class)
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same identity %s", name, other, id)
		}
		seen[id] = name
	}
	same := []Submission{
		{V: 1, RobotCode: "r", Keys: base.Keys, SentAt: 5, Note: "n"},
		{RobotCode: "r", Keys: base.Keys, SentAts: []int64{5, 5}},
		{RobotCode: "r", Keys: base.Keys, SentAt: 5, SentAts: []int64{0, 5}},
	}
	for _, s := range same {
		if SubmitTaskID(s, ClassDefault) != SubmitTaskID(base, ClassDefault) {
			t.Errorf("%+v has another identity", s)
		}
	}
	// Written down, because producers and workers of different versions must agree.
	if got, want := SubmitTaskID(base, ClassDefault), "submit:d7a3734924073c16252a8d13b87bd96a"; got != want {
		t.Errorf("identity %s, want %s", got, want)
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for _, c := range Classes() {
		if parsed, err := ParseClass(string(c)); err != nil || parsed != c {
			t.Errorf("class %q parses as %q, %v", c, parsed, err)
		}
		if back, ok := ClassOfQueue(c.Queue()); !ok || back != c {
			t.Errorf("queue %q is of class %q, %v", c.Queue(), back, ok)
		}
	}
	if c, err := ParseClass(""); err != nil || c != ClassDefault {
		t.Errorf("the empty class is %q, %v", c, err)
	}
	if _, err := ParseClass("Urgent"); err == nil {
		t.Error("names are case-sensitive")
	}
	if c, ok := ClassOfQueue(QueueDispatch); ok {
		t.Errorf("the dispatch queue has class %q", c)
	}
	if q := Class("x").Queue(); q != "" {
		t.Errorf("an unknown class has queue %q", q)
	}
	if n := len(Queues()); n != 5 {
		t.Errorf("%d queues", n)
	}
}
