// Package tasks is what a producer imports to have messages recalled, and the only package that producers and workers share.
//
// It names the task types and queues, holds the payloads of the tasks and a [Client] with one call:
//
//	client := tasks.NewClient(asynq.RedisClientOpt{Addr: "127.0.0.1:6379"})
//	defer client.Close()
//	receipt, err := client.Recall(ctx, robotCode, keys, tasks.SentAt(sentAt), tasks.Incident("spring-mail"))
//
// A nil error means that every key is in Redis. After an error the same call can be made again, as often as needed: a
// submission is identified by its content, so what has already been queued is not queued twice.
//
// Payloads are JSON that a person can read in asynqmon. docs/tasks.md describes them, and the options of their tasks, for
// producers that cannot import this package.
//
// The package depends on asynq (with go-redis, which asynq brings) and on nothing else outside the standard library.
package tasks
