package clients

import (
	"errors"
	"strconv"
	"time"

	"github.com/xhit/go-str2duration/v2"
)

// maxTTL bounds a client's durations, so that no date computed with one leaves the calendar.
const maxTTL = 100 * 365 * 24 * time.Hour

var errTTL = errors.New("must be a duration such as 15m, 12h or 30d: whole seconds, at least one")

func validTTL(d time.Duration) bool { return d >= time.Second && d <= maxTTL && d%time.Second == 0 }

// ParseTTL reads a duration as the configuration has it: 15m, 12h, 30d. An empty text is zero, the server's own.
func ParseTTL(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := str2duration.ParseDuration(s)
	if err != nil || !validTTL(d) {
		return 0, errTTL
	}
	return d, nil
}

// FormatTTL writes a duration as one would in the configuration: in the largest unit of which it is a whole number, but a single
// day in hours. Zero is an empty text.
func FormatTTL(d time.Duration) string {
	if d == 0 {
		return ""
	}
	for _, unit := range []struct {
		size, least time.Duration
		name        string
	}{{24 * time.Hour, 48 * time.Hour, "d"}, {time.Hour, time.Hour, "h"}, {time.Minute, time.Minute, "m"}} {
		if d >= unit.least && d%unit.size == 0 {
			return strconv.FormatInt(int64(d/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// ParseMaxAge reads a default_max_age as people write it: a duration, or a number of seconds. An empty text is none.
func ParseMaxAge(s string) (*time.Duration, error) {
	if s == "" {
		return nil, nil
	}
	if _, err := strconv.ParseUint(s, 10, 64); err == nil {
		s += "s"
	}
	d, err := str2duration.ParseDuration(s)
	if err != nil || !validMaxAge(d) {
		return nil, errMaxAge
	}
	return &d, nil
}

// FormatMaxAge writes what ParseMaxAge reads.
func FormatMaxAge(d *time.Duration) string {
	switch {
	case d == nil:
		return ""
	case *d == 0:
		return "0s"
	}
	return FormatTTL(*d)
}

var errMaxAge = errors.New("must be a duration such as 15m or 12h, or a number of seconds")

func validMaxAge(d time.Duration) bool { return d >= 0 && d <= maxTTL && d%time.Second == 0 }
