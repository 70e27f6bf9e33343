// Package worker is the program: it takes submissions from the queue into the key store, recalls their keys in batches,
// and keeps the dead letters.
package worker
