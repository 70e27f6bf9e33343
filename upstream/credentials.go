package upstream

import (
	"net/url"
	"unicode"
	"unicode/utf8"
)

// Kind is how an app gets its tokens.
type Kind string

const (
	// KindInternal is an app of the organisation's own. Asking again gives the same token, renewed (documented).
	KindInternal Kind = "internal"
	// KindThirdParty is a suite in the organisation that has authorised it. It also needs the suite ticket, which the service pushes to the
	// suite's callback about every five hours. Asking again gives a new token; whether the old one lives on is unknown.
	KindThirdParty Kind = "third-party"
	// KindUnified is either, at the endpoint that names the organisation in its path. What asking again gives is unknown.
	KindUnified Kind = "unified"
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{KindInternal, KindThirdParty, KindUnified} }

// The calls for tokens (documented). The unified one has the organisation between its two parts.
const (
	TokenPath       = "/v1.0/oauth2/accessToken"
	CorpTokenPath   = "/v1.0/oauth2/corpAccessToken"
	unifiedPathHead = "/v1.0/oauth2/"
	unifiedPathTail = "/token"
)

// Credentials are what an app gets its tokens with.
type Credentials struct {
	// Kind is empty for KindInternal.
	Kind Kind
	// AppKey is public: appKey, suiteKey or client id, by kind. It is often the robotCode.
	AppKey string
	// AppSecret belongs to AppKey. It is sent to the token endpoint and nowhere else.
	AppSecret Secret
	// CorpID is the organisation whose token it is to be. Not for KindInternal.
	CorpID string
	// Ticket gives the newest suite ticket; only for KindThirdParty. It is called for each request, since the ticket changes while the
	// program runs; see [TicketFile]. Its error must not tell the ticket.
	Ticket func() (Secret, error)
}

// sameToken says whether asking again, beside somebody who has a token, is known to harm nobody.
func (cred Credentials) sameToken() bool { return cred.Kind == KindInternal || cred.Kind == "" }

// tokenCall is the request for a token.
type tokenCall struct {
	call
	ticket string // what was sent as suite ticket
	snake  bool   // the answer is in snake case
}

// fields names what the answer should have.
func (tc *tokenCall) fields() string {
	if tc.snake {
		return "access_token and expires_in"
	}
	return "accessToken and expireIn"
}

// request makes the request. The suite ticket is read here and not kept.
func (cred Credentials) request() (*tokenCall, *Error) {
	refuse := func(code, message string) (*tokenCall, *Error) {
		return nil, &Error{Op: OpToken, Class: ClassRequest, Code: code, Message: message}
	}
	secret := cred.AppSecret.Reveal()
	if !sendable(cred.AppKey) || !sendable(secret) {
		return refuse(CodeRequestCredentials, "the app key or the app secret is missing")
	}
	if !cred.sameToken() && !sendable(cred.CorpID) {
		return refuse(CodeRequestCredentials, "the organisation (corpId) is missing")
	}
	tc := &tokenCall{call: call{op: OpToken, path: TokenPath, scrub: newScrubber(secret)}}
	switch cred.Kind {
	case KindInternal, "":
		tc.body = appendFields(nil, "appKey", cred.AppKey, "appSecret", secret)
	case KindUnified:
		tc.path = unifiedPathHead + url.PathEscape(cred.CorpID) + unifiedPathTail
		tc.body = appendFields(nil, "client_id", cred.AppKey, "client_secret", secret, "grant_type", "client_credentials")
		tc.snake = true
	case KindThirdParty:
		ticket, e := cred.readTicket()
		if e != nil {
			return nil, e
		}
		tc.path, tc.ticket = CorpTokenPath, ticket
		tc.scrub = newScrubber(secret, ticket)
		tc.body = appendFields(nil, "suiteKey", cred.AppKey, "suiteSecret", secret, "authCorpId", cred.CorpID, "suiteTicket", ticket)
	default:
		return refuse(CodeRequestCredentials, "no kind of app is called "+oneLine(string(cred.Kind), maxCodeRunes))
	}
	return tc, nil
}

func (cred Credentials) readTicket() (string, *Error) {
	e := &Error{Op: OpToken, Class: ClassRequest, Code: CodeRequestTicket, Message: "there is no suite ticket"}
	if cred.Ticket == nil {
		return "", e
	}
	ticket, err := cred.Ticket()
	if err != nil {
		e.Err = newScrubber(cred.AppSecret.Reveal(), ticket.Reveal()).cause(err)
		return "", e
	}
	if !isTicket(ticket.Reveal()) {
		return "", e
	}
	return ticket.Reveal(), nil
}

// isTicket is true for one line of text.
func isTicket(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// appendFields appends a JSON object of strings: name, value, name, value, ...
func appendFields(b []byte, fields ...string) []byte {
	for i, s := range fields {
		switch {
		case i == 0:
			b = append(b, '{')
		case i%2 == 0:
			b = append(b, ',')
		default:
			b = append(b, ':')
		}
		b = appendJSONString(b, s)
	}
	return append(b, '}')
}
