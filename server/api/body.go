package api

import (
	"encoding/base64"
	"errors"
	"mime"
	"net/url"
	"slices"
	"strconv"

	"signet/clients"
	"signet/server/oauth"
)

// body reads a body of JSON; one that is missing is empty.
func (c *call) body() ([]byte, error) {
	text, err := oauth.ReadBody(c.Writer, c.Request)
	if err != nil {
		return nil, err
	}
	if mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); len(text) > 0 && (err != nil || mediaType != "application/json") {
		return nil, badRequest("the Content-Type must be application/json")
	}
	return text, nil
}

// decode reads a JSON object of which v knows every member.
func (c *call) decode(v any) error {
	text, err := c.body()
	if err != nil {
		return err
	}
	return decode(text, v)
}

// decodeAny is decode for a body that may be left out.
func (c *call) decodeAny(v any) error {
	text, err := c.body()
	if err != nil || len(text) == 0 {
		return err
	}
	return decode(text, v)
}

func decode(text []byte, v any) error {
	err := clients.Decode(text, v)
	if field := (*clients.FieldError)(nil); errors.As(err, &field) {
		return badRequest(field.Error())
	}
	return err
}

// id is the id in the path, which may hold what has to be escaped there.
func (c *call) id() string {
	id, err := url.PathUnescape(c.Param("id"))
	if err != nil {
		return "" // nothing's id
	}
	return id
}

// readQuery refuses parameters that are not among the names, or repeated: a mistyped filter would select everything.
func readQuery(text string, names []string) (url.Values, error) {
	query, err := url.ParseQuery(text)
	if err != nil {
		return nil, badRequest("the query string is malformed")
	}
	for name, values := range query {
		if !slices.Contains(names, name) {
			return nil, badRequest("the query string holds a parameter that is not known here: " + strconv.QuoteToASCII(name))
		}
		if len(values) > 1 {
			return nil, bad(name, "is repeated")
		}
	}
	return query, nil
}

// Limits of a page.
const (
	defaultLimit = 50
	maxLimit     = 200
)

// page reads limit and cursor. The cursor is the key of the last item of the page before.
func (c *call) page(valid func(key string) bool) (limit int, after string, err error) {
	limit = defaultLimit
	if text := c.query.Get("limit"); c.query.Has("limit") {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxLimit {
			return 0, "", bad("limit", "must be a number from 1 to 200")
		}
	}
	if text := c.query.Get("cursor"); text != "" {
		key, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || !valid(string(key)) {
			return 0, "", bad("cursor", "must be the next_cursor of the page before")
		}
		after = string(key)
	}
	return limit, after, nil
}

// list is a page of items.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor,omitempty"`
}

// pageOf makes a page of what was found when asking for one item more than the limit.
func pageOf[T any](found []T, limit int, key func(T) string) reply {
	page := list[T]{Items: found}
	if len(found) > limit {
		page.Items = found[:limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(key(found[limit-1])))
	}
	if page.Items == nil {
		page.Items = []T{}
	}
	return ok(page)
}
