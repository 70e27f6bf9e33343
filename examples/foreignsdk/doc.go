// Package foreignsdk checks the client and the simulator against a client that was written by somebody else: the service's official Go
// SDK. Each call is made by both clients to the same simulator, and what they put on the wire is compared, field by field; so is
// what each makes of the simulator's answers.
//
// It is a module of its own, so that the SDK and what it needs stay out of the program. It has tests only.
//
// The SDK races with itself where a client is shared, so each call gets a new one.
package foreignsdk
