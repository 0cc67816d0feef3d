// Package audit keeps the record of security events: who did what, from where, to which client, user or session.
//
// Events are written by the storage in the same transaction as the change that they tell of, so that neither exists
// without the other. Refreshes are not recorded one by one; what is recorded is what an investigator asks about.
package audit

import (
	"context"
	"encoding/binary"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Type names what happened. The values are part of the public contract.
type Type string

// The events of logins, sessions and tokens.
const (
	LoginFailed                  Type = "login.failed"
	LoginThrottled               Type = "login.throttled"
	SessionCreated               Type = "session.created"
	SessionRevoked               Type = "session.revoked"
	RefreshTokenReused           Type = "refresh_token.reused"
	RefreshTokenRetriedElsewhere Type = "refresh_token.retried_elsewhere"
	RefreshTokenCaughtUp         Type = "refresh_token.caught_up"
	AccessTokenRevoked           Type = "access_token.revoked"
	LoginSucceeded               Type = "login.succeeded" // by browser
	Logout                       Type = "logout"          // likewise
	CodeReused                   Type = "authorization_code.reused"
	ConsentGranted               Type = "consent.granted"
	ConsentWithdrawn             Type = "consent.withdrawn"
	FactorAdded                  Type = "factor.added"
	FactorRemoved                Type = "factor.removed"
	FactorFailed                 Type = "factor.failed"
	ProofReplayed                Type = "dpop.replayed"
)

// The events of administration.
const (
	ClientCreated       Type = "client.created"
	ClientUpdated       Type = "client.updated"
	ClientDeleted       Type = "client.deleted"
	ClientDisabled      Type = "client.disabled"
	ClientEnabled       Type = "client.enabled"
	ClientSecretRotated Type = "client.secret_rotated"
	ClientRegistered    Type = "client.registered" // by itself

	RegistrationTokenCreated Type = "registration_token.created"
	RegistrationTokenRevoked Type = "registration_token.revoked"

	ScopeUpdated Type = "scope.updated"
	ScopeDeleted Type = "scope.deleted"

	UserCreated         Type = "user.created"
	UserUpdated         Type = "user.updated"
	UserDeleted         Type = "user.deleted"
	UserDisabled        Type = "user.disabled"
	UserEnabled         Type = "user.enabled"
	UserPasswordChanged Type = "user.password_changed"
	UserLoggedOut       Type = "user.logged_out"
	UserInvited         Type = "user.invited"

	PasswordResetRequested Type = "password_reset.requested" // a link was made
	PasswordResetUsed      Type = "password_reset.used"

	KeyCreated Type = "key.created"
	KeyRotated Type = "key.rotated"
	KeyRevoked Type = "key.revoked"

	ServiceInterrupted Type = "service.interrupted" // the database, or every replica, was away
)

// Types lists every event type, in the order in which a reader would look for one.
var Types = []Type{
	LoginSucceeded, LoginFailed, LoginThrottled, Logout, FactorAdded, FactorRemoved, FactorFailed,
	ConsentGranted, ConsentWithdrawn, CodeReused, ProofReplayed,
	SessionCreated, SessionRevoked,
	RefreshTokenReused, RefreshTokenRetriedElsewhere, RefreshTokenCaughtUp, AccessTokenRevoked,
	ClientCreated, ClientUpdated, ClientDeleted, ClientDisabled, ClientEnabled, ClientSecretRotated, ClientRegistered,
	RegistrationTokenCreated, RegistrationTokenRevoked, ScopeUpdated, ScopeDeleted,
	UserCreated, UserUpdated, UserDeleted, UserDisabled, UserEnabled, UserPasswordChanged, UserLoggedOut, UserInvited,
	PasswordResetRequested, PasswordResetUsed, KeyCreated, KeyRotated, KeyRevoked, ServiceInterrupted,
}

// Event is one entry of the record. Members without a value are left out of its JSON.
type Event struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"` // set by the database when the event is written
	Type      Type      `json:"type"`
	Actor     string    `json:"actor,omitempty"` // who did it: a user or client id, "cli:NAME" or "server"
	ClientID  string    `json:"client_id,omitempty"`
	UserID    string    `json:"user_id,omitempty"`
	SessionID string    `json:"session_id,omitempty"`
	Address   string    `json:"address,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

// Origin is where a request came from. It is passed along to whatever may have to record an event.
type Origin struct {
	Actor     string
	Address   string
	UserAgent string // as it came; Agent is what is kept of it
	RequestID string
}

// maxAgent bounds what is kept of a User-Agent, in bytes.
const maxAgent = 256

// Agent is the User-Agent as it is kept: bounded, and text.
func (o Origin) Agent() string {
	agent := o.UserAgent[:min(len(o.UserAgent), maxAgent)]
	if !utf8.ValidString(agent) {
		agent = strings.ToValidUTF8(agent, "")
	}
	return agent
}

// New starts an event of type t that came from o. Its id grows with time, so that events sort by it.
func New(t Type, o Origin) Event {
	return Event{ID: uuid.Must(uuid.NewV7()).String(), Type: t, Actor: o.Actor, Address: o.Address, RequestID: o.RequestID}
}

// Log writes the event, which is in the database by now, to the structured log as well.
func (e Event) Log(ctx context.Context, log *slog.Logger) {
	attrs := make([]slog.Attr, 0, 8)
	for _, a := range []struct{ key, value string }{
		{"event", string(e.Type)}, {"actor", e.Actor}, {"client_id", e.ClientID}, {"user_id", e.UserID},
		{"session_id", e.SessionID}, {"remote_ip", e.Address}, {"request_id", e.RequestID}, {"detail", e.Detail},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	level := slog.LevelInfo
	if e.Type == RefreshTokenReused || e.Type == CodeReused || e.Type == LoginThrottled || e.Type == ServiceInterrupted {
		level = slog.LevelWarn
	}
	log.LogAttrs(ctx, level, "security event", attrs...)
}

// Filter selects events. Zero members select everything.
type Filter struct {
	Type     Type
	UserID   string
	ClientID string
	Since    time.Duration // how far back from the database's now; 0: no limit
	Before   string        // events older than the one with this id
	Limit    int
}

// idSkew is how far the clock that an event's id was made by, and the time until it was written, may be from its time at the most.
const idSkew = time.Hour

// maxSince is longer than any record, and short enough to compute with.
const maxSince = 100 * 365 * 24 * time.Hour

// FirstID is an id below those of all events that the filter's Since selects, so that a database need not look at older ones;
// empty if it selects all.
func (f Filter) FirstID() string {
	if f.Since == 0 {
		return ""
	}
	since := min(f.Since, maxSince)
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, time.Now().Add(-since-idSkew).UnixMilli()))<<16)
	return id.String()
}

// Store is what this package needs of a database.
type Store interface {
	// RecordEvent writes an event that stands for itself, without another change.
	RecordEvent(ctx context.Context, e Event) error
	// Events returns the selected events, newest first.
	Events(ctx context.Context, f Filter) ([]Event, error)
}
