// Command recall recalls the messages of DingTalk robots, in bulk, before their windows close.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"dingrecall/cmd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the program to finish what is in flight; from then on a second one has its usual effect and kills.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, cli.FromOS()))
}
