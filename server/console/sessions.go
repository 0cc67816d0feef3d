package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"signet/tokens"
	"signet/users"
)

// userID turns what somebody typed for a user, a name or an id, into the id. A user who is gone may still be named by id.
func (s *Console) userID(ctx context.Context, nameOrID string) (id string, known bool, err error) {
	if nameOrID == "" {
		return "", true, nil
	}
	u, err := s.Users.Find(ctx, nameOrID)
	if errors.Is(err, users.ErrNotFound) {
		return nameOrID, false, nil
	}
	return u.ID, err == nil, err
}

func (s *Console) listSessions(v *visit) error {
	user, client := strings.TrimSpace(v.Query("user")), strings.TrimSpace(v.Query("client"))
	id, known, err := s.userID(v.ctx(), user)
	if err != nil {
		return err
	}
	after := v.Query("after")
	if _, _, ok := tokens.ParsePlace(after); !ok {
		after = ""
	}
	var rows []tokens.Session
	if known { // nobody else has sessions
		rows, err = s.Tokens.Sessions(v.ctx(), tokens.Filter{UserID: id, ClientID: client, After: after, Limit: pageSize + 1})
		if err != nil {
			return err
		}
	}
	rows, more := cut(rows)
	var p pager
	if after != "" {
		p.First = s.url("/sessions", "user", user, "client", client)
	}
	if more {
		p.Next = s.url("/sessions", "user", user, "client", client, "after", rows[len(rows)-1].Place())
	}
	query := url.Values{}
	for name, value := range map[string]string{"user": user, "client": client} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return s.show(v, http.StatusOK, "sessions", page{Title: "Sessions", Section: "Sessions", Data: map[string]any{
		"User": user, "Client": client, "Unknown": !known, "Rows": rows, "Pager": p, "Current": v.access.SessionID,
		"Back": "/sessions?" + query.Encode(),
	}})
}

func (s *Console) endSession(v *visit) error {
	word := "session-ended"
	err := s.Tokens.EndSession(v.ctx(), v.form("id"), v.origin())
	if errors.Is(err, tokens.ErrNoSession) {
		word, err = "session-gone", nil
	}
	if err != nil {
		return err
	}
	back, err := url.Parse(s.safeNext(v.form("back")))
	if err != nil {
		return err
	}
	query := []string{"done", word}
	for _, name := range []string{"id", "user", "client"} {
		query = append(query, name, back.Query().Get(name))
	}
	path := "/sessions"
	if back.Path == "/user" {
		path = back.Path
	}
	s.redirect(v.Context, path, query...)
	return nil
}
