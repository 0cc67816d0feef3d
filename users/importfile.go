package users

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// The columns, or members, that an imported file must have. Those of the profile it may have.
const (
	usernameColumn = "username"
	hashColumn     = "password_hash"
)

// importColumns are all that there are.
var importColumns = append([]string{usernameColumn, hashColumn}, profileMembers...)

// maxRow is how long a row of an imported file may be, in bytes: many times as long as a good one.
const maxRow = 64 << 10

// row is one row of an imported file. If there is a reason, it is a bad one.
type row struct {
	line           int // in which it begins
	username, hash string
	profile        map[string]json.RawMessage // as With takes it
	reason         string
}

// importFile reads the rows of a file. After the last one next returns io.EOF, and a row that tells the line behind it.
type importFile struct {
	lines   *lines
	columns []string // of CSV; none in JSON lines
}

// openImport finds out what kind of file it is, and reads the header of CSV.
func openImport(r io.Reader) (*importFile, error) {
	f := &importFile{lines: &lines{r: bufio.NewReaderSize(r, maxRow)}}
	first, err := f.lines.next()
	for err == nil && first.blank() {
		first, err = f.lines.next()
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, fmt.Errorf("cannot read the file: %w", err)
	case strings.HasPrefix(strings.TrimLeft(first.text, " \t"), "{"):
		f.lines.again = []line{first}
		return f, nil
	}
	if err := f.readHeader(first); err != nil {
		return nil, fmt.Errorf("line %d: %w", first.number, err)
	}
	return f, nil
}

const wantHeader = "the first line of CSV names the columns username and password_hash, separated by a comma"

func (f *importFile) readHeader(first line) error {
	switch {
	case strings.HasPrefix(first.text, "\xff\xfe") || strings.HasPrefix(first.text, "\xfe\xff"):
		return errors.New("the file is UTF-16; convert it to UTF-8")
	case first.reason != "":
		return errors.New(first.reason)
	case strings.HasPrefix(strings.TrimLeft(first.text, " \t"), "["):
		return errors.New("the file is a JSON array; it must have one object in each line, as jq -c '.[]' makes them")
	}
	r, fields, err := f.record(first)
	if err != nil {
		return err
	}
	if r.reason != "" {
		return errors.New(r.reason)
	}
	if !slices.Contains(fields, usernameColumn) && !slices.Contains(fields, hashColumn) {
		return errors.New(wantHeader)
	}
	for i, name := range fields {
		switch {
		case !slices.Contains(importColumns, name):
			return fmt.Errorf("unknown column%s; %s", quoted(name), knownColumns())
		case slices.Contains(fields[:i], name):
			return fmt.Errorf("the column %s is there twice", name)
		}
	}
	if !slices.Contains(fields, usernameColumn) || !slices.Contains(fields, hashColumn) {
		return errors.New("a column is missing; " + wantHeader)
	}
	f.columns = fields
	return nil
}

// knownColumns lists for a message what there is.
func knownColumns() string { return "there are " + strings.Join(importColumns, ", ") }

// quoted returns the name for a message, unless it looks like something that stands in the wrong place: a hash is never shown.
func quoted(name string) string {
	if len(name) > 64 || strings.Contains(name, "$") {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// next returns the next row, good or bad. An error is the reader's.
func (f *importFile) next() (row, error) {
	for {
		l, err := f.lines.next()
		switch {
		case err != nil:
			return row{line: f.lines.number + 1}, err
		case l.blank():
			continue
		case l.reason != "":
			return row{line: l.number, reason: l.reason}, nil
		case f.columns == nil:
			return parseObject(l), nil
		}
		r, fields, err := f.record(l)
		if err != nil || r.reason != "" {
			return r, err
		}
		if len(fields) != len(f.columns) {
			r.reason = fmt.Sprintf("has %d columns, the header has %d", len(fields), len(f.columns))
			return r, nil
		}
		for i, name := range f.columns {
			switch name {
			case usernameColumn:
				r.username = fields[i]
			case hashColumn:
				r.hash = fields[i]
			default:
				r.set(name, cell(name, fields[i]))
			}
		}
		return r, nil
	}
}

// set sets a member of the profile, unless the value is nil.
func (r *row) set(name string, value json.RawMessage) {
	if value == nil {
		return
	}
	if r.profile == nil {
		r.profile = map[string]json.RawMessage{}
	}
	r.profile[name] = value
}

// cell is the field of CSV as JSON, nil for an empty one. Groups may be written without JSON, separated by semicolons; what is no text
// otherwise is JSON already.
func cell(name, text string) json.RawMessage {
	if text == "" {
		return nil
	}
	var value any
	field, _ := profileField(&Profile{}, name)
	switch kind := field.Kind(); {
	case kind == reflect.String:
		value = text
	case kind == reflect.Slice && !strings.HasPrefix(text, "["):
		value = strings.Split(text, ";")
	default:
		return json.RawMessage(text)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err) // texts always can be
	}
	return encoded
}

// record reads the record of CSV that begins in the line. Within quotes it may go on in the next one; as long as the number of
// quotes is odd, it does. Where the quotes turn out to be broken, only the first line is taken for bad, and what was read
// beyond it is read again: one stray quote must not cost the rows behind it.
func (f *importFile) record(first line) (row, []string, error) {
	r := row{line: first.number}
	if !strings.Contains(first.text, `"`) {
		return r, strings.Split(first.text, ","), nil
	}
	var text strings.Builder
	text.WriteString(first.text)
	var more []line
	for quotes := strings.Count(first.text, `"`); quotes%2 == 1 && text.Len() <= maxRow; {
		l, err := f.lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r, nil, err
		}
		more = append(more, l)
		if l.reason != "" {
			break
		}
		text.WriteByte('\n')
		text.WriteString(l.text)
		quotes += strings.Count(l.text, `"`)
	}
	c := csv.NewReader(strings.NewReader(text.String()))
	c.FieldsPerRecord = -1
	fields, err := c.Read()
	if err != nil {
		f.lines.again = append(more, f.lines.again...)
		r.reason = "a quote stands where none may be, or is not closed"
	}
	return r, fields, nil
}

// parseObject reads a line of JSON. The names of members are taken as they are, each once: encoding/json by itself overlooks
// case and takes the last of several.
func parseObject(l line) row {
	r := row{line: l.number}
	if !json.Valid([]byte(l.text)) || !strings.HasPrefix(strings.TrimLeft(l.text, " \t"), "{") {
		r.reason = "not a JSON object, which has to be in one line"
		return r
	}
	d := json.NewDecoder(strings.NewReader(l.text))
	_, _ = d.Token() // {
	found := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, _ := token.(string)
		var value json.RawMessage
		if err != nil || !slices.Contains(importColumns, name) || d.Decode(&value) != nil {
			r.reason = fmt.Sprintf("unknown member%s; %s", quoted(name), knownColumns())
			return r
		}
		if found[name] {
			r.reason = name + ": is there twice"
			return r
		}
		found[name] = true
		if _, flaw := inspect(value); flaw != "" {
			r.reason = name + ": " + flaw
			return r
		}
		text := map[string]*string{usernameColumn: &r.username, hashColumn: &r.hash}[name]
		if text == nil {
			r.set(name, value)
			continue
		}
		if value[0] != '"' || json.Unmarshal(value, text) != nil {
			r.reason = name + ": must be a text"
			return r
		}
	}
	for _, name := range []string{usernameColumn, hashColumn} {
		if !found[name] {
			r.reason = name + ": is missing"
			return r
		}
	}
	return r
}

// line is a line of the file, without its end. If there is a reason, it is one that cannot be part of a row, and the text only
// its beginning.
type line struct {
	number int
	text   string
	reason string
}

func (l line) blank() bool { return l.reason == "" && strings.TrimSpace(l.text) == "" }

// lines reads lines, of which none takes more memory than a row may.
type lines struct {
	r      *bufio.Reader
	number int    // of the last line read
	again  []line // lines that are to be read once more, before any other
}

func (l *lines) next() (line, error) {
	if len(l.again) > 0 {
		first := l.again[0]
		l.again = l.again[1:]
		return first, nil
	}
	text, err := l.r.ReadSlice('\n')
	if len(text) == 0 && err != nil {
		return line{}, err
	}
	l.number++
	if l.number == 1 {
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	n := line{number: l.number}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		n.text, n.reason = string(text[:16]), fmt.Sprintf("is longer than %d KiB", maxRow>>10)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
	case bytes.IndexByte(text, 0) >= 0:
		n.text, n.reason = string(text[:min(len(text), 16)]), "holds a NUL byte"
	case !utf8.Valid(text):
		n.text, n.reason = string(text[:min(len(text), 16)]), "is not UTF-8 text"
	default:
		n.text = string(bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return line{}, err
	}
	return n, nil
}
