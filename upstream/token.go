package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	// refreshEarly is how long before its end a token is replaced (documented advice: about 10 minutes).
	refreshEarly = 10 * time.Minute
	// maxTokenLife bounds what an answer may promise; tokens live 7,200 s (documented).
	maxTokenLife = 30 * 24 * time.Hour
)

// Token is an access token. It prints without its value.
type Token struct {
	Value Secret
	// ExpiresAt is counted from before the request, so it is never later than the service counts.
	ExpiresAt time.Time
	// RefreshAt is when to ask for the next one: 10 minutes before the end, or at half of a short life. A store that does not
	// keep it leaves it zero; it is then worked out from what is left when the token is loaded.
	RefreshAt time.Time
	// IssuedAt is when it came, by the clock of the process that asked, in whole milliseconds. It tells two answers apart that have the
	// same value.
	IssuedAt time.Time
	// Replaced: it took the place of one that the service had refused.
	Replaced bool
}

// storedToken is the form of a Token at rest: epoch milliseconds.
type storedToken struct {
	Value     string `json:"value"`
	ExpiresAt int64  `json:"expiresAt"`
	RefreshAt int64  `json:"refreshAt,omitempty"`
	IssuedAt  int64  `json:"issuedAt,omitempty"`
	Replaced  bool   `json:"replaced,omitempty"`
}

// MarshalBinary is for stores: the whole token, with its value in clear. go-redis uses it by itself.
func (t Token) MarshalBinary() ([]byte, error) {
	stored := storedToken{Value: t.Value.Reveal(), ExpiresAt: t.ExpiresAt.UnixMilli(), Replaced: t.Replaced}
	if !t.RefreshAt.IsZero() {
		stored.RefreshAt = t.RefreshAt.UnixMilli()
	}
	if !t.IssuedAt.IsZero() {
		stored.IssuedAt = t.IssuedAt.UnixMilli()
	}
	return json.Marshal(stored)
}

// UnmarshalBinary reads what MarshalBinary wrote. Its error does not repeat the data.
func (t *Token) UnmarshalBinary(data []byte) error {
	var stored storedToken
	if err := json.Unmarshal(data, &stored); err != nil || !isHeaderValue(stored.Value) {
		return errors.New("the stored access token cannot be read")
	}
	*t = Token{Value: Secret(stored.Value), ExpiresAt: time.UnixMilli(stored.ExpiresAt), Replaced: stored.Replaced}
	if stored.RefreshAt != 0 {
		t.RefreshAt = time.UnixMilli(stored.RefreshAt)
	}
	if stored.IssuedAt != 0 {
		t.IssuedAt = time.UnixMilli(stored.IssuedAt)
	}
	return nil
}

// FetchToken asks for a token. For an internal app, asking again gives the same token, renewed (documented); for the other kinds it may
// end a token that others use. Asking often may be throttled, so share it: see [Tokens]. The error is always an [*Error].
func (c *Client) FetchToken(ctx context.Context, cred Credentials) (Token, error) {
	return c.fetchToken(ctx, cred, time.Now)
}

func (c *Client) fetchToken(ctx context.Context, cred Credentials, now func() time.Time) (Token, error) {
	token, ticket, e := c.askToken(ctx, cred, now)
	if e != nil && ticket != "" && fold(e.Code) == foldedTicketCode {
		// The ticket may have changed between its reading and the request, or have been read while it was being written. An unchanged one
		// would be refused again.
		if newer, unread := cred.readTicket(); unread == nil && newer != ticket {
			token, _, e = c.askToken(ctx, cred, now)
		}
	}
	if e != nil { // a nil *Error must not become a non-nil error
		return Token{}, e
	}
	return token, nil
}

// askToken makes one request, and returns with its outcome the suite ticket that it carried.
func (c *Client) askToken(ctx context.Context, cred Credentials, now func() time.Time) (token Token, ticket string, e *Error) {
	tc, e := cred.request()
	if e != nil {
		return Token{}, "", e
	}
	asked := now()
	e = c.post(ctx, &tc.call, func(r reply) *Error {
		var e *Error
		token, e = readToken(r, tc, asked, now())
		return e
	})
	return token, tc.ticket, e
}

// foldedTicketCode is the refusal of a suite ticket.
var foldedTicketCode = fold("invalidSuiteTicket")

// readToken reads {"accessToken":"...","expireIn":7200}, or the same in snake case. A 200 without both is no token.
func readToken(r reply, tc *tokenCall, asked, came time.Time) (Token, *Error) {
	var wire struct {
		wireHead
		AccessToken json.RawMessage `json:"accessToken"`
		ExpireIn    json.RawMessage `json:"expireIn"`
		SnakeToken  json.RawMessage `json:"access_token"`
		SnakeLife   json.RawMessage `json:"expires_in"`
	}
	if err := json.Unmarshal(r.body, &wire); err != nil {
		// The body may hold the very token that could not be read: keep nothing of it.
		e := r.notJSON(&tc.call, err)
		if !e.HTML && e.Class != ClassRedirect {
			e.Message = fmt.Sprintf("%d bytes that are no JSON object", len(r.body))
		}
		return Token{}, e
	}
	rawValue, rawLife := wire.AccessToken, wire.ExpireIn
	if tc.snake {
		rawValue, rawLife = wire.SnakeToken, wire.SnakeLife
	}
	value := rawText(rawValue)
	tc.scrub = append(tc.scrub, newScrubber(rawText(wire.AccessToken), rawText(wire.SnakeToken))...)
	seconds, err := strconv.ParseInt(rawText(rawLife), 10, 64)
	if r.status == 200 && err == nil && seconds > 0 && isJSON(rawValue, '"') && isHeaderValue(value) {
		end := asked.Add(min(time.Duration(min(seconds, 1<<31))*time.Second, maxTokenLife))
		return Token{Value: Secret(value), ExpiresAt: end, RefreshAt: refreshAt(asked, end), IssuedAt: came.Truncate(time.Millisecond)}, nil
	}
	if len(wire.Message) == 0 {
		wire.Message = json.RawMessage(`"no usable ` + tc.fields() + ` in the answer"`)
	}
	return Token{}, r.serviceError(&tc.call, &wire.wireHead)
}

// refreshAt is when a token that has from now until end should be replaced.
func refreshAt(now, end time.Time) time.Time {
	return end.Add(-min(refreshEarly, end.Sub(now)/2))
}
