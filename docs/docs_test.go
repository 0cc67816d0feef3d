package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"signet/audit"
)

// configFile is where the settings are declared: each is a field of the struct config, with tags.
const configFile = "../cmd/signet/config.go"

// settings returns the default of each setting, "" for those without one, and the names of those that NAME_FILE may give.
func settings(t *testing.T) (defaults map[string]string, fromFile []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), configFile, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defaults = map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			fields, ok := n.Type.(*ast.StructType)
			if !ok || n.Name.Name != "config" {
				return true
			}
			for _, f := range fields.Fields.List {
				if f.Tag == nil {
					continue
				}
				tag := reflect.StructTag(unquote(t, f.Tag.Value))
				if name, ok := tag.Lookup("env"); ok {
					defaults[name] = tag.Get("envDefault")
				}
			}
		case *ast.ValueSpec:
			if n.Names[0].Name != "fileSettings" {
				return true
			}
			for _, value := range n.Values[0].(*ast.CompositeLit).Elts {
				fromFile = append(fromFile, unquote(t, value.(*ast.BasicLit).Value))
			}
		}
		return true
	})
	if len(defaults) == 0 || len(fromFile) == 0 {
		t.Fatalf("%s does not declare its settings as this test expects", configFile)
	}
	return defaults, fromFile
}

func unquote(t *testing.T, literal string) string {
	t.Helper()
	s, err := strconv.Unquote(literal)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ours returns the text of each page of the documentation, README.md among them, by its path.
func ours(t *testing.T) map[string]string { return read(t, "../README.md", "*.md", "guides/*.md") }

func read(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) == 0 {
			t.Errorf("there is no %s", pattern)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages[path] = string(text)
		}
	}
	return pages
}

// row is a row of the table of settings: the name and the default, each as code, or a default in words.
var row = regexp.MustCompile("(?m)^\\| `(SIGNET_[A-Z0-9_]+)` \\| ([^|]*) \\|")

func TestConfigurationListsEverySetting(t *testing.T) {
	t.Parallel()
	defaults, _ := settings(t)
	rows := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(ours(t)["configuration.md"], -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("configuration.md lists %s twice", m[1])
		}
		rows[m[1]] = m[2]
		if _, known := defaults[m[1]]; !known {
			t.Errorf("configuration.md lists %s, which is no setting", m[1])
		}
	}
	for name, value := range defaults {
		shown, listed := rows[name]
		switch {
		case !listed:
			t.Errorf("configuration.md does not list %s", name)
		case value != "" && shown != "`"+value+"`":
			t.Errorf("configuration.md says that the default of %s is %s; it is `%s`", name, shown, value)
		case value == "" && strings.HasPrefix(shown, "`"):
			t.Errorf("configuration.md says that the default of %s is %s; it has none", name, shown)
		}
	}
}

func TestOnlyRealSettingsAreMentioned(t *testing.T) {
	t.Parallel()
	defaults, fromFile := settings(t)
	pages := ours(t)
	maps.Copy(pages, read(t, "../deploy/helm/signet/*", "../deploy/helm/signet/templates/*", "../deploy/helm/signet/ci/*", "../deploy/systemd/*"))
	for path, text := range pages {
		for _, name := range regexp.MustCompile(`\bSIGNET_[A-Z0-9]+(?:_[A-Z0-9]+)*\b`).FindAllString(text, -1) {
			_, known := defaults[name]
			if base, isFile := strings.CutSuffix(name, "_FILE"); isFile {
				known = slices.Contains(fromFile, base)
			}
			if !known {
				t.Errorf("%s mentions %s, which is no setting", path, name)
			}
		}
	}
}

// cookies have names like those of metrics.
var cookies = []string{"signet_at", "signet_rt", "signet_console", "signet_login", "signet_browser"}

// TestMetrics compares the metrics that operations.md describes with those that the server declares.
func TestMetrics(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{}
	for path, text := range read(t, "../server/*.go", "../server/oauth/*.go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?:Name: |NewDesc\()"(signet_[a-z_]+)"`).FindAllStringSubmatch(text, -1) {
			declared[m[1]] = !slices.Contains(cookies, m[1])
		}
	}
	pages := ours(t)
	for name, metric := range declared {
		if metric && !strings.Contains(pages["operations.md"], "| `"+name) {
			t.Errorf("operations.md does not describe the metric %s", name)
		}
	}
	for path, text := range pages {
		for _, name := range regexp.MustCompile(`\bsignet_[a-z_]+`).FindAllString(text, -1) {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count") // of a histogram
			if !declared[name] && !slices.Contains(cookies, name) {
				t.Errorf("%s mentions the metric %s, which the server does not have", path, name)
			}
		}
	}
}

func TestAuditEvents(t *testing.T) {
	t.Parallel()
	page := ours(t)["operations.md"]
	for _, kind := range audit.Types {
		if !strings.Contains(page, "`"+string(kind)+"`") {
			t.Errorf("operations.md does not describe the event %s", kind)
		}
	}
}

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
)

// TestLinks follows every relative link of every page, and of the project's other documents, to its file and its heading.
func TestLinks(t *testing.T) {
	t.Parallel()
	for path, text := range read(t, "../*.md", "*.md", "guides/*.md", "examples/*.md", "examples/*/README.md", "../deploy/helm/*/README.md") {
		text = code.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], ":") { // an address elsewhere
				continue
			}
			name, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if name != "" {
				target = filepath.Join(filepath.Dir(path), name)
			}
			content, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err.(*fs.PathError).Err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(string(content)), anchor) {
				t.Errorf("%s links to %s: there is no such heading", path, m[1])
			}
		}
	}
}

// anchors returns what the headings of a page can be linked to as.
func anchors(page string) []string {
	var list []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		list = append(list, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			default:
				return -1
			}
		}, m[1]))
	}
	return list
}
