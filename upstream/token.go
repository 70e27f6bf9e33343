package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// TokenPath is the call for the token of an internal app (documented).
const TokenPath = "/v1.0/oauth2/accessToken"

const (
	// refreshEarly is how long before its end a token is replaced (documented advice: about 10 minutes).
	refreshEarly = 10 * time.Minute
	// maxTokenLife bounds what an answer may promise; tokens live 7,200 s (documented).
	maxTokenLife = 30 * 24 * time.Hour
)

// Credentials are those of an internal app.
type Credentials struct {
	// AppKey is public: it is often the robotCode.
	AppKey string
	// AppSecret is sent to the token endpoint and nowhere else.
	AppSecret Secret
}

// Token is an access token. It prints without its value.
type Token struct {
	Value Secret
	// ExpiresAt is counted from before the request, so it is never later than the service counts.
	ExpiresAt time.Time
	// RefreshAt is when to ask for the next one: 10 minutes before the end, or at half of a short life. A store that does not
	// keep it leaves it zero; it is then worked out from what is left when the token is loaded.
	RefreshAt time.Time
}

// storedToken is the form of a Token at rest: epoch milliseconds.
type storedToken struct {
	Value     string `json:"value"`
	ExpiresAt int64  `json:"expiresAt"`
	RefreshAt int64  `json:"refreshAt,omitempty"`
}

// MarshalBinary is for stores: the whole token, with its value in clear. go-redis uses it by itself.
func (t Token) MarshalBinary() ([]byte, error) {
	stored := storedToken{Value: t.Value.Reveal(), ExpiresAt: t.ExpiresAt.UnixMilli()}
	if !t.RefreshAt.IsZero() {
		stored.RefreshAt = t.RefreshAt.UnixMilli()
	}
	return json.Marshal(stored)
}

// UnmarshalBinary reads what MarshalBinary wrote. Its error does not repeat the data.
func (t *Token) UnmarshalBinary(data []byte) error {
	var stored storedToken
	if err := json.Unmarshal(data, &stored); err != nil || !isHeaderValue(stored.Value) {
		return errors.New("the stored access token cannot be read")
	}
	*t = Token{Value: Secret(stored.Value), ExpiresAt: time.UnixMilli(stored.ExpiresAt)}
	if stored.RefreshAt != 0 {
		t.RefreshAt = time.UnixMilli(stored.RefreshAt)
	}
	return nil
}

// FetchToken asks for a token of an internal app. Asking again gives the same token, renewed (documented); asking often may be
// throttled, so share it: see [Tokens]. The error is always an [*Error].
func (c *Client) FetchToken(ctx context.Context, cred Credentials) (Token, error) {
	return c.fetchToken(ctx, cred, time.Now)
}

func (c *Client) fetchToken(ctx context.Context, cred Credentials, now func() time.Time) (Token, error) {
	secret := cred.AppSecret.Reveal()
	if !sendable(cred.AppKey) || !sendable(secret) {
		return Token{}, &Error{Op: OpToken, Class: ClassRequest, Code: CodeRequestCredentials, Message: "the app key or the app secret is missing"}
	}
	body := appendJSONString([]byte(`{"appKey":`), cred.AppKey)
	body = append(appendJSONString(append(body, `,"appSecret":`...), secret), '}')
	call := &call{op: OpToken, path: TokenPath, body: body, scrub: newScrubber(secret)}
	asked := now()
	var token Token
	e := c.post(ctx, call, func(r reply) *Error {
		var e *Error
		token, e = readToken(r, call, asked)
		return e
	})
	if e != nil {
		return Token{}, e
	}
	return token, nil
}

// readToken reads {"accessToken":"...","expireIn":7200}. A 200 without both is no token.
func readToken(r reply, call *call, asked time.Time) (Token, *Error) {
	var wire struct {
		wireHead
		AccessToken json.RawMessage `json:"accessToken"`
		ExpireIn    json.RawMessage `json:"expireIn"`
	}
	if err := json.Unmarshal(r.body, &wire); err != nil {
		// The body may hold the very token that could not be read: keep nothing of it.
		e := r.notJSON(call, err)
		if !e.HTML {
			e.Message = fmt.Sprintf("%d bytes that are no JSON object", len(r.body))
		}
		return Token{}, e
	}
	value := rawText(wire.AccessToken)
	call.scrub = append(call.scrub, newScrubber(value)...)
	seconds, err := strconv.ParseInt(rawText(wire.ExpireIn), 10, 64)
	if r.status == 200 && err == nil && seconds > 0 && isJSON(wire.AccessToken, '"') && isHeaderValue(value) {
		life := min(time.Duration(min(seconds, 1<<31))*time.Second, maxTokenLife)
		return Token{Value: Secret(value), ExpiresAt: asked.Add(life), RefreshAt: refreshAt(asked, asked.Add(life))}, nil
	}
	if len(wire.Message) == 0 {
		wire.Message = json.RawMessage(`"no usable accessToken and expireIn in the answer"`)
	}
	return Token{}, r.serviceError(call, &wire.wireHead)
}

// refreshAt is when a token that has from now until end should be replaced.
func refreshAt(now, end time.Time) time.Time {
	return end.Add(-min(refreshEarly, end.Sub(now)/2))
}
