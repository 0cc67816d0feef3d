package main

import "testing"

func TestGarbageIsCollectedByWhatIsLive(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 400},
		{5 * mib, 320},
		{42 * mib, 100}, // two passwords are being hashed
		{1024 * mib, 100},
	} {
		if got := garbagePercent(c.live); got != c.want {
			t.Errorf("%d MiB live: %d, want %d", c.live/mib, got, c.want)
		}
	}
}
