package foreignsdk

import (
	"net/url"
	"testing"
	"time"

	"github.com/alibabacloud-go/dingtalk/oauth2_1_0"
	"github.com/alibabacloud-go/dingtalk/robot_1_0"
	"github.com/alibabacloud-go/tea/tea"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
)

// sameCall is one call as both clients make it.
type sameCall struct {
	name string
	// path is where it goes.
	path string
	// ours and theirs make it: this program's client, and the SDK.
	ours, theirs func(t *testing.T, b *bundle) error
}

// calls is every call that both clients can make. To compare another one, add its row.
var calls = []sameCall{
	recall("one key", testRobot, simulator.MakeKey(1, 1, simulator.Good, time.Time{})),
	recall("twenty keys", testRobot, madeKeys(upstream.MaxKeys)...),
	recall("characters that JSON or HTML would escape", "robot \"<&>\\é漢🙂\u2028", "a+/=", `q"b\`, "<&>", "é漢🙂", "\u2028", "\x01\t"),
	{
		name: "recall from a group", path: "/v1.0/robot/groupMessages/recall",
		ours: func(t *testing.T, b *bundle) error {
			_, err := b.client.Recall(t.Context(), testToken, upstream.Target{RobotCode: testRobot, Chat: upstream.ChatGroup, OpenConversationID: testConversation}, madeKeys(3))
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.robots().OrgGroupRecallWithOptions(
				&robot_1_0.OrgGroupRecallRequest{RobotCode: tea.String(testRobot), OpenConversationId: tea.String(testConversation), ProcessQueryKeys: tea.StringSlice(madeKeys(3))},
				&robot_1_0.OrgGroupRecallHeaders{XAcsDingtalkAccessToken: tea.String(testToken)}, noOptions())
			return err
		},
	},
	{
		name: "recall from a private chat", path: "/v1.0/robot/privateChatMessages/batchRecall",
		ours: func(t *testing.T, b *bundle) error {
			_, err := b.client.Recall(t.Context(), testToken, upstream.Target{RobotCode: testRobot, Chat: upstream.ChatPrivate, OpenConversationID: testConversation}, madeKeys(3))
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.robots().BatchRecallPrivateChatWithOptions(
				&robot_1_0.BatchRecallPrivateChatRequest{RobotCode: tea.String(testRobot), OpenConversationId: tea.String(testConversation), ProcessQueryKeys: tea.StringSlice(madeKeys(3))},
				&robot_1_0.BatchRecallPrivateChatHeaders{XAcsDingtalkAccessToken: tea.String(testToken)}, noOptions())
			return err
		},
	},
	{
		name: "what became of a message", path: "/v1.0/robot/oToMessages/readStatus",
		ours: func(t *testing.T, b *bundle) error {
			_, err := b.client.ReadStatus(t.Context(), testToken, testRobot, madeKeys(1)[0])
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.robots().BatchOTOQueryWithOptions(
				&robot_1_0.BatchOTOQueryRequest{RobotCode: tea.String(testRobot), ProcessQueryKey: tea.String(madeKeys(1)[0])},
				&robot_1_0.BatchOTOQueryHeaders{XAcsDingtalkAccessToken: tea.String(testToken)}, noOptions())
			return err
		},
	},
	{
		name: "token of an internal app", path: "/v1.0/oauth2/accessToken",
		ours: func(t *testing.T, b *bundle) error {
			_, err := b.client.FetchToken(t.Context(), upstream.Credentials{AppKey: testRobot, AppSecret: testSecret})
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.oauth().GetAccessToken(&oauth2_1_0.GetAccessTokenRequest{AppKey: tea.String(testRobot), AppSecret: tea.String(testSecret)})
			return err
		},
	},
	{
		name: "token of a third-party app", path: "/v1.0/oauth2/corpAccessToken",
		ours: func(t *testing.T, b *bundle) error {
			ticket := func() (upstream.Secret, error) { return testTicket, nil }
			_, err := b.client.FetchToken(t.Context(), upstream.Credentials{
				Kind: upstream.KindThirdParty, AppKey: testRobot, AppSecret: testSecret, CorpID: testCorp, Ticket: ticket,
			})
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.oauth().GetCorpAccessToken(&oauth2_1_0.GetCorpAccessTokenRequest{
				SuiteKey: tea.String(testRobot), SuiteSecret: tea.String(testSecret), AuthCorpId: tea.String(testCorp), SuiteTicket: tea.String(testTicket),
			})
			return err
		},
	},
	{
		name: "token of either, unified", path: "/v1.0/oauth2/" + testCorp + "/token",
		ours: func(t *testing.T, b *bundle) error {
			_, err := b.client.FetchToken(t.Context(), upstream.Credentials{Kind: upstream.KindUnified, AppKey: testRobot, AppSecret: testSecret, CorpID: testCorp})
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.oauth().GetToken(tea.String(testCorp), &oauth2_1_0.GetTokenRequest{
				ClientId: tea.String(testRobot), ClientSecret: tea.String(testSecret), GrantType: tea.String("client_credentials"),
			})
			return err
		},
	},
}

func recall(name, robot string, keys ...string) sameCall {
	return sameCall{
		name: "recall: " + name, path: "/v1.0/robot/otoMessages/batchRecall",
		ours: func(t *testing.T, b *bundle) error {
			_, err := b.client.BatchRecall(t.Context(), testToken, robot, keys)
			return err
		},
		theirs: func(_ *testing.T, b *bundle) error {
			_, err := b.theirRecall(robot, keys)
			return err
		},
	}
}

func (b *bundle) theirRecall(robot string, keys []string) (*robot_1_0.BatchRecallOTOResponse, error) {
	return b.robots().BatchRecallOTOWithOptions(
		&robot_1_0.BatchRecallOTORequest{RobotCode: tea.String(robot), ProcessQueryKeys: tea.StringSlice(keys)},
		&robot_1_0.BatchRecallOTOHeaders{XAcsDingtalkAccessToken: tea.String(testToken)}, noOptions())
}

func madeKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = simulator.MakeKey(1, uint64(i), simulator.Good, time.Time{})
	}
	return keys
}

// TestSameCallOnTheWire makes each call with both clients: the requests may differ in what is allowed, and in nothing else.
func TestSameCallOnTheWire(t *testing.T) {
	shown := map[difference]bool{}
	for _, call := range calls {
		t.Run(call.name, func(t *testing.T) {
			b := setup(t, simulator.Config{})
			made := func(who string, f func(*testing.T, *bundle) error) request {
				return b.sent(func() {
					if err := f(t, b); err != nil {
						t.Errorf("%s: the simulator refuses it: %v", who, err)
					}
				})
			}
			theirs := made("theirs", call.theirs)
			if theirs.path != call.path {
				t.Errorf("their call goes to %s, and %s was meant", theirs.path, call.path)
			}
			ours := made("ours", call.ours)
			for _, d := range compare(ours, theirs) {
				if allowed[d] == "" {
					t.Errorf("%v", d)
				}
				shown[d] = true
			}
		})
	}
	for d := range allowed {
		if !shown[d] && !t.Failed() {
			t.Errorf("no call differs any more in %v", d)
		}
	}
}

// TestComparisonCanFail spoils one field at a time.
func TestComparisonCanFail(t *testing.T) {
	b := setup(t, simulator.Config{})
	call := recall("", testRobot, madeKeys(2)...)
	good := b.sent(func() { _ = call.ours(t, b) })
	if diffs := compare(good, good); len(diffs) > 0 {
		t.Errorf("a request differs from itself: %v", diffs)
	}
	for field, spoil := range map[string]func(*request){
		"method":              func(r *request) { r.method = "PUT" },
		"path":                func(r *request) { r.path = "/v1.0/robot/oToMessages/batchRecall" },
		"query":               func(r *request) { r.query = url.Values{"a": {"b"}} },
		"header Content-Type": func(r *request) { r.header.Set("Content-Type", "text/plain") },
		"header X-Acs-Dingtalk-Access-Token": func(r *request) {
			r.header.Set("x-acs-dingtalk-access-token", `"`+testToken+`"`)
		},
		"header X-More": func(r *request) { r.header.Set("X-More", "1") },
		"header Accept": func(r *request) { r.header.Del("Accept") },
		"body.robotCode": func(r *request) {
			r.body = []byte(`{"robotCode":"x",` + string(r.body[len(`{"robotCode":"`)+len(testRobot)+2:]))
		},
		"body.processQueryKeys": func(r *request) { r.body = []byte(`{"robotCode":"` + testRobot + `"}`) },
		"body.more":             func(r *request) { r.body = append([]byte(`{"more":null,`), r.body[1:]...) },
		"body":                  func(r *request) { r.body = []byte("robotCode=x") },
	} {
		bad := good
		bad.header = good.header.Clone()
		spoil(&bad)
		if diffs := compare(good, bad); len(diffs) != 1 || diffs[0].field != field {
			t.Errorf("%s was spoilt, and the comparison says %v", field, diffs)
		}
	}
}
