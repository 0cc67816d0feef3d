package server_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"signet/clients"
	"signet/keys"
)

func TestKeyMetrics(t *testing.T) {
	const age, rotation = "signet_signing_key_age_seconds", "signet_signing_key_rotation_seconds"
	t.Run("of a key that is rotated", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			_, err := r.keys.Rotate(t.Context(), origin)
			check(t, err)
			m := r.metrics(t)
			if got, err := strconv.ParseFloat(m[age], 64); err != nil || got < -60 || got > 60 { // the database's clock is another one
				t.Errorf("the key of this moment is %s seconds old", m[age])
			}
			if got, err := strconv.ParseFloat(m[rotation], 64); err != nil || got != (30*24*time.Hour).Seconds() {
				t.Errorf("the rotation is %q", m[rotation])
			}
		})
	})
	t.Run("of a shared secret", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			m := r.metrics(t)
			if _, there := m[rotation]; m[age] == "" || there {
				t.Errorf("age %q, rotation %q", m[age], m[rotation])
			}
		}, func(s *settings) { s.alg, s.signingSecret = keys.HS256, strings.Repeat("s", 32) })
	})
	t.Run("before the keys are loaded", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			m := r.metrics(t)
			if m[age] != "" || m[rotation] != "" {
				t.Errorf("age %q, rotation %q", m[age], m[rotation])
			}
		}, func(s *settings) { s.keysNotLoaded = true })
	})
}

// query is an expression in Prometheus' language, and text with names of labels that is shown of its result.
type query struct{ name, expr, shown string }

// alertQueries reads the rules of docs/monitoring/alerts.yaml.
func alertQueries(t *testing.T) []query {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	text, err := os.ReadFile("../docs/monitoring/alerts.yaml")
	check(t, err)
	check(t, yaml.UnmarshalWithOptions(text, &file, yaml.DisallowUnknownField()))
	var all []query
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" || rule.Expr == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("the alert %q is not complete", rule.Alert)
			}
			if slices.ContainsFunc(all, func(q query) bool { return q.name == "the alert "+rule.Alert }) {
				t.Errorf("there are two alerts %s", rule.Alert)
			}
			all = append(all, query{"the alert " + rule.Alert, rule.Expr, rule.Annotations["summary"] + rule.Annotations["description"]})
		}
	}
	return all
}

// dashboardQueries reads docs/monitoring/dashboard.json, and checks that it can be imported anywhere and be read.
func dashboardQueries(t *testing.T) []query {
	t.Helper()
	type datasource struct{ Type, UID string }
	var board struct {
		Title      string
		UID        string
		Templating struct {
			List []struct {
				Name, Type, Definition string
				Datasource             datasource
			}
		}
		Panels []struct {
			ID                       int
			Type, Title, Description string
			Datasource               datasource
			FieldConfig              struct{ Defaults struct{ Unit string } }
			Targets                  []struct {
				Datasource         datasource
				Expr, LegendFormat string
			}
		}
	}
	text, err := os.ReadFile("../docs/monitoring/dashboard.json")
	check(t, err)
	check(t, json.Unmarshal(text, &board))
	chosen := datasource{"prometheus", "${datasource}"}
	var all []query
	variables := map[string]string{}
	for _, v := range board.Templating.List {
		variables[v.Name] = v.Type
		if v.Type == "query" {
			equal(t, "the data source of "+v.Name, v.Datasource, chosen)
			all = append(all, query{"the variable " + v.Name, v.Definition, ""})
		}
	}
	equal(t, "the variables", variables, map[string]string{"datasource": "datasource", "job": "query", "instance": "query"})
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if p.Title == "" || ids[p.ID] {
			t.Errorf("the panel %d %q has no title, or the id of another one", p.ID, p.Title)
		}
		if ids[p.ID] = true; p.Type == "row" {
			continue
		}
		if p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("the panel %q has no unit, or shows nothing", p.Title)
		}
		equal(t, "the data source of "+p.Title, p.Datasource, chosen)
		for _, target := range p.Targets {
			equal(t, "the data source of "+p.Title, target.Datasource, chosen)
			if !strings.Contains(target.Expr, `{job=~"$job",instance=~"$instance"`) {
				t.Errorf("the panel %q does not heed the variables: %s", p.Title, target.Expr)
			}
			all = append(all, query{"the panel " + p.Title, target.Expr, target.LegendFormat})
		}
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:signet|go|process)_\w+`)
	selector   = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) *\(([^)]*)\)`)
	labelShown = regexp.MustCompile(`\{\{ *(?:\$labels\.)?(\w+) *\}\}`)
)

// TestMonitoring compares the metrics and labels that the dashboard and the alerts ask for with those that there are.
func TestMonitoring(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		token := r.login(t, c, r.user(t, "alice")).RefreshToken
		r.introspect(t, c, token)
		r.refresh(t, c, token)
		r.revoke(t, c, token)
		r.get(t, "/readyz")
		for _, path := range []string{"/register", "/device_authorization"} {
			r.post(t, path, c, nil)
		}
		exposed := map[string]map[string][]string{} // the values by metric and label
		for series := range r.metrics(t) {
			name, labels, _ := strings.Cut(series, "{")
			if exposed[name] == nil {
				exposed[name] = map[string][]string{"job": nil, "instance": nil} // which Prometheus adds
			}
			for _, m := range matcher.FindAllStringSubmatch(labels, -1) {
				exposed[name][m[1]] = append(exposed[name][m[1]], m[3])
			}
		}
		for _, q := range append(alertQueries(t), dashboardQueries(t)...) {
			labels := map[string]bool{}
			for _, name := range metricName.FindAllString(q.expr, -1) {
				if exposed[name] == nil {
					t.Errorf("%s asks for %s, which there is not", q.name, name)
				}
				for label := range exposed[name] {
					labels[label] = true
				}
			}
			if len(labels) == 0 {
				t.Errorf("%s asks for nothing: %s", q.name, q.expr)
			}
			for _, s := range selector.FindAllStringSubmatch(q.expr, -1) {
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					values, known := exposed[s[1]][m[1]]
					if !known {
						t.Errorf("%s asks for the label %s of %s, which there is not", q.name, m[1], s[1])
					} else if m[2] == "=" && m[1] != "status" && !slices.Contains(values, m[3]) {
						t.Errorf("%s asks for the value %q of %s, which there is not", q.name, m[3], m[1])
					}
				}
			}
			for _, g := range grouping.FindAllStringSubmatch(q.expr, -1) {
				for label := range strings.SplitSeq(g[1], ",") {
					if label = strings.TrimSpace(label); !labels[label] {
						t.Errorf("%s groups by %q; there are %q", q.name, label, slices.Sorted(maps.Keys(labels)))
					}
				}
			}
			for _, m := range labelShown.FindAllStringSubmatch(q.shown, -1) {
				if !labels[m[1]] {
					t.Errorf("%s shows %q; there are %q", q.name, m[1], slices.Sorted(maps.Keys(labels)))
				}
			}
		}
	}, func(s *settings) { s.registration, s.mailer = clients.RegistrationOpen, &mailbox{} })
}
