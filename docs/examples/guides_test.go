package examples

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var codeBlock = regexp.MustCompile("(?ms)(?:^<!-- file: ([^ ]+) -->\n)?^```([a-z]+)\n(.*?)^```$")

// Every block of code in a guide is a part of the file that is named above it, or lines for a shell that this test runs.
func TestGuides(t *testing.T) {
	t.Parallel()
	lookAtFiles(t)
	guides, err := filepath.Glob("../guides/*.md")
	check(t, err)
	guides = slices.DeleteFunc(guides, func(path string) bool { return filepath.Base(path) == "libraries.md" }) // interop tests that one
	if len(guides) < 6 {
		t.Errorf("the guides are %v", guides)
	}
	for _, guide := range guides {
		t.Run(filepath.Base(guide), func(t *testing.T) {
			t.Parallel()
			page, err := os.ReadFile(guide)
			check(t, err)
			script := ""
			for _, m := range codeBlock.FindAllStringSubmatch(string(page), -1) {
				file, language, code := m[1], m[2], m[3]
				switch {
				case file != "":
					source, err := os.ReadFile(filepath.Join("../guides", file))
					check(t, err)
					if !strings.Contains(string(source), code) {
						t.Errorf("this is not in %s:\n%s", file, code)
					}
				case language == "sh":
					script += code
				default:
					t.Errorf("no file is named above this:\n%s", code)
				}
			}
			if script != "" {
				// The user is the quick start's.
				paste(t, "printf 'correct horse battery' | signet user create alice --password-stdin\n"+script)
			}
		})
	}
}

// paste runs shell lines beside a new server.
func paste(t *testing.T, script string) {
	t.Helper()
	dir, address, env := serve(t)
	sh := exec.Command("sh", "-eu")
	sh.Dir, sh.Env = dir, env
	sh.Stdin = strings.NewReader(strings.ReplaceAll(script, "127.0.0.1:8080", address))
	if out, err := sh.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\nof:\n%s", err, out, script)
	}
}

// serve starts a server with those settings, and returns where "signet" works on the same data.
func serve(t *testing.T, settings ...string) (dir, address string, env []string) {
	t.Helper()
	path, err := signet()
	check(t, err)
	dir, address = t.TempDir(), "127.0.0.1:"+unusedPort(t)
	env = append([]string{"PATH=" + filepath.Dir(path) + ":" + os.Getenv("PATH"), "SIGNET_LISTEN=" + address, "SIGNET_MANAGEMENT_LISTEN="}, settings...)
	server := exec.Command(path, "serve")
	server.Dir, server.Env = dir, env
	check(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	eventually(t, "the server is ready", func() bool {
		res, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return dir, address, env
}
