package clients

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"

	"signet/audit"
)

// Applied tells what Apply did to a client.
type Applied struct {
	ID      string   `json:"client_id"`
	Outcome string   `json:"outcome"` // created, updated or unchanged
	Changed []string `json:"changed"` // the members that an update changed
	Secret  string   `json:"client_secret,omitempty"`
}

// Apply makes the client with c's id be what c says, and changes nothing if it is that already. A client that is made, or is
// public no more, is given a secret. Its errors are FieldErrors, or the database's.
func (s *Service) Apply(ctx context.Context, c Client, o audit.Origin) (Applied, error) {
	if c.ID == "" {
		return Applied{}, invalid("client_id", "is missing: it tells which client is meant")
	}
	if c.Secret != "" {
		return Applied{}, errGivenSecret
	}
	if err := s.complete(&c); err != nil {
		return Applied{}, err
	}
	for {
		stored, err := s.store.Client(ctx, c.ID)
		if errors.Is(err, ErrNotFound) {
			made, err := s.Create(ctx, c, o)
			if errors.Is(err, ErrExists) {
				continue // since a moment ago
			}
			return Applied{ID: c.ID, Outcome: "created", Changed: []string{}, Secret: made.Secret}, err
		}
		if err != nil {
			return Applied{}, err
		}
		changed, err := differences(stored, c)
		if err != nil || len(changed) == 0 {
			return Applied{ID: c.ID, Outcome: "unchanged", Changed: []string{}}, err
		}
		c.Version = stored.Version
		updated, err := s.Update(ctx, c, o)
		if errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound) {
			continue
		}
		return Applied{ID: c.ID, Outcome: "updated", Changed: changed, Secret: updated.Secret}, err
	}
}

// differences are the members of the client objects that differ, in their order, but for those that only the server sets.
func differences(a, b Client) ([]string, error) {
	b.CreatedAt = a.CreatedAt
	var members [2]map[string]any
	for i, c := range []Client{a, b} {
		c.Secret = ""
		text, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(text, &members[i])
		}
		if err != nil {
			return nil, err
		}
	}
	names := []string{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[wire]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !reflect.DeepEqual(members[0][name], members[1][name]) {
			names = append(names, name)
		}
	}
	return names, nil
}
