package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The guide shows nothing but what these tests run.
func TestGuideShowsTestedCode(t *testing.T) {
	t.Parallel()
	// squeeze leaves out how deep the code is nested.
	squeeze := func(text string) string {
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return strings.TrimSpace(strings.Join(lines, "\n"))
	}
	var tested []string
	for _, pattern := range []string{"*_test.go", "../node/*.mjs", "../python/*.py"} {
		paths, err := filepath.Glob(pattern)
		check(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			check(t, err)
			tested = append(tested, squeeze(string(text)))
		}
	}
	guide, err := os.ReadFile("../../docs/guides/libraries.md")
	check(t, err)
	blocks := regexp.MustCompile("(?s)```[a-z]+\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 10 {
		t.Errorf("the guide has %d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		found := false
		for _, text := range tested {
			found = found || strings.Contains(text, squeeze(block[1]))
		}
		if !found {
			t.Errorf("this is in no test:\n%s", block[1])
		}
	}
}
