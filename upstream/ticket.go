package upstream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxTicketBytes bounds a suite ticket: a bigger file is some other file.
const maxTicketBytes = 4096

// TicketFile gives a function that reads the suite ticket from a file each time it is called. White space around it is not part of it.
// Whoever writes the file should write another one beside it and rename that, lest half a ticket be read.
func TicketFile(name string) func() (Secret, error) {
	return func() (Secret, error) {
		data, err := readTicket(name)
		if err != nil {
			return "", fmt.Errorf("the suite ticket file %q cannot be read: %w", name, plainReason(err))
		}
		ticket, err := ParseTicket(data)
		if err != nil {
			return "", fmt.Errorf("the suite ticket file %q %w", name, err)
		}
		return ticket, nil
	}
}

// ErrNoRegularFile is why a pipe or a device is no suite ticket file: it gives its ticket once, and holds up whoever reads it again.
var ErrNoRegularFile = errors.New("it is no regular file")

func readTicket(name string) ([]byte, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, ErrNoRegularFile
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxTicketBytes+1))
}

// ParseTicket takes the suite ticket out of what its file holds. Its error goes on where "the file" left off, and tells nothing of the ticket.
func ParseTicket(data []byte) (Secret, error) {
	ticket := strings.TrimSpace(strings.TrimPrefix(string(data), byteOrderMark))
	switch {
	case len(data) > maxTicketBytes:
		return "", fmt.Errorf("is longer than %d bytes", maxTicketBytes)
	case ticket == "":
		return "", errors.New("is empty")
	case !isTicket(ticket):
		return "", errors.New("holds more than one line, or no text")
	}
	return Secret(ticket), nil
}

// byteOrderMark is what some editors put before a text; it cannot be seen.
const byteOrderMark = "\uFEFF"

// plainReason is the reason without the name of the file, which the message has already.
func plainReason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
