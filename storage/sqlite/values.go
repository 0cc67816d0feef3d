package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// list returns the values as a JSON array.
func list[T any](values []T) string {
	if values == nil {
		return "[]"
	}
	return toJSON(values)
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // neither texts nor digests fail
	}
	return string(text)
}

// listOrNull is list, but NULL for nil.
func listOrNull[T any](values []T) any {
	if values == nil {
		return nil
	}
	return list(values)
}

// fromList reads a JSON array.
func fromList[T any](values *[]T) sql.Scanner { return fromJSON{values} }

// fromJSON reads JSON into what it holds.
type fromJSON struct{ v any }

// Scan implements sql.Scanner.
func (f fromJSON) Scan(column any) error {
	text, ok := column.(string)
	if !ok {
		return fmt.Errorf("a %T where JSON is kept", column)
	}
	return json.Unmarshal([]byte(text), f.v)
}

// moment reads a time. NULL is the zero time.
type moment struct{ *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(column any) error {
	switch micros := column.(type) {
	case nil:
		*m.Time = time.Time{}
	case int64:
		*m.Time = time.UnixMicro(micros).UTC()
	default:
		return fmt.Errorf("a %T where a time is kept", column)
	}
	return nil
}

func readInt(row *sql.Rows) (n int64, err error) {
	err = row.Scan(&n)
	return n, err
}

func readText(row *sql.Rows) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// readWait reads a duration, kept in microseconds.
func readWait(row *sql.Rows) (time.Duration, error) {
	micros, err := readInt(row)
	return time.Duration(micros) * time.Microsecond, err
}

// id returns a UUID in the form in which ids are kept, and anything else as it is.
func id(text string) string {
	if parsed, err := uuid.Parse(text); err == nil {
		return parsed.String()
	}
	return text
}
