package storagetest_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/tokens"
	"signet/users"
)

// What the database says of the holder of an active access token is what it holds, not what the token says.
func TestAccessTokenHolder(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, u := w.addClient(t, "one"), w.addUser(t, "ann")
		n := w.addSession(t, c, u)
		exp := time.Now().Add(time.Hour).Truncate(time.Second)
		find := func(at tokens.AccessToken) tokens.Holder {
			t.Helper()
			h, active, err := w.AccessTokenHolder(t.Context(), at)
			if err != nil || !active {
				t.Fatalf("%t, %v", active, err)
			}
			recent(t, "now", h.Now)
			h.Now = time.Time{}
			return h
		}
		at := tokens.AccessToken{ID: "jti", ClientID: "one", ExpiresAt: exp, SessionID: n.ID, UserID: u.ID}
		st := w.state(t, use(n, 0), 0)
		want := tokens.Holder{Username: "ann", Scope: n.Scope, Audience: n.Audience, SessionEnd: st.End}
		equal(t, "a user's", find(at), want)
		_, err := w.ChangeUser(t.Context(), u.ID, users.Changes{Admin: new(true)}, nil)
		check(t, err)
		want.Admin = true
		equal(t, "an admin's", find(at), want)
		equal(t, "a client's", find(tokens.AccessToken{ID: "jti", ClientID: "one", ExpiresAt: exp, ClientEpoch: c.Epoch}),
			tokens.Holder{Scope: c.Scope, Audience: c.Audience})
	})
}

// When all of a user's sessions end but one, that one lives on, in every way, and nobody else's is touched.
func TestSessionThatLivesOn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, ann, bob := w.addClient(t, "one"), w.addUser(t, "ann"), w.addUser(t, "bob")
		kept, ended, others := w.addSession(t, c, ann), w.addSession(t, c, ann), w.addSession(t, c, bob)
		before := w.addSession(t, c, ann)
		userEpochs := func(change users.Changes) {
			t.Helper()
			_, err := w.ChangeUser(t.Context(), ann.ID, change, []audit.Event{newEvent(audit.UserLoggedOut)})
			check(t, err)
		}
		live := func(n tokens.NewSession) bool {
			t.Helper()
			return w.state(t, use(n, 0), 0).Live
		}
		sessionRevoked(t, w, before)
		userEpochs(users.Changes{EndSessions: true, Except: kept.ID.String()})
		if !live(kept) || live(ended) || !live(others) || live(before) {
			t.Errorf("alive: kept %t, ended %t, another user's %t, revoked before %t", live(kept), live(ended), live(others), live(before))
		}
		userEpochs(users.Changes{PasswordHash: new("second"), Except: kept.ID.String()})
		if !live(kept) || live(ended) {
			t.Errorf("alive after a new password: kept %t, ended %t", live(kept), live(ended))
		}
		if _, rotated, err := w.Rotate(t.Context(), use(kept, 0), nil); err != nil || !rotated {
			t.Errorf("the kept session cannot be refreshed: %t, %v", rotated, err)
		}
		// A session that had ended before is not brought back, nor is one of somebody else.
		userEpochs(users.Changes{EndSessions: true, Except: ended.ID.String()})
		userEpochs(users.Changes{EndSessions: true, Except: others.ID.String()})
		userEpochs(users.Changes{EndSessions: true, Except: uuid.NewString()})
		if live(kept) || live(ended) || !live(others) {
			t.Errorf("alive at the end: kept %t, ended %t, another user's %t", live(kept), live(ended), live(others))
		}
	})
}

// A user ends sessions of its own alone.
func TestRevokeSessionOfUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, ann, bob := w.addClient(t, "one"), w.addUser(t, "ann"), w.addUser(t, "bob")
		n := w.addSession(t, c, ann)
		w.writes(t, func() {
			if ok[bool](t)(w.RevokeSession(t.Context(), n.ID, bob.ID, "for a test", newEvent(audit.SessionRevoked))) {
				t.Error("another user revoked it")
			}
		})
		if !ok[bool](t)(w.RevokeSession(t.Context(), n.ID, ann.ID, "for a test", newEvent(audit.SessionRevoked))) {
			t.Error("its own user did not revoke it")
		}
	})
}
