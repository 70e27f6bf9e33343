package config

import (
	"time"
	_ "time/tzdata" // the image has no files: the time zones are in the program
)

// checkZone accepts the names of the tz database. Local is what a machine takes it to be, and differs from worker to worker.
func checkZone(name string) string {
	if name == "" || name == "Local" {
		return "is no time zone; name one of the tz database, like Asia/Shanghai or UTC"
	}
	if _, err := time.LoadLocation(name); err != nil {
		return quote(name) + " is no time zone; name one of the tz database, like Asia/Shanghai or UTC"
	}
	return ""
}
