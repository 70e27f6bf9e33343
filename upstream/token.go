package upstream

import (
	"context"
	"time"
)

// Credentials are those of an internal app.
type Credentials struct {
	AppKey    string
	AppSecret Secret
}

// Token is an access token.
type Token struct {
	Value Secret
	// ExpiresAt is counted from before the request, so never later than the service counts.
	ExpiresAt time.Time
	// RefreshAt is when to ask for the next one: 10 minutes before the end, or at half of a short life. A store that does not
	// keep it leaves it zero; it is then worked out from what is left when the token is loaded.
	RefreshAt time.Time
}

// FetchToken asks for a token of an internal app. The error is always an *Error.
func (c *Client) FetchToken(ctx context.Context, cred Credentials) (Token, error) {
	return Token{}, nil
}
