package simulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer is what a call gets, before it is written.
type answer struct {
	status      int
	contentType string // empty: application/json
	body        []byte
	label       string            // its name among Stats.Outcomes
	told        []uint64          // hashes of the keys of which it tells the fate for ever
	header      map[string]string // more headers
}

// errorBody is the body of every refusal (field; the order too).
type errorBody struct {
	Code      string            `json:"code"`
	RequestID string            `json:"requestid"`
	Message   string            `json:"message"`
	Denied    *deniedDetail     `json:"accessdenieddetail,omitempty"`
	Success   []string          `json:"successResult,omitempty"`
	Failed    map[string]string `json:"failedResult,omitempty"`
}

// deniedDetail comes with permission errors (field).
type deniedDetail struct {
	RequiredScopes []string `json:"requiredScopes"`
}

// refuse makes the answer of an error code.
func refuse(c *call, code string) answer { return refuseWith(c, code, "", nil) }

// refuseWith is refuse with more in the message, and with lists.
func refuseWith(c *call, code, more string, lists *recallBody) answer {
	say := sayings[code]
	body := errorBody{Code: code, RequestID: c.requestID(), Message: say.message + more}
	if code == codePermission {
		body.Denied = &deniedDetail{RequiredScopes: []string{scopeSendMessages}}
	}
	if lists != nil {
		body.Success, body.Failed = lists.Success, lists.Failed
	}
	return answer{status: say.status, body: encode(body), label: code}
}

func throttled(code string) bool {
	return strings.Contains(code, ".QpsLimit") || strings.Contains(code, ".QpmLimit")
}

// encode writes JSON as the service does: without escaping characters that matter to HTML only.
func encode(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("simulator: a body that cannot be encoded: " + err.Error()) // strings, lists and maps of strings only
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// requestID looks as real ones do: a UUID in capitals (field).
func (c *call) requestID() string {
	a, b := mix(c.rnd^saltRequestID), mix(c.rnd^saltRequestID^c.n<<32)
	return fmt.Sprintf("%08X-%04X-7%03X-%04X-%012X", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

// deliver writes an answer, or fails to, as the fault wants. The call is over before its last byte is written: a client that has an answer
// may ask again at once, and that is no overlap.
func (s *Simulator) deliver(w http.ResponseWriter, c *call, a answer, fault Fault) {
	h := w.Header()
	h.Set("x-acs-request-id", c.requestID()) // both headers come on success too (field)
	h.Set("x-acs-trace-id", fmt.Sprintf("%016x%016x", mix(c.rnd^saltTraceID), mix(c.rnd^saltTraceID^c.n)))
	h.Set("Content-Type", "application/json")
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	for name, value := range a.header {
		h.Set(name, value)
	}
	switch fault {
	case FaultCut, FaultLostAnswer:
		s.abort(c, a)
	case FaultHang:
		<-c.r.Context().Done()
		s.abort(c, a)
	case FaultTruncated:
		a.body = a.body[:len(a.body)/2]
		s.finish(c, a, false)
	case FaultContentType:
		h.Set("Content-Type", htmlType)
		s.finish(c, a, false)
	case FaultCutBody:
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body[:len(a.body)/2]) // an error means that the client has gone, which ends it just as well
		_ = http.NewResponseController(w).Flush()
		s.abort(c, a)
	case FaultHuge:
		s.finish(c, a, false)
		w.WriteHeader(a.status)
		writePadded(w, a.body, s.cfg.HugeBytes)
		return
	case FaultSlow:
		s.trickle(w, c, a, 10)
		return
	case FaultDrip:
		s.trickle(w, c, a, len(a.body))
		return
	case FaultGzip:
		a.body = gzipped(a.body)
		h.Set("Content-Encoding", "gzip")
		s.finish(c, a, true)
	case FaultGzipRubbish:
		a.body = gzipped(a.body)
		clear(a.body[len(a.body)/2:]) // the head is good, so it only shows while it is unpacked
		h.Set("Content-Encoding", "gzip")
		s.finish(c, a, false)
	default:
		s.finish(c, a, true)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // whether the client is still there is its own affair
}

// abort ends the call and cuts the connection.
func (s *Simulator) abort(c *call, a answer) {
	s.finish(c, a, false)
	panic(http.ErrAbortHandler) // the way that net/http has for this
}

// writePadded writes a JSON object with a member more, of so many bytes.
func writePadded(w io.Writer, body []byte, size int64) {
	head, isObject := bytes.CutSuffix(body, []byte("}"))
	if !isObject {
		return
	}
	if _, err := w.Write(append(bytes.Clone(head), `,"padding":"`...)); err != nil {
		return
	}
	chunk := bytes.Repeat([]byte{'x'}, 64<<10)
	for left := size; left > 0; left -= int64(len(chunk)) {
		if _, err := w.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			return // the client has had enough
		}
	}
	_, _ = io.WriteString(w, `"}`)
}

// trickle writes the answer in so many pieces over SlowFor, until the client leaves.
func (s *Simulator) trickle(w http.ResponseWriter, c *call, a answer, pieces int) {
	pieces = max(pieces, 1)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	flusher := http.NewResponseController(w)
	for i := range pieces {
		_ = flusher.Flush() // a writer that cannot flush is a recorder, for which it makes no difference
		s.cfg.Sleep(c.r.Context(), s.cfg.SlowFor/time.Duration(pieces))
		if c.r.Context().Err() != nil {
			s.finish(c, a, false)
			return
		}
		if i == pieces-1 {
			s.finish(c, a, true)
		}
		_, _ = w.Write(a.body[len(a.body)*i/pieces : len(a.body)*(i+1)/pieces])
	}
}

func gzipped(body []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(body)
	if err = errors.Join(err, w.Close()); err != nil {
		panic("simulator: a buffer that cannot be written: " + err.Error())
	}
	return buf.Bytes()
}

// finish ends a recall in the ledger and in the counts. delivered: the whole answer is about to reach the client, if it is still there.
func (s *Simulator) finish(c *call, a answer, delivered bool) {
	if c.finished || c.api != APIRecall {
		return
	}
	c.finished = true
	gone := c.r.Context().Err() != nil
	if delivered && !gone {
		for _, h := range a.told {
			s.ledger.mark(h, flagTold)
		}
	}
	s.ledger.end(c)
	var abandoned int64
	if gone {
		abandoned = c.overlapped.Load()
	}
	s.tally.leave(c, a.label, throttled(a.label), c.recalled, abandoned)
	if s.cfg.OnRecall != nil {
		s.cfg.OnRecall(RecallSeen{At: c.at, Robot: c.req.RobotCode, Chat: c.chat, Conversation: c.req.OpenConversationID, Keys: c.req.ProcessQueryKeys, Outcome: a.label, Fault: c.fault})
	}
}

// readStatusBody is the answer of readStatus (official). Who has read the message is not simulated.
type readStatusBody struct {
	SendStatus string   `json:"sendStatus"`
	Readers    []string `json:"messageReadInfoList"`
}

// readStatus tells whether a message stands. Official: within 24 hours, SUCCESS, RECALLED or PROCESSING. Which codes a bad key gets is
// unknown; here the ones of a recall. Without a memory of keys none is ever RECALLED.
func (s *Simulator) readStatus(c *call, _ Fault) answer {
	query := c.r.URL.Query()
	robot, key := query.Get("robotCode"), query.Get("processQueryKey")
	switch {
	case robot == "":
		return refuse(c, codeParam)
	case key == "":
		return refuse(c, codeMissing)
	case !s.robotExists(robot):
		return refuse(c, codeRobot)
	}
	info, code := s.lookUp(sender{robot: robot}, key)
	if code == "" && s.closed(info.SentAt, s.cfg.Now()) {
		code = codeExpired
	}
	if code != "" {
		return refuse(c, code)
	}
	status := "SUCCESS"
	if s.ledger.recalled(s.ledger.hash(key)) {
		status = "RECALLED"
	}
	return answer{status: http.StatusOK, body: encode(readStatusBody{status, []string{}})}
}

// closed tells whether the window of a key sent then is over.
func (s *Simulator) closed(sentAt, now time.Time) bool {
	return !sentAt.IsZero() && now.Sub(sentAt) >= s.cfg.Window
}
