package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"
)

const (
	userAgent = "dingrecall"
	// tokenHeader is spelt as documented. Header names are case-insensitive, but gateways have been known to differ.
	tokenHeader     = "x-acs-dingtalk-access-token"
	requestIDHeader = "x-acs-request-id"

	// idleTimeout is shorter than that of common gateways (60 s): a POST that meets a connection which the other side is just
	// closing may not be sent again, so it costs an attempt and leaves its keys ambiguous.
	idleTimeout = 30 * time.Second
	// maxHeaderBytes bounds the headers of an answer.
	maxHeaderBytes = 64 << 10
	// maxRetryAfter bounds how long a header may make us rest.
	maxRetryAfter = time.Hour
)

// Client makes the calls. It is safe for concurrent use; one is enough for a process.
type Client struct {
	cfg       Config
	transport http.RoundTripper
	buffers   sync.Pool // of *bytes.Buffer, for answers
}

// New checks cfg, after filling in its defaults, and returns a client. It makes no connection. Proxies come from the environment
// (HTTPS_PROXY and so on).
func New(cfg Config) (*Client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	// One call a connection at a time, so HTTP/1.1: with HTTP/2 a single cut connection loses the answers of all calls on it.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: cfg.Timeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cfg.Timeout,
		MaxConnsPerHost:        cfg.MaxConns,
		MaxIdleConns:           cfg.MaxConns,
		MaxIdleConnsPerHost:    cfg.MaxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // answers are about a kilobyte; one that comes gzipped all the same is unpacked by readBody
		Protocols:              &protocols,
	}
	return over(cfg, transport), nil
}

// NewOver is New with another carrier of the calls than a network, for trials against a simulator in the same process.
func NewOver(cfg Config, carrier http.RoundTripper) (*Client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return over(cfg, carrier), nil
}

func over(cfg Config, carrier http.RoundTripper) *Client {
	return &Client{cfg: cfg, transport: carrier, buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
}

// Close closes the idle connections. Calls in flight go on; Close may be called any number of times.
func (c *Client) Close() {
	if idle, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// call is one request and what is needed to speak of its failure.
type call struct {
	op     Operation
	method string // "" is POST
	path   string // with its query
	token  string // "" for none
	body   []byte
	keys   []string // those asked for, to be found in messages and bodies
	scrub  scrubber
}

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte // belongs to the client's pool: valid until read returns
}

// post sends the call and hands a complete answer to read. It fails where no complete answer came.
func (c *Client) post(ctx context.Context, call *call, read func(reply) *Error) *Error {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()

	// Between GotConn and the end anything may have been written; before it, nothing. It runs in this goroutine, within Do. (WroteRequest
	// would be sharper, but runs elsewhere: a cancelled call could return before it, with the request on its way.)
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(limited, trace), cmp.Or(call.method, http.MethodPost), c.cfg.BaseURL+call.path, bytes.NewReader(call.body))
	if err != nil {
		return &Error{Op: call.op, Class: ClassRequest, Code: CodeRequestURL, Err: call.scrub.cause(err)}
	}
	if len(call.body) > 0 {
		request.Header["Content-Type"] = []string{"application/json"}
	}
	request.Header["Accept"] = []string{"application/json"}
	request.Header["Accept-Encoding"] = []string{"identity"} // without it any encoding would be as good
	request.Header["User-Agent"] = []string{userAgent}
	if call.token != "" {
		request.Header[tokenHeader] = []string{call.token}
	}

	// Not through an http.Client, which follows redirects: that would hand the token to whoever is named there. (One that is told not
	// to still fails on a Location that it cannot read, and then says nothing of the answer.)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return c.failure(ctx, limited, call, connected, err)
	}
	defer func() { _ = response.Body.Close() }()

	buffer := c.buffers.Get().(*bytes.Buffer)
	defer c.buffers.Put(buffer)
	buffer.Reset()
	got := reply{status: response.StatusCode, header: response.Header}
	got.body, err = readBody(response, buffer, c.cfg.MaxResponseBytes)
	switch {
	case err != nil:
		e := c.failure(ctx, limited, call, true, err)
		return got.describe(e, call)
	case int64(len(got.body)) > c.cfg.MaxResponseBytes:
		e := &Error{Op: call.op, Class: ClassTooLarge, Message: fmt.Sprintf("an answer of more than %d bytes", c.cfg.MaxResponseBytes), Lost: true}
		return got.describe(e, call)
	}
	return read(got)
}

// failure makes the Error of a call without a complete answer.
func (c *Client) failure(ctx, limited context.Context, call *call, connected bool, err error) *Error {
	e := &Error{Op: call.op, Lost: connected, Err: call.scrub.cause(err)}
	switch {
	case ctx.Err() != nil:
		e.Class = ClassCanceled
		// The caller's context knows the reason better than the transport does.
		e.Err = call.scrub.cause(ended(ctx))
	case !connected:
		e.Class = ClassNotSent
		if limited.Err() != nil {
			e.Err = call.scrub.cause(fmt.Errorf("no connection within %v: %w", c.cfg.Timeout, context.DeadlineExceeded))
		}
	case limited.Err() != nil || isTimeout(err):
		e.Class = ClassTimeout
		e.Err = call.scrub.cause(fmt.Errorf("no full answer within %v: %w", c.cfg.Timeout, context.DeadlineExceeded))
	default:
		e.Class = ClassCut
	}
	return e
}

// ended says why ctx ended, such that errors.Is finds both context's own error and the cause that was given.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// describe adds to an Error what the head of the answer says.
func (r reply) describe(e *Error, call *call) *Error {
	e.Status = r.status
	if id := r.header.Get(requestIDHeader); id != "" && e.RequestID == "" {
		e.RequestID = call.scrub.clean(id, maxCodeRunes)
	}
	e.RetryAfter = retryAfter(r.header, time.Now())
	if r.status >= 300 && r.status < 500 {
		e.Lost = false // refused, however the rest of the answer reads
	}
	return e
}

// retryAfter reads the header in both its forms: seconds, or a date, counted from the answer's own Date where it has one, since
// our clock may differ from theirs.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if value == "" {
		return 0
	}
	// What is too large to be read is given as the largest there is.
	if seconds, err := strconv.Atoi(value); err == nil || errors.Is(err, strconv.ErrRange) {
		return min(max(time.Duration(min(seconds, 1<<20))*time.Second, 0), maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
