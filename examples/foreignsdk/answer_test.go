package foreignsdk

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alibabacloud-go/tea/tea"

	"dingrecall/upstream"
	"dingrecall/upstream/simulator"
)

// TestSameAnswer has both clients ask for the same keys, of each kind: what they make of the simulator's answer is the same, so the
// simulator answers in a way that a client of the service can read.
func TestSameAnswer(t *testing.T) {
	var keys []string
	for i, kind := range []simulator.Kind{simulator.Good, simulator.Expired, simulator.Unknown, simulator.Foreign, simulator.SystemErrorAlways, simulator.NotRevoked, simulator.Silent} {
		keys = append(keys, simulator.MakeKey(2, uint64(i), kind, time.Now().Add(-time.Hour)))
	}
	for _, reasons := range []simulator.Reasons{simulator.ReasonCode, simulator.ReasonProse, simulator.ReasonVague} {
		t.Run(string(reasons), func(t *testing.T) {
			b := setup(t, simulator.Config{Reasons: reasons})
			ours, err := b.client.BatchRecall(t.Context(), testToken, testRobot, keys)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := b.theirRecall(testRobot, keys)
			if err != nil {
				t.Fatal(err)
			}
			failed := map[string]string{}
			for key, reason := range theirs.Body.FailedResult {
				failed[key] = tea.StringValue(reason)
			}
			if got := tea.StringSliceValue(theirs.Body.SuccessResult); !slices.Equal(ours.Recalled, got) || !maps.Equal(ours.Failed, failed) || len(got) != 1 || len(failed) != 5 {
				t.Errorf("ours %+v\ntheirs %v %v", ours, got, failed)
			}
		})
	}
}

// TestSameError has both clients meet each error that the simulator answers with a code: they read the same code, status and message.
func TestSameError(t *testing.T) {
	compared := 0
	for _, info := range simulator.Faults() {
		if unread[info.Fault] {
			continue
		}
		t.Run(string(info.Fault), func(t *testing.T) {
			b := setup(t, simulator.Config{HugeBytes: 1 << 20, SlowFor: time.Millisecond, Faults: []simulator.FaultRule{{Fault: info.Fault, Probability: 1}}})
			keys := madeKeys(2)
			_, err := b.client.BatchRecall(t.Context(), testToken, testRobot, keys)
			var ours *upstream.Error
			if !errors.As(err, &ours) || ours.Class != upstream.ClassService || ours.Code == "" {
				return // an answer, or none of the service's own
			}
			_, err = b.theirRecall(testRobot, keys)
			var theirs *tea.SDKError
			if !errors.As(err, &theirs) {
				t.Fatalf("ours: %v\ntheirs: %v", ours, err)
			}
			if ours.Code != tea.StringValue(theirs.Code) || ours.Status != tea.IntValue(theirs.StatusCode) || !strings.Contains(tea.StringValue(theirs.Message), ours.Message) {
				t.Errorf("ours %v\ntheirs %v", ours, theirs)
			}
			compared++
		})
	}
	if compared < 20 {
		t.Errorf("only %d errors were compared", compared)
	}
}

// unread are the faults that the SDK cannot be shown: it has no time limit unless it is told one, and it follows redirects, token and
// all, to hosts that a test should not ask for.
var unread = map[simulator.Fault]bool{
	simulator.FaultHang: true, simulator.FaultRedirect: true, simulator.FaultRedirectHost: true,
	simulator.FaultError200: true, // below
}

// TestTheSDKTakesThemForSuccess: with status 200 the SDK asks no further. Nothing was done in any of these, so this client must not.
func TestTheSDKTakesThemForSuccess(t *testing.T) {
	for _, fault := range []simulator.Fault{simulator.FaultIPBan200, simulator.FaultError200, simulator.FaultNoLists, simulator.FaultNullLists} {
		t.Run(string(fault), func(t *testing.T) {
			b := setup(t, simulator.Config{Faults: []simulator.FaultRule{{Fault: fault, Probability: 1}}})
			keys := madeKeys(2)
			if theirs, err := b.theirRecall(testRobot, keys); err != nil || len(theirs.Body.SuccessResult)+len(theirs.Body.FailedResult) > 0 {
				t.Errorf("the SDK no longer does: %v, %v", theirs, err)
			}
			_, err := b.client.BatchRecall(t.Context(), testToken, testRobot, keys)
			var ours *upstream.Error
			if !errors.As(err, &ours) {
				t.Fatalf("ours: %v", err)
			}
			for _, v := range ours.Verdicts(keys) {
				if v.Scope == upstream.Done {
					t.Errorf("ours: %+v", v)
				}
			}
		})
	}
}
