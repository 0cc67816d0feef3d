package audit

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// No event that was recorded since then is older than the first id, and none that is much older is younger.
func TestFirstID(t *testing.T) {
	t.Parallel()
	if id := (Filter{}).FirstID(); id != "" {
		t.Errorf("without a time: %s", id)
	}
	for _, since := range []time.Duration{time.Second, 30 * 24 * time.Hour, 200 * 365 * 24 * time.Hour} {
		first := Filter{Since: since}.FirstID()
		parsed, err := uuid.Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-since - idSkew)
		got := time.UnixMilli(int64(parsed[0])<<40 | int64(parsed[1])<<32 | int64(parsed[2])<<24 | int64(parsed[3])<<16 | int64(parsed[4])<<8 | int64(parsed[5]))
		if at.Before(time.UnixMilli(0)) {
			at = time.UnixMilli(0)
		}
		if off := got.Sub(at).Abs(); off > time.Second {
			t.Errorf("since %s: %s, which is %s off", since, first, off)
		}
		if e := New(LoginFailed, Origin{}); e.ID <= first {
			t.Errorf("since %s: an event of now, %s, is not selected", since, e.ID)
		}
	}
}
