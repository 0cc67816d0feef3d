package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// build compiles the server into dir and returns the program's path: as it is shipped, or one that writes a profile.
func build(ctx context.Context, dir string, profiled bool) (string, error) {
	program := filepath.Join(dir, "signet")
	tags := "nomsgpack"
	if profiled {
		tags += ",cpuprofile"
	}
	args := []string{"build", "-trimpath", "-tags", tags, "-o", program}
	if out, err := exec.CommandContext(ctx, "go", append(args, "signet/cmd/signet")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// server is a running `signet serve`.
type server struct {
	cmd     *exec.Cmd
	exited  chan struct{}
	log     string        // the path of what it wrote
	startup time.Duration // from the start of the process to the first 200 of /readyz
}

// startServer starts the program in dir with exactly these settings and returns when it is ready.
func startServer(ctx context.Context, program, dir, addr string, settings ...string) (*server, error) {
	cmd := exec.Command(program, "serve") // not with ctx: it is ended by stop, in order
	cmd.Dir = dir
	// Nothing of this process's environment: neither its settings nor a GOGC or GOMAXPROCS are to shape the result.
	cmd.Env = append([]string{"SIGNET_LISTEN=" + addr, "SIGNET_MANAGEMENT_LISTEN=", "SIGNET_LOG_LEVEL=warn"}, settings...)
	// A file, not this process's standard error: until the server is ready it logs each question whether it is.
	log, err := os.CreateTemp(dir, "log-")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for this process, which then stops the server
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, exited: make(chan struct{}), log: log.Name()}
	go func() {
		_ = cmd.Wait()
		close(s.exited)
	}()
	if err := s.await(ctx, "http://"+addr+"/readyz"); err != nil {
		s.stop()
		return nil, fmt.Errorf("the server does not start: %w; the end of its log:\n%s", err, s.lastWords())
	}
	s.startup = time.Since(began)
	return s, nil
}

func (s *server) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("not ready within 30 s"))
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return errors.New(s.cmd.ProcessState.String())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// stop ends the server and waits for its end.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// lastWords is the end of the server's log.
func (s *server) lastWords() []byte {
	content, _ := os.ReadFile(s.log)
	return content[max(0, len(content)-2000):]
}

// freeAddr is an address on which nobody listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tick is the unit of CPU time in /proc: USER_HZ is 100 wherever Go runs on Linux.
const tick = 10 * time.Millisecond

// stat is what /proc/PID/stat says of a process.
type stat struct {
	parent   int
	own      time.Duration // CPU time
	children time.Duration // of children that have ended and were waited for
}

func readStat(pid int) (stat, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The program's name is in parentheses and may hold anything; the third field begins behind it.
	fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
	var n [5]int
	for i, field := range [...]int{4, 14, 15, 16, 17} { // ppid, utime, stime, cutime, cstime; counted from 1
		if n[i], err = strconv.Atoi(fields[field-3]); err != nil {
			return stat{}, err
		}
	}
	return stat{n[0], time.Duration(n[1]+n[2]) * tick, time.Duration(n[3]+n[4]) * tick}, nil
}

// cpuOf is the CPU time of a process.
func cpuOf(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	return s.own, err
}

// cpuOfTree is the CPU time of a process and of its children, those that have ended included.
func cpuOfTree(pid int) (time.Duration, error) {
	root, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	total := root.own + root.children
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(id); err == nil && s.parent == pid { // a process that has just ended is in its parent's account
			total += s.own
		}
	}
	return total, nil
}

// cpuOfSelf is the CPU time of this process.
func cpuOfSelf() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// cpuOfMachine is the CPU time of everything on this machine, and what the host took for other machines.
func cpuOfMachine() (time.Duration, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(content), "\n")
	var total time.Duration
	for i, field := range strings.Fields(first) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, iowait, and what is in the other columns already
			continue
		}
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// memoryOf is the resident memory of a process in bytes, now and at its highest.
func memoryOf(pid int) (now, highest int64, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		switch f[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			highest = n << 10
		}
	}
	return now, highest, nil
}

// cpuModel names the processor, as far as the kernel knows it.
func cpuModel() string {
	content, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(content)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
