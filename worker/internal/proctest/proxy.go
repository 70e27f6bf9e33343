package proctest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between clients and Redis, and misbehaves when told.
type Proxy struct {
	target   string
	listener net.Listener

	mu      sync.Mutex
	closed  bool              // guarded by mu, like all below
	conns   map[net.Conn]bool // of both sides
	manner  Manner
	chance  *rand.Rand
	running sync.WaitGroup
}

// Manner is how a proxy behaves. The zero value passes everything on.
type Manner struct {
	Deaf  bool          // replies are swallowed: what is asked of Redis is done, and nobody hears of it
	Delay time.Duration // by which every reply comes late
	// Torn is the share of replies that end half-way, with their connection.
	Torn float64
	// Unacknowledged is the share of the queue's acknowledgements (and only of those) that fail, with their connection: every other one is
	// done all the same.
	Unacknowledged float64
}

// NewProxy starts a proxy in front of a target, which ends with the test. The seed decides which replies suffer.
func NewProxy(t testing.TB, target string, seed uint64) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: listener, conns: map[net.Conn]bool{}, chance: rand.New(rand.NewPCG(seed, 1))}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Behave changes how the proxy behaves from now on.
func (p *Proxy) Behave(m Manner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.manner = m
}

// Cut cuts every connection there is; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // the proxy is being closed
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close() // as a Redis that is not there
			continue
		}
		if !p.keep(client, server) {
			return
		}
		p.running.Go(func() { p.requests(server, client) })
		p.running.Go(func() { p.replies(client, server) })
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			_ = c.Close()
		} else {
			p.conns[c] = true
		}
	}
	return !p.closed
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
		_ = c.Close()
	}
}

// strikes says whether something of a share happens now.
func (p *Proxy) strikes(share func(Manner) float64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := share(p.manner)
	return s > 0 && p.chance.Float64() < s
}

// acknowledgement is in every request by which asynq ends a task or puts it off, and in no other.
var acknowledgement = []byte(":processed:")

// requests passes on what the client asks, until either side ends; then both do.
func (p *Proxy) requests(server, client net.Conn) {
	defer p.drop(server, client)
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		lost := n > 0 && bytes.Contains(buf[:n], acknowledgement) && p.strikes(func(m Manner) float64 { return m.Unacknowledged })
		if lost && p.strikes(func(Manner) float64 { return 0.5 }) {
			return
		}
		if n > 0 {
			if _, werr := server.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil || lost {
			return
		}
	}
}

// reply is what came in one piece, and when.
type reply struct {
	data []byte
	at   time.Time
}

// replies passes on what the server answers, until either side ends; then both do.
func (p *Proxy) replies(client, server net.Conn) {
	late := make(chan reply, 1024) // what a delay holds back
	p.running.Go(func() {
		defer p.drop(client, server)
		for r := range late {
			if !p.deliver(client, r) {
				p.drop(client, server)
				for range late { // the reader must not be stuck
				}
			}
		}
	})
	defer close(late)
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 {
			late <- reply{bytes.Clone(buf[:n]), time.Now()}
		}
		if err != nil {
			return
		}
	}
}

// deliver hands a reply to the client in the manner of the moment. False: the connection ends with it.
func (p *Proxy) deliver(client net.Conn, r reply) bool {
	p.mu.Lock()
	m := p.manner
	p.mu.Unlock()
	if m.Deaf {
		return true
	}
	if wait := time.Until(r.at.Add(m.Delay)); m.Delay > 0 && wait > 0 {
		<-time.After(wait)
	}
	torn := p.strikes(func(m Manner) float64 { return m.Torn })
	if torn {
		r.data = r.data[:len(r.data)/2]
	}
	_, err := client.Write(r.data)
	return err == nil && !torn
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.running.Wait()
}
