package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is a fenced block of a page: its language and its text.
var block = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// The tour in docs/administration.md, pasted into a shell from its top, prints what the page says.
func TestAdministrationTour(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/administration.md")
	if err != nil {
		t.Fatal(err)
	}
	tour, _, found := strings.Cut(string(page), "\n## Rules\n")
	if !found {
		t.Fatal("the page has no rules behind its tour")
	}
	in := install(t, "")
	p := in.start(t, "serve")
	p.awaitReady()
	in.run(t, nil, "client", "create", "--id", "shop", "--name", "Web shop") // as the quick start leaves it, with which the tour may begin
	const end = "--- end of a block ---"
	var script strings.Builder
	var wanted []string // of each block of shell, a pattern
	for _, b := range block.FindAllStringSubmatch(tour, -1) {
		switch b[1] {
		case "sh":
			script.WriteString(strings.ReplaceAll(b[2], "http://127.0.0.1:8080", p.url) + "\necho '" + end + "'\n")
			wanted = append(wanted, "(?s).*")
		case "json":
			wanted[len(wanted)-1] = "^" + strings.ReplaceAll(regexp.QuoteMeta(b[2]), "…", ".*") + "$"
		}
	}
	sh := exec.Command("sh", "-eu", "-s")
	sh.Stdin = strings.NewReader(script.String())
	sh.Dir, sh.Env = in.dir, append(slices.Clone(in.env), "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"))
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := strings.Split(string(out), end+"\n")
	if len(said) != len(wanted)+1 || len(wanted) < 8 {
		t.Fatalf("%d blocks, %d answers", len(wanted), len(said)-1)
	}
	for i, want := range wanted {
		if !regexp.MustCompile(want).MatchString(said[i]) {
			t.Errorf("block %d prints\n%s\nand not\n%s", i+1, said[i], want)
		}
	}
}
