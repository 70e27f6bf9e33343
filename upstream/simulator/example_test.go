package simulator_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"dingrecall/upstream/simulator"
)

// A service that lets an app make 20 calls a second and loses the answer of the third.
func Example() {
	sim, err := simulator.New(simulator.Config{
		Rate:   20,
		Faults: []simulator.FaultRule{{Fault: simulator.FaultLostAnswer, From: 3, To: 3}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := sim.Listen("") // a free port of 127.0.0.1
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = srv.Close() }()

	resp, err := http.Post(srv.BaseURL()+"/v1.0/oauth2/accessToken", "application/json", strings.NewReader(`{"appKey":"any","appSecret":"any"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resp.StatusCode, strings.Contains(string(body), `"expireIn":7200`), sim.Stats().TokenCalls)
	// Output: 200 true 1
}

// A key that says of itself that it has expired.
func ExampleMakeKey() {
	key := simulator.MakeKey(1, 2, simulator.Expired, time.Date(2026, 7, 21, 9, 30, 0, 0, time.UTC))
	kind, sentAt, ok := simulator.ReadKey(key)
	fmt.Println(len(key), kind, sentAt.UTC().Format(time.RFC3339), ok)
	// Output: 44 expired 2026-07-21T09:30:00Z true
}
