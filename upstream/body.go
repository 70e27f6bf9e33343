package upstream

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// readBody reads an answer into buffer: at most limit bytes and one more, by which the caller knows that there were too many. The bytes are
// the buffer's where they came as they are.
//
// What comes gzipped, though it was not asked for, is unpacked under the same limit. If it cannot be unpacked it is given as it came: some
// gateways leave the header on what they have unpacked themselves.
func readBody(response *http.Response, buffer *bytes.Buffer, limit int64) ([]byte, error) {
	if _, err := buffer.ReadFrom(io.LimitReader(response.Body, limit+1)); err != nil {
		return buffer.Bytes(), err
	}
	body := buffer.Bytes()
	if int64(len(body)) > limit || !isGzip(response.Header) {
		return body, nil
	}
	packed, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body, nil
	}
	unpacked, err := io.ReadAll(io.LimitReader(packed, limit+1))
	if err != nil {
		return body, nil
	}
	return unpacked, nil
}

func isGzip(header http.Header) bool {
	encoding := strings.ToLower(strings.TrimSpace(header.Get("Content-Encoding")))
	return encoding == "gzip" || encoding == "x-gzip"
}
