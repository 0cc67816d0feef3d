package clients

import (
	"context"
	"maps"
	"strings"

	"signet/audit"
)

// Described is a scope and what it lets a client do, in words for the user who is asked.
type Described struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// maxDescription is the most characters of a description: a line or two of a page.
const maxDescription = 500

// Validate checks name and description. Its errors are FieldErrors.
func (d Described) Validate() error {
	if len(d.Name) > maxIDLength || !isScopeToken(d.Name) {
		return invalid("name", "must be 1 to %d visible ASCII characters, none of them a quotation mark or a backslash", maxIDLength)
	}
	if Reserved(d.Name) && d.Name != ScopeAdmin && d.Name != ScopeAccount {
		return invalid("name", "%q is reserved; Signet's own scopes are %s and %s", d.Name, ScopeAdmin, ScopeAccount)
	}
	if !isLine(d.Description, maxDescription) {
		return invalid("description", "must be 1 to %d characters, not all blank, and none of them control characters", maxDescription)
	}
	return nil
}

// Scopes returns the scopes that are described, in the order of their names. Scopes that Signet knows itself are among them only
// where somebody has described them anew.
func (s *Service) Scopes(ctx context.Context) ([]Described, error) { return s.store.Scopes(ctx) }

// ScopeDescriptions returns the descriptions by the scopes' names, as they were within the last moment.
func (s *Service) ScopeDescriptions(ctx context.Context) (map[string]string, error) {
	known, err := s.descriptions.get(ctx, func(ctx context.Context) (map[string]string, error) {
		list, err := s.store.Scopes(ctx)
		m := make(map[string]string, len(list))
		for _, d := range list {
			m[d.Name] = d.Description
		}
		return m, err
	})
	return maps.Clone(known), err
}

// DescribeScope says what a scope lets a client do, and returns what is kept of it. Its errors are FieldErrors, or the database's.
func (s *Service) DescribeScope(ctx context.Context, name, description string, o audit.Origin) (Described, error) {
	d := Described{Name: name, Description: strings.TrimSpace(description)}
	if err := d.Validate(); err != nil {
		return Described{}, err
	}
	e := scopeEvent(audit.ScopeUpdated, name, o)
	return d, s.scopeChanged(ctx, e, s.store.DescribeScope(ctx, d, e))
}

// ForgetScope deletes the description of a scope, or returns ErrNoScope. Clients keep the scope.
func (s *Service) ForgetScope(ctx context.Context, name string, o audit.Origin) error {
	if !isScopeToken(name) {
		return ErrNoScope
	}
	e := scopeEvent(audit.ScopeDeleted, name, o)
	return s.scopeChanged(ctx, e, s.store.ForgetScope(ctx, name, e))
}

func scopeEvent(t audit.Type, name string, o audit.Origin) audit.Event {
	e := audit.New(t, o)
	e.Detail = name
	return e
}

func (s *Service) scopeChanged(ctx context.Context, e audit.Event, err error) error {
	if err == nil {
		s.descriptions.forget()
		e.Log(ctx, s.log)
	}
	return err
}
