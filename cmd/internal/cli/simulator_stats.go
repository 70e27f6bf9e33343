package cli

import (
	"fmt"

	"dingrecall/upstream/simulator"
)

// simulatorLine says in one line what a simulator was asked, so that a script can hold the program to account. Its format is
// stable: new fields go to the end.
//
// keys counts a key once for each call that carried it, repeated counts those that an earlier call had carried already or that
// stood twice in one, overlapping those that were in two calls at one moment.
func simulatorLine(s simulator.Stats) string {
	return fmt.Sprintf("simulator: calls=%d keys=%d distinct=%d repeated=%d overlapping=%d max_batch=%d max_calls_per_second=%d throttled=%d",
		s.Calls, s.KeysAsked, s.KeysDistinct, s.KeysAskedAgain+s.KeysRepeated, s.Overlaps, s.MaxKeysInCall, s.MaxCallsPerSecond, s.Throttled)
}
