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
		file, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("the suite ticket file %q cannot be read: %w", name, plainReason(err))
		}
		defer file.Close()
		data, err := io.ReadAll(io.LimitReader(file, maxTicketBytes+1))
		ticket := strings.TrimSpace(string(data))
		switch {
		case err != nil:
			return "", fmt.Errorf("the suite ticket file %q cannot be read: %w", name, plainReason(err))
		case len(data) > maxTicketBytes:
			return "", fmt.Errorf("the suite ticket file %q is longer than %d bytes", name, maxTicketBytes)
		case ticket == "":
			return "", fmt.Errorf("the suite ticket file %q is empty", name)
		case !isTicket(ticket):
			return "", fmt.Errorf("the suite ticket file %q holds more than one line, or no text", name)
		}
		return Secret(ticket), nil
	}
}

// plainReason is the reason without the name of the file, which the message has already.
func plainReason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
