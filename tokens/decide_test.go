package tokens

import (
	"errors"
	"testing"
	"time"

	"signet/clients"
)

// good is a use of token 5 and the state of a session that it could be used on: each case breaks one thing.
func good() (State, Use) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	return State{
		Grant:    Grant{UserID: "ann", Scope: clients.Scope{"read", "write"}, Audience: []string{"https://a", "https://b"}, Now: now, End: now.Add(time.Hour)},
		ClientID: "app", Genuine: true, Live: true, Sequence: 5, LastUsedAt: now.Add(-time.Minute), IdleEnd: now.Add(time.Hour),
	}, Use{ClientID: "app", From: 5, To: 6}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	type change = func(st *State, u *Use)
	retry := func(st *State, _ *Use) { st.Sequence, st.InWindow = 6, true }
	theft := func(st *State, _ *Use) { st.Sequence, st.InWindow = 7, true }
	behind := func(st *State, _ *Use) { st.Sequence = 4 }
	stays := func(_ *State, u *Use) { u.To = u.From }
	wide := func(_ *State, u *Use) { u.Scope = clients.Scope{"read", "admin"} }
	far := func(_ *State, u *Use) { u.Audience = []string{"https://c"} }
	for _, c := range []struct {
		name    string
		changes []change
		unknown bool
		want    Outcome
		err     error
	}{
		{name: "it could be used after all", want: Rotated},
		{name: "unknown session", unknown: true, want: Rejected, err: ErrInvalidGrant},
		{name: "wrong secret", changes: []change{func(st *State, _ *Use) { st.Genuine = false }}, want: Rejected, err: ErrInvalidGrant},
		{name: "another client", changes: []change{func(_ *State, u *Use) { u.ClientID = "other" }}, want: Rejected, err: ErrInvalidGrant},
		{name: "ended", changes: []change{func(st *State, _ *Use) { st.Live = false }}, want: Rejected, err: ErrInvalidGrant},
		{name: "idle for too long", changes: []change{func(st *State, _ *Use) { st.IdleEnd = st.Now.Add(-time.Hour) }}, want: Rejected, err: ErrInvalidGrant},
		{name: "idle to the moment", changes: []change{func(st *State, _ *Use) { st.IdleEnd = st.Now }}, want: Rejected, err: ErrInvalidGrant},
		{name: "a moment before the idle end", changes: []change{func(st *State, _ *Use) { st.IdleEnd = st.Now.Add(time.Microsecond) }}, want: Rotated},

		{name: "the last one used, in the window", changes: []change{retry}, want: Retried},
		{name: "the last one used, after the window", changes: []change{func(st *State, _ *Use) { st.Sequence = 6 }}, want: Reused},
		{name: "the one before, in the window", changes: []change{theft}, want: Reused},
		{name: "the one before, after the window", changes: []change{func(st *State, _ *Use) { st.Sequence = 7 }}, want: Reused},
		{name: "far behind", changes: []change{func(st *State, _ *Use) { st.Sequence = 1 << 40 }}, want: Reused},
		{name: "newer than the row by one", changes: []change{behind}, want: CaughtUp},
		{name: "newer than the row by far", changes: []change{func(st *State, _ *Use) { st.Sequence = 0 }}, want: CaughtUp},
		{name: "newer than the row, in a window", changes: []change{behind, func(st *State, _ *Use) { st.InWindow = true }}, want: CaughtUp},

		{name: "more scope", changes: []change{wide}, want: Rejected, err: ErrInvalidScope},
		{name: "less scope", changes: []change{func(_ *State, u *Use) { u.Scope = clients.Scope{"read"} }}, want: Rotated},
		{name: "no scope", changes: []change{func(_ *State, u *Use) { u.Scope = clients.Scope{} }}, want: Rotated},
		{name: "another audience", changes: []change{far}, want: Rejected, err: ErrInvalidTarget},
		{name: "one audience of two", changes: []change{func(_ *State, u *Use) { u.Audience = []string{"https://b"} }}, want: Rotated},
		{name: "more scope, another audience", changes: []change{wide, far}, want: Rejected, err: ErrInvalidScope},

		{name: "it stays, and could be used after all", changes: []change{stays}, want: Rotated},
		{name: "it stays, in a window", changes: []change{stays, func(st *State, _ *Use) { st.InWindow = true }}, want: Rotated},
		{name: "it stays, more scope", changes: []change{stays, wide}, want: Rejected, err: ErrInvalidScope},
		{name: "it stays, another audience", changes: []change{stays, far}, want: Rejected, err: ErrInvalidTarget},
		{name: "it stays, and was rotated a moment ago", changes: []change{stays, retry}, want: Rejected, err: ErrInvalidGrant},
		{name: "it stays, and was rotated long ago", changes: []change{stays, func(st *State, _ *Use) { st.Sequence = 6 }}, want: Reused},
		{name: "it stays, and was rotated twice", changes: []change{stays, theft}, want: Reused},
		{name: "it stays, newer than the row", changes: []change{stays, behind}, want: CaughtUp},

		// What is asked for never hides theft, and never makes a retry or a catching up of what is refused.
		{name: "theft and more scope", changes: []change{theft, wide}, want: Reused},
		{name: "theft and another audience", changes: []change{theft, far}, want: Reused},
		{name: "a retry for more scope", changes: []change{retry, wide}, want: Rejected, err: ErrInvalidScope},
		{name: "a retry for another audience", changes: []change{retry, far}, want: Rejected, err: ErrInvalidTarget},
		{name: "behind, for more scope", changes: []change{behind, wide}, want: Rejected, err: ErrInvalidScope},
		// A dead session or another client's is no theft: there is nothing left to end, or nobody to tell.
		{name: "theft by another client", changes: []change{theft, func(_ *State, u *Use) { u.ClientID = "other" }}, want: Rejected, err: ErrInvalidGrant},
		{name: "theft of what ended", changes: []change{theft, func(st *State, _ *Use) { st.Live = false }}, want: Rejected, err: ErrInvalidGrant},
		{name: "theft of what was idle for too long", changes: []change{theft, func(st *State, _ *Use) { st.IdleEnd = st.Now }}, want: Rejected, err: ErrInvalidGrant},
		{name: "theft with a wrong secret", changes: []change{theft, func(st *State, _ *Use) { st.Genuine = false }}, want: Rejected, err: ErrInvalidGrant},
		{name: "a retry of what ended", changes: []change{retry, func(st *State, _ *Use) { st.Live = false }}, want: Rejected, err: ErrInvalidGrant},
		{name: "a retry by another client", changes: []change{retry, func(_ *State, u *Use) { u.ClientID = "other" }}, want: Rejected, err: ErrInvalidGrant},
		{name: "behind, of what ended", changes: []change{behind, func(st *State, _ *Use) { st.Live = false }}, want: Rejected, err: ErrInvalidGrant},
		{name: "behind, with a wrong secret", changes: []change{behind, func(st *State, _ *Use) { st.Genuine = false }}, want: Rejected, err: ErrInvalidGrant},
	} {
		st, u := good()
		for _, change := range c.changes {
			change(&st, &u)
		}
		if got, err := decide(st, !c.unknown, u); got != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %s, %v; want %s, %v", c.name, got, err, c.want, c.err)
		}
	}
}
