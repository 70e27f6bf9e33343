package simulator

import (
	"testing"
	"time"
)

func TestRecallKindsSingly(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	good, expired, unknown, foreign := b.key(Good), b.key(Expired), b.key(Unknown), b.key(Foreign)
	sys, notRevoked, silent := b.key(SystemErrorAlways), b.key(NotRevoked), b.key(Silent)
	old := MakeKey(1, 1000, Good, b.clock.Now().Add(-24*time.Hour))
	young := MakeKey(1, 1001, Good, b.clock.Now().Add(-24*time.Hour+time.Second))
	got := b.recall(good, expired, unknown, foreign, sys, notRevoked, silent, old, young, "an-unmarked-key")
	want := `{"successResult":["` + good + `","` + young + `","an-unmarked-key"],"failedResult":{`
	if got.status != 200 || len(got.body) < len(want) || got.body[:len(want)] != want {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	b.wantFailed(got, map[string]string{
		expired: codeExpired, unknown: codeInvalidKey, foreign: codeForeign, sys: codeSystemError, notRevoked: codeNotRevoke, old: codeExpired,
	})
	st := b.sim.Stats()
	if st.KeysRecalled != 4 || st.Outcomes["partial"] != 1 || st.KeysFailed[codeExpired] != 2 {
		t.Errorf("stats %+v", st)
	}
}
