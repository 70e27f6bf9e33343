package upstream

import "context"

// MaxKeys is the most keys that a call may carry (documented).
const MaxKeys = 20

// Answer is what the service said of each key that was asked. Every such key is in exactly one of Recalled, Failed,
// Unmentioned and Both.
type Answer struct {
	// RequestID is the header x-acs-request-id (field: present on success too).
	RequestID string `json:"requestId,omitempty"`
	// Recalled are the keys in successResult and nowhere else.
	Recalled []string `json:"recalled,omitempty"`
	// Failed has the raw reason of each key in failedResult. A reason that is no string is kept as its JSON text.
	Failed map[string]string `json:"failed,omitempty"`
	// Unmentioned are the keys of which the answer says nothing. They are not recalled as far as anybody knows.
	Unmentioned []string `json:"unmentioned,omitempty"`
	// Both are the keys in both lists: nothing is certain of them.
	Both []string `json:"both,omitempty"`
	// Foreign counts the entries that nobody asked for. They are ignored.
	Foreign int `json:"foreign,omitempty"`
}

// Verdicts judges every key of the call, in the order of keys.
func (a Answer) Verdicts(keys []string) []Verdict { return nil }

// BatchRecall recalls 1 to 20 distinct keys of one robot. The error is always an *Error.
func (c *Client) BatchRecall(ctx context.Context, token, robotCode string, keys []string) (Answer, error) {
	return Answer{}, nil
}

// Verdicts judges every key of the failed call, in the order of keys: by Partial where the error's body spoke of the key,
// else by Verdict for as many keys as it did not speak of.
func (e *Error) Verdicts(keys []string) []Verdict { return nil }
