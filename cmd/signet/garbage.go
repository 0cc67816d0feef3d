package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// headroom is how much may be allocated, at the least, before garbage is collected again, in bytes. What Signet keeps is a few
// megabytes: collected whenever that has doubled, as Go does it, a tenth of the work would be collections.
const headroom = 16 << 20

// paceGarbage has garbage collected less often while there is little in memory, and as often as Go does it where there is much, as there
// is while passwords are hashed in blocks of 19 MiB each. GOGC and GOMEMLIMIT, where they are set, decide instead.
func paceGarbage() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var percent int
	var collected func(*sentinel)
	collected = func(s *sentinel) {
		metrics.Read(live)
		if wanted := garbagePercent(live[0].Value.Uint64()); wanted < percent*9/10 || wanted > percent*11/10 {
			percent = wanted
			debug.SetGCPercent(percent)
		}
		runtime.SetFinalizer(s, collected)
	}
	collected(&sentinel{})
}

// sentinel is garbage whenever there is a collection, which is how that is noticed.
type sentinel struct{ _ [16]byte }

// garbagePercent is the GOGC for that many bytes that are live. Go itself counts with 4 MiB at the least.
func garbagePercent(live uint64) int {
	return int(max(100, 100*headroom/max(live, 4<<20))) //nolint:gosec // 400 at most
}
