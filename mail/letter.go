package mail

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"strings"
	texttemplate "text/template"

	"golang.org/x/text/language"
)

//go:embed catalogs templates
var files embed.FS

// letter is what a mail is about.
type letter struct {
	kind string // of the catalogs' keys
	to   string
	user string // the reader's username, where there is one
	url  string // where the button leads

	notice bool // tells of what has happened: what follows upon it is the same for all
}

// The languages of the catalogs, the one for everybody else first.
var (
	languages = []language.Tag{language.English, language.German, language.Spanish, language.French, language.Chinese}
	matcher   = language.NewMatcher(languages)
	catalogs  = readCatalogs()
	inText    = texttemplate.Must(texttemplate.ParseFS(files, "templates/mail.txt"))
	inHTML    = template.Must(template.ParseFS(files, "templates/mail.html"))
)

func readCatalogs() []map[string]string {
	all := make([]map[string]string, len(languages))
	for i, tag := range languages {
		text, err := files.ReadFile("catalogs/" + tag.String() + ".json")
		if err == nil {
			err = json.Unmarshal(text, &all[i])
		}
		if err != nil {
			panic(err) // they are part of the program
		}
	}
	return all
}

// write makes the message in the best of the languages.
func (s *Service) write(l letter, locales []string) (Message, error) {
	var wanted []language.Tag
	for _, locale := range locales {
		if tag, err := language.Parse(locale); err == nil {
			wanted = append(wanted, tag)
		}
	}
	_, index, _ := matcher.Match(wanted...)
	fill := strings.NewReplacer("{brand}", s.cfg.Brand, "{user}", l.user)
	text := func(key string) string { return fill.Replace(catalogs[index][key]) }
	kind := l.kind
	if l.notice {
		kind = "notice"
	}
	data := struct{ Lang, Subject, Greeting, Text, Button, URL, Expiry, Unasked, Brand string }{
		languages[index].String(), text(l.kind + ".subject"), text("greeting"), text(l.kind + ".text"), text(kind + ".button"), l.url,
		text(kind + ".expiry"), text(kind + ".unasked"), s.cfg.Brand,
	}
	if l.user == "" {
		data.Greeting = text("greeting.nobody")
	}
	var plain, html bytes.Buffer
	if err := inText.Execute(&plain, data); err != nil {
		return Message{}, err
	}
	if err := inHTML.Execute(&html, data); err != nil {
		return Message{}, err
	}
	return Message{To: l.to, Subject: data.Subject, Text: plain.String(), HTML: html.String()}, nil
}
