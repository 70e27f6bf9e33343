package upstream_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
)

// letters are the scopes in short. A "~" behind one says that the key is ambiguous.
var letters = map[upstream.Scope]string{
	upstream.Done: "d", upstream.KeyDead: "k", upstream.BatchKey: "b", upstream.RobotDead: "r", upstream.AppHold: "A", upstream.TokenStale: "T",
	upstream.BudgetHold: "B", upstream.Throttled: "H", upstream.Transient: "t", upstream.Unknown: "u",
}

// judged is what a fault of the simulator must come to: verdicts of three good keys and an expired one, the code of the first that
// is not done, and words of the error's text (or, without an error, of the first such verdict's message).
type judged struct {
	verdicts string
	code     string
	text     string
}

const forbidden = "Forbidden.AccessDenied."

// verdictOf has every fault. One without a row fails the test.
var verdictOf = map[simulator.Fault]judged{
	simulator.FaultInvalidToken: {"T T T T", "InvalidAuthentication", "token is stale"},
	simulator.FaultPermission:   {"A A A A", forbidden + "AccessTokenPermissionDenied", "give the app the permission qyapi_robot_sendmsg"},
	simulator.FaultIPWhitelist:  {"A A A A", forbidden + "IpNotInWhiteList", "list of server addresses"},
	simulator.FaultIPBan200:     {"H H H H", upstream.CodeIPRefused, "address is refused"},
	simulator.FaultIPBan403:     {"H H H H", upstream.CodeIPRefused, "address is refused"},
	simulator.FaultIPBanHTML:    {"H H H H", upstream.CodePage, "address may be refused"},
	simulator.FaultQPS:          {"H H H H", forbidden + "QpsLimitForAppkeyAndApi", "每秒"},
	simulator.FaultQPM:          {"H H H H", forbidden + "QpmLimitForAppkeyAndApi", "每分钟"},
	simulator.FaultAPICount:     {"B B B B", forbidden + "ApiCountLimitForOrg", "buy more"},
	simulator.FaultBusy:         {"H H H H", "system.busy", ""},
	simulator.FaultRetryAfter:   {"H H H H", "system.busy", ""},
	simulator.FaultHTML502:      {"t~ t~ t~ t~", "http.502", "502 Bad Gateway"},
	simulator.FaultHTML200:      {"H H H H", upstream.CodePage, "Sign in to the network"},
	simulator.FaultRedirect:     {"A A A A", upstream.CodeRedirect, "a redirect to another path, which is not followed"},
	simulator.FaultRedirectHost: {"A A A A", upstream.CodeRedirect, `a redirect to the host "elsewhere.invalid", which is not followed: no token goes there`},
	simulator.FaultBare401:      {"T T T T", "http.401", "an empty body"},
	simulator.FaultCut:          {"t~ t~ t~ t~", upstream.CodeCut, "EOF"},

	simulator.FaultSystemError:   {"t t t t", "system.error", ""},
	simulator.FaultInternalError: {"t t t t", "internalError", ""},
	simulator.FaultServiceBusy:   {"t t t t", "serviceBusy", ""},
	simulator.FaultTimeout504:    {"t~ t~ t~ t~", "service.timeout", ""},
	simulator.FaultBare503:       {"t~ t~ t~ t~", "http.503", "an empty body"},
	simulator.FaultError200:      {"t t t t", "system.error", "answered 200 system.error"},
	simulator.FaultRobotUnknown:  {"r r r r", "invalidParameter.robotCode", "check the robotCode"},
	simulator.FaultNotSender:     {"b b b b", "not.allowed.robotCode", "sent by another bot"},
	simulator.FaultParamInvalid:  {"b b b b", "invalidParameter.param.invalid", ""},
	simulator.FaultNoKeys:        {"b b b b", "invalidParameter.processQueryKey.missing", ""},
	simulator.FaultOverMax:       {"b b b b", "invalidParameter.processQueryKeys.overMax", ""},
	simulator.FaultKeyInvalid:    {"b b b b", "invalid.processQueryKey", ""},
	simulator.FaultKeyExpired:    {"b b b b", "robot.processQueryKey.expired", ""},
	simulator.FaultUnknownCode:   {"u u u u", "robot.recall.brandNew", "还没有人见过的错误"},
	simulator.FaultEmpty200:      {"u~ u~ u~ u~", upstream.CodeUnreadable, "an empty body"},
	simulator.FaultNoLists:       {"u~ u~ u~ u~", upstream.CodeUnreadable, "{}"},
	simulator.FaultNullLists:     {"u~ u~ u~ u~", upstream.CodeUnreadable, "null"},
	simulator.FaultHang:          {"t~ t~ t~ t~", upstream.CodeTimeout, "no full answer within"},

	simulator.FaultLostAnswer:  {"t~ t~ t~ t~", upstream.CodeCut, "EOF"},
	simulator.FaultTruncated:   {"t~ t~ t~ t~", upstream.CodeCut, "JSON that ends early"},
	simulator.FaultCutBody:     {"t~ t~ t~ t~", upstream.CodeCut, "EOF"},
	simulator.FaultHuge:        {"t~ t~ t~ t~", upstream.CodeTooLarge, "more than 4096 bytes"},
	simulator.FaultSlow:        {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultDrip:        {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultGzip:        {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultGzipRubbish: {"u~ u~ u~ u~", upstream.CodeUnreadable, `in the encoding "gzip" that cannot be unpacked`},
	simulator.FaultContentType: {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultMissingKeys: {"d t~ d t~", upstream.CodeUnmentioned, "does not mention the key"},
	simulator.FaultBothLists:   {"t~ d d k", upstream.CodeContradictory, "as recalled and as failed"},
	simulator.FaultForeignKeys: {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultRepeatedKey: {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultEmptyLists:  {"t~ t~ t~ t~", upstream.CodeUnmentioned, "does not mention the key"},
	simulator.FaultFailedList:  {"d d d k", "robot.processQueryKey.expired", ""},
	simulator.FaultNested:      {"d d d k", "robot.processQueryKey.expired", `"message":"撤回失败"`},

	simulator.FaultUnknownReason:   {"u d d k", "robot.recall.brandNew", ""},
	simulator.FaultRobotReason:     {"k k k k", "invalidParameter.robotCode", ""},
	simulator.FaultSystemReason:    {"t t t t", "system.error", "answered 200 system.error"},
	simulator.FaultQPSReason:       {"H H H H", forbidden + "QpsLimitForAppkeyAndApi", "answered 200 Forbidden"},
	simulator.FaultNotRevokeReason: {"t~ d d k", "notRevoke.all.messages", ""},
	simulator.FaultNotRevoke:       {"t~ t~ t~ t~", "notRevoke.all.messages", "消息未全部撤回"},
	simulator.FaultNotRevokeLists:  {"t~ d d k", "notRevoke.all.messages", ""},
}

// faulty is a simulator with one fault, and a client for it.
func faulty(t *testing.T, fault simulator.Fault, api simulator.API, slow time.Duration) *upstream.Client {
	t.Helper()
	sim, err := simulator.New(simulator.Config{
		AnyToken: true, HugeBytes: 1 << 20, SlowFor: slow, Faults: []simulator.FaultRule{{Fault: fault, API: api, Probability: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := sim.Listen("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if st := sim.Stats(); st.RedirectsFollowed > 0 || st.Faults[string(fault)] != 1 {
			t.Errorf("%d redirects followed; the fault struck %d times", st.RedirectsFollowed, st.Faults[string(fault)])
		}
		_ = server.Close()
	})
	timeout := 10 * time.Second
	if fault == simulator.FaultHang || slow > timeout {
		timeout = 2 * time.Second // long enough for a busy machine to make the call
	}
	client, err := upstream.New(upstream.Config{BaseURL: server.BaseURL(), MaxResponseBytes: 4096, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// walk makes one recall of three good keys and an expired one, and gives what was made of it.
func walk(t *testing.T, client *upstream.Client) (verdicts []upstream.Verdict, e *upstream.Error) {
	t.Helper()
	var keys []string
	for i := range 4 {
		kind := simulator.Good
		if i == 3 {
			kind = simulator.Expired
		}
		keys = append(keys, simulator.MakeKey(7, uint64(i), kind, time.Now().Add(-time.Hour)))
	}
	answer, err := client.BatchRecall(t.Context(), "a-token", "dingrobot", keys)
	if errors.As(err, &e) {
		return e.Verdicts(keys), e
	}
	if err != nil {
		t.Fatalf("an error of another kind: %v", err)
	}
	if e := answer.AsError(); e != nil {
		return slices.Repeat([]upstream.Verdict{e.Verdict(len(keys))}, len(keys)), e
	}
	return answer.Verdicts(keys), nil
}

// TestEveryFaultIsJudged walks from the simulator's fault through the client to the verdict of each key.
func TestEveryFaultIsJudged(t *testing.T) {
	t.Parallel()
	for _, info := range simulator.Faults() {
		t.Run(string(info.Fault), func(t *testing.T) {
			t.Parallel()
			want, ok := verdictOf[info.Fault]
			if !ok {
				t.Fatalf("the fault %q has no expected verdict: give it a row", info.Fault)
			}
			verdicts, e := walk(t, faulty(t, info.Fault, simulator.APIRecall, 20*time.Millisecond))
			compare(t, verdicts, e, want)
		})
	}
	if len(verdictOf) != len(simulator.Faults()) {
		t.Errorf("%d rows for %d faults", len(verdictOf), len(simulator.Faults()))
	}
}

func compare(t *testing.T, verdicts []upstream.Verdict, e *upstream.Error, want judged) {
	t.Helper()
	var got []string
	var first *upstream.Verdict
	for i, v := range verdicts {
		letter := letters[v.Scope]
		if v.Ambiguous {
			letter += "~"
		}
		got = append(got, letter)
		if first == nil && v.Scope != upstream.Done {
			first = &verdicts[i]
		}
	}
	if strings.Join(got, " ") != want.verdicts {
		t.Errorf("verdicts %q, want %q (%v)", strings.Join(got, " "), want.verdicts, e)
	}
	if first == nil || first.Code != want.code || first.Message == "" {
		t.Fatalf("first verdict that is not done: %+v, want code %s and a message", first, want.code)
	}
	text := first.Message
	if e != nil {
		text = e.Error()
	}
	if !strings.Contains(text, want.text) {
		t.Errorf("%q says nothing of %q", text, want.text)
	}
}

// TestAnswersThatNeverEnd: a slow answer is waited for no longer than the call may take.
func TestAnswersThatNeverEnd(t *testing.T) {
	t.Parallel()
	for _, fault := range []simulator.Fault{simulator.FaultSlow, simulator.FaultDrip} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			verdicts, e := walk(t, faulty(t, fault, simulator.APIRecall, time.Hour))
			compare(t, verdicts, e, judged{"t~ t~ t~ t~", upstream.CodeTimeout, "no full answer within 2s"})
			if !errors.Is(e, context.DeadlineExceeded) {
				t.Errorf("%v is no context.DeadlineExceeded", e)
			}
		})
	}
}

// tokenVerdictOf has every fault that can strike a call for a token: its scope, or Done where the token is good all the same. Who gets no
// token has no keys to blame, so the scopes are few.
var tokenVerdictOf = map[simulator.Fault]upstream.Scope{
	simulator.FaultInvalidToken: upstream.AppHold, simulator.FaultPermission: upstream.AppHold, simulator.FaultIPWhitelist: upstream.AppHold,
	simulator.FaultIPBan200: upstream.Throttled, simulator.FaultIPBan403: upstream.Throttled, simulator.FaultIPBanHTML: upstream.Throttled,
	simulator.FaultQPS: upstream.Throttled, simulator.FaultQPM: upstream.Throttled, simulator.FaultAPICount: upstream.BudgetHold,
	simulator.FaultBusy: upstream.Throttled, simulator.FaultRetryAfter: upstream.Throttled,
	simulator.FaultHTML502: upstream.Transient, simulator.FaultHTML200: upstream.Throttled,
	simulator.FaultRedirect: upstream.AppHold, simulator.FaultRedirectHost: upstream.AppHold, simulator.FaultBare401: upstream.AppHold,
	simulator.FaultCut: upstream.Transient,

	simulator.FaultSystemError: upstream.Transient, simulator.FaultInternalError: upstream.Transient, simulator.FaultServiceBusy: upstream.Transient,
	simulator.FaultTimeout504: upstream.Transient, simulator.FaultBare503: upstream.Transient, simulator.FaultError200: upstream.Transient,
	simulator.FaultRobotUnknown: upstream.AppHold, simulator.FaultNotSender: upstream.AppHold, simulator.FaultParamInvalid: upstream.AppHold,
	simulator.FaultNoKeys: upstream.AppHold, simulator.FaultOverMax: upstream.AppHold, simulator.FaultKeyInvalid: upstream.AppHold,
	simulator.FaultKeyExpired: upstream.AppHold, simulator.FaultUnknownCode: upstream.AppHold,
	simulator.FaultEmpty200: upstream.AppHold, simulator.FaultNoLists: upstream.AppHold, simulator.FaultNullLists: upstream.AppHold,
	simulator.FaultHang: upstream.Transient,

	simulator.FaultLostAnswer: upstream.Transient, simulator.FaultTruncated: upstream.Transient, simulator.FaultCutBody: upstream.Transient,
	simulator.FaultHuge: upstream.Transient, simulator.FaultSlow: upstream.Done, simulator.FaultDrip: upstream.Done,
	simulator.FaultGzip: upstream.Done, simulator.FaultGzipRubbish: upstream.AppHold, simulator.FaultContentType: upstream.Done,
}

func TestEveryFaultOfATokenCallIsJudged(t *testing.T) {
	t.Parallel()
	rows := 0
	for _, info := range simulator.Faults() {
		if (simulator.FaultRule{Fault: info.Fault, API: simulator.APIToken, Probability: 1}).Validate() != nil {
			continue // only recalls have lists
		}
		rows++
		t.Run(string(info.Fault), func(t *testing.T) {
			t.Parallel()
			want, ok := tokenVerdictOf[info.Fault]
			if !ok {
				t.Fatalf("the fault %q has no expected verdict: give it a row", info.Fault)
			}
			client := faulty(t, info.Fault, simulator.APIToken, 20*time.Millisecond)
			token, err := client.FetchToken(t.Context(), upstream.Credentials{AppKey: "dingapp", AppSecret: "a-very-secret-secret"})
			var e *upstream.Error
			switch {
			case errors.As(err, &e):
				v := e.Verdict(0)
				if v.Scope != want || v.Code == "" || v.Message == "" {
					t.Errorf("%+v of %v, want %v", v, err, want)
				}
				if v.Scope == upstream.AppHold && v.Hint == "" {
					t.Errorf("%v holds the app, and says nothing of what to do", err)
				}
			case err != nil || want != upstream.Done || token.Value.Reveal() == "":
				t.Errorf("token %v, %v, want %v", token, err, want)
			}
		})
	}
	if rows != len(tokenVerdictOf) {
		t.Errorf("%d rows for %d faults", len(tokenVerdictOf), rows)
	}
}
