package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"dingrecall/tasks"
)

// startRedis stands for the Redis that producers and workers share.
func startRedis() (addr string, stop func()) {
	mr, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	return mr.Addr(), mr.Close
}

func ExampleClient_Recall() {
	addr, stop := startRedis()
	defer stop()

	client := tasks.NewClient(asynq.RedisClientOpt{Addr: addr})
	defer client.Close()

	keys := []string{
		"Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q=",
		"b0XqfM6a+Vh4pXc/2mJq1rT9uYd3sKwLz8eNfGhIjkA=",
		"Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q=", // again: folded
	}
	sentAt := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for range 2 { // the same call twice is one
		receipt, err := client.Recall(context.Background(), "dingue4kfzdxbyn0pjqd", keys,
			tasks.SentAt(sentAt),
			tasks.Incident("spring-mail"),
			tasks.WithClass(tasks.ClassUrgent),
			tasks.Note("wrong link"),
		)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d keys, %d duplicate, %d submission, %d already queued\n",
			receipt.Keys, receipt.Duplicates, receipt.Submissions, receipt.AlreadyQueued)
	}
	// Output:
	// 2 keys, 1 duplicate, 1 submission, 0 already queued
	// 2 keys, 1 duplicate, 1 submission, 1 already queued
}

// After a failure half-way the error says which keys are in, and the same call can be made again.
func ExampleClient_Recall_partial() {
	addr, stop := startRedis()
	defer stop()

	client := tasks.NewClient(asynq.RedisClientOpt{Addr: addr})
	defer client.Close()

	ctx, cancel := context.WithCancel(context.Background())
	cancel() // somebody pressed Ctrl-C

	_, err := client.Recall(ctx, "dingue4kfzdxbyn0pjqd", []string{"key1", "key2"})
	var partial *tasks.PartialError
	if errors.As(err, &partial) {
		fmt.Println(len(partial.Submitted), "in,", len(partial.Remaining), "not; cancelled:", errors.Is(err, context.Canceled))
	}
	// Output: 0 in, 2 not; cancelled: true
}

// What is wrong with a call is told before anything is queued.
func ExampleValidationError() {
	client := tasks.NewClient(asynq.RedisClientOpt{Addr: "127.0.0.1:6379"})
	defer client.Close()

	_, err := client.Recall(context.Background(), "dingue4kfzdxbyn0pjqd", []string{"key1", "", "key\n3"})
	fmt.Println(err)
	// Output: nothing was queued: key 1 "": is empty; key 2 "key\n3": contains a control character
}

// A producer that does not import this package needs asynq only. This is the example of docs/tasks.md.
func Example_byHand() {
	redisAddr, stop := startRedis()
	defer stop()

	enqueue := func() error {
		client := asynq.NewClient(asynq.RedisClientOpt{Addr: redisAddr})
		defer client.Close()

		payload := []byte(`{"robotCode":"dingue4kfzdxbyn0pjqd","keys":["Kna29Ra5pdJznx1ghavbumkQKwDzgfxZLapw55G7x0Q="],"sentAt":1795168800000}`)
		_, err := client.Enqueue(
			asynq.NewTask("recall:submit", payload),
			asynq.Queue("recall"),
			asynq.TaskID("mail-2026-11-20-part-1"),
			asynq.MaxRetry(math.MaxInt32),
			asynq.Timeout(5*time.Minute),
		)
		if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
			return err // try again: nothing is queued twice
		}
		return nil
	}
	fmt.Println(enqueue(), enqueue())

	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: redisAddr})
	defer inspector.Close()
	info, err := inspector.GetTaskInfo(tasks.QueueDefault, "mail-2026-11-20-part-1")
	if err != nil {
		log.Fatal(err)
	}
	submission, problems, err := tasks.DecodeSubmission(info.Payload)
	fmt.Println(submission.RobotCode, len(submission.Keys), problems, err)
	// Output:
	// <nil> <nil>
	// dingue4kfzdxbyn0pjqd 1 [] <nil>
}
