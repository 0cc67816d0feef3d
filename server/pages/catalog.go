package pages

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"

	"golang.org/x/text/language"
)

//go:embed catalogs
var catalogs embed.FS

// catalog is the texts of a language by their keys.
type catalog map[string]string

// languages are the languages of the catalogs, the one for everybody else first.
var languages = []string{"en", "de", "es", "fr", "zh"}

func (p *Pages) readCatalogs() {
	for _, name := range languages {
		text, err := catalogs.ReadFile("catalogs/" + name + ".json")
		var c catalog
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if err != nil {
			panic(err) // they are part of the program
		}
		p.languages, p.catalogs = append(p.languages, language.MustParse(name)), append(p.catalogs, c)
	}
	p.matcher = language.NewMatcher(p.languages)
}

// text returns the text of the key, with each value, as write makes it, in the place of its name between braces.
func (c catalog) text(key string, pairs []any, write func(string) string) string {
	return replace(c[key], pairs, write)
}

// html is text, escaped.
func (c catalog) html(key string, pairs []any, write func(string) string) string {
	return replace(template.HTMLEscapeString(c[key]), pairs, write)
}

// replace puts values into a text, once: what a value holds is not looked at again.
func replace(text string, pairs []any, write func(string) string) string {
	values := make([]string, 0, len(pairs))
	for i := 0; i+1 < len(pairs); i += 2 {
		values = append(values, fmt.Sprintf("{%v}", pairs[i]), write(fmt.Sprint(pairs[i+1])))
	}
	return strings.NewReplacer(values...).Replace(text)
}
