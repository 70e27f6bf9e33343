// Package acceptance holds the tests that run the program as its users do: the built binary, in several processes, on a
// redis-server, against a simulator in a process of its own; and what happens when one of these dies, stops, or cannot be reached.
package acceptance
