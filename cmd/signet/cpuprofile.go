//go:build cpuprofile

package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// Built with the tag cpuprofile, which make pgo does, the program writes a profile of its CPU time to the file named by CPUPROFILE: from
// its start to a SIGTERM.
func init() {
	path := os.Getenv("CPUPROFILE")
	if path == "" {
		return
	}
	f, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "signet: CPUPROFILE:", err)
		os.Exit(exitFailed)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		pprof.StopCPUProfile()
		_ = f.Close()
	}()
}
