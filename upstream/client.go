package upstream

import "net/http"

// Client makes the calls. It is safe for concurrent use; one is enough for a process.
type Client struct {
	cfg  Config
	http *http.Client
}

// New checks cfg, after filling in its defaults, and returns a client. It makes no connection.
func New(cfg Config) (*Client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, http: &http.Client{}}, nil
}

// Close closes the idle connections. Calls in flight go on; Close may be called any number of times.
func (c *Client) Close() { c.http.CloseIdleConnections() }
