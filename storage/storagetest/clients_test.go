package storagetest_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/keys"
)

func TestClientCreate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(c *clients.Client){
			"full":     func(*clients.Client) {},
			"public":   func(c *clients.Client) { c.AuthMethod, c.SecretDigest = clients.None, nil },
			"no lists": func(c *clients.Client) { c.Scope, c.Audience, c.RedirectURIs, c.BrowserOrigins = nil, nil, nil, nil },
			"disabled": func(c *clients.Client) { c.Disabled = true },
			"unnamed":  func(c *clients.Client) { c.Name, c.ResourceServer = "", false },
		} {
			t.Run(name, func(t *testing.T) {
				want := newClient(name)
				change(&want)
				e := newEvent(audit.ClientCreated)
				w.writes(t, func() {
					got := ok[clients.Client](t)(w.CreateClient(t.Context(), want, e))
					recent(t, "the time of creation", got.CreatedAt)
					want.CreatedAt, want.Version = got.CreatedAt, 1
					equal(t, "created", got, want)
				}, e)
				equal(t, "read", ok[clients.Client](t)(w.Client(t.Context(), name)), want)
				w.writes(t, func() {
					again := newClient(name)
					again.Name = "another"
					if _, err := w.CreateClient(t.Context(), again, newEvent(audit.ClientCreated)); !errors.Is(err, clients.ErrExists) {
						t.Errorf("again: %v", err)
					}
				})
				equal(t, "still", ok[clients.Client](t)(w.Client(t.Context(), name)), want)
			})
		}
	})
}

func TestClientUnknown(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.addClient(t, "another")
		w.writes(t, func() {
			for name, do := range map[string]func() error{
				"read": func() error { _, err := w.Client(t.Context(), "unknown"); return err },
				"update": func() error {
					_, err := w.update(t, newClient("unknown"), newEvent(audit.ClientUpdated))
					return err
				},
				"rotate": func() error {
					_, err := w.RotateClientSecret(t.Context(), "unknown", digest("new"), 0, newEvent(audit.ClientSecretRotated))
					return err
				},
				"disable": func() error {
					_, err := w.SetClientDisabled(t.Context(), "unknown", true, newEvent(audit.ClientDisabled))
					return err
				},
				"delete": func() error { return w.DeleteClient(t.Context(), "unknown", newEvent(audit.ClientDeleted)) },
			} {
				if err := do(); !errors.Is(err, clients.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	})
}

func TestClientUpdate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		old := w.addClient(t, "one")
		other := w.addClient(t, "other")
		want := clients.Client{
			ID: "one", Name: "new", Grants: []clients.Grant{clients.ClientCredentials}, AuthMethod: clients.SecretBasic,
			Scope: clients.Scope{"x"}, Audience: []string{"urn:y"}, SecretDigest: old.SecretDigest,
			CreatedAt: old.CreatedAt, Epoch: old.Epoch, Version: old.Version + 1, ApplicationType: clients.Web, IDTokenAlg: keys.RS256,
		}
		given := want
		given.Epoch, given.CreatedAt, given.Version, given.SecretDigest = 99, time.Time{}, 0, digest("new") // not metadata
		e := newEvent(audit.ClientUpdated)
		w.writes(t, func() {
			equal(t, "updated", ok[clients.Client](t)(w.update(t, given, e)), want)
		}, e)
		equal(t, "read", ok[clients.Client](t)(w.Client(t.Context(), "one")), want)
		equal(t, "the other", ok[clients.Client](t)(w.Client(t.Context(), "other")), other)
	})
}

// update is UpdateClient where the client is neither disabled nor enabled.
func (w *world) update(t *testing.T, c clients.Client, e audit.Event) (clients.Client, error) {
	t.Helper()
	c, toggled, err := w.UpdateClient(t.Context(), c, e, newEvent(audit.ClientDisabled))
	if toggled {
		t.Error("the update disabled or enabled the client")
	}
	return c, err
}

// Whether a client came by itself, no update changes: an admin's leaves it out, and it would be ours.
func TestClientUpdateKeepsWhereItCameFrom(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, registered := range []bool{true, false} {
			c := newClient(fmt.Sprint("registered-", registered))
			c.Registered = registered
			c = ok[clients.Client](t)(w.CreateClient(t.Context(), c, newEvent(audit.ClientCreated)))
			given := c
			given.Name, given.Registered = "renamed", !registered
			updated := ok[clients.Client](t)(w.update(t, given, newEvent(audit.ClientUpdated)))
			equal(t, "came by itself", updated.Registered, registered)
			equal(t, "name", updated.Name, "renamed")
		}
	})
}

// An update that disables a client ends its sessions and says so in the record, as one that enables it does; one that does
// neither does not.
func TestClientUpdateToggles(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.addClient(t, "one")
		for _, step := range []struct {
			disabled, toggled bool
			epoch             int64
		}{{true, true, 1}, {true, false, 1}, {false, true, 1}, {false, false, 1}, {true, true, 2}} {
			given, e, toggle := c, newEvent(audit.ClientUpdated), newEvent(audit.ClientDisabled)
			given.Disabled, given.Version = step.disabled, 0
			events := []audit.Event{e}
			if step.toggled {
				events = append(events, toggle)
			}
			w.writes(t, func() {
				got, toggled, err := w.UpdateClient(t.Context(), given, e, toggle)
				check(t, err)
				if toggled != step.toggled || got.Disabled != step.disabled || got.Epoch != c.Epoch+step.epoch {
					t.Errorf("to %t: %t, disabled %t, epoch %d", step.disabled, toggled, got.Disabled, got.Epoch-c.Epoch)
				}
			}, events...)
		}
	})
}

// Of any number of changes that began with the same version, one is made.
func TestClientUpdateOfAnOldVersion(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.addClient(t, "one")
		const racers = 8
		var made, refused atomic.Int64
		var racing sync.WaitGroup
		for i := range racers {
			racing.Go(func() {
				mine := c
				mine.Name = fmt.Sprint("racer ", i)
				switch _, err := w.update(t, mine, newEvent(audit.ClientUpdated)); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, clients.ErrChanged):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		racing.Wait()
		if made.Load() != 1 || refused.Load() != racers-1 {
			t.Errorf("%d made, %d refused", made.Load(), refused.Load())
		}
	})
}

// A client that becomes public must not be left with a way to prove itself.
func TestClientMadePublic(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.addClient(t, "one")
		_, err := w.RotateClientSecret(t.Context(), "one", digest("new"), time.Hour, newEvent(audit.ClientSecretRotated))
		check(t, err)
		c.AuthMethod, c.SecretDigest, c.Version = clients.None, nil, 0
		c = ok[clients.Client](t)(w.update(t, c, newEvent(audit.ClientUpdated)))
		if len(c.SecretDigest) != 0 || len(c.PreviousDigest) != 0 {
			t.Error("a public client has a secret")
		}
		c.AuthMethod, c.SecretDigest, c.Version = clients.SecretBasic, digest("third"), 0
		c = ok[clients.Client](t)(w.update(t, c, newEvent(audit.ClientUpdated)))
		equal(t, "digests", [][]byte{c.SecretDigest, c.PreviousDigest}, [][]byte{digest("third"), nil})
	})
}

// A client that was registered before there were details has the defaults.
func TestClientWithoutDetails(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		want := w.addClient(t, "one")
		w.Exec(t, `UPDATE clients SET details = '{}'`)
		got := ok[clients.Client](t)(w.Client(t.Context(), "one"))
		want = clients.Client{
			ID: want.ID, Name: want.Name, Grants: want.Grants, AuthMethod: want.AuthMethod, Scope: want.Scope, Audience: want.Audience,
			RedirectURIs: want.RedirectURIs, BrowserOrigins: want.BrowserOrigins, ResourceServer: want.ResourceServer, CreatedAt: want.CreatedAt,
			Version: want.Version, Epoch: want.Epoch, SecretDigest: want.SecretDigest, ApplicationType: clients.Web, IDTokenAlg: keys.RS256,
		}
		equal(t, "read", got, want)
	})
}

func TestClientList(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 25 {
			want = append(want, fmt.Sprintf("client-%02d", i))
			w.addClient(t, fmt.Sprintf("client-%02d", (i*7)%25))
		}
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := ok[[]clients.Client](t)(w.Clients(t.Context(), clients.Filter{After: after, Limit: 10}))
			if len(page) == 0 {
				break
			}
			if len(page) > 10 {
				t.Fatalf("%d on a page", len(page))
			}
			for _, c := range page {
				got = append(got, c.ID)
			}
		}
		equal(t, "ids", got, want)
	})
}

func TestClientRotateSecret(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.addClient(t, "one")
		e := newEvent(audit.ClientSecretRotated)
		w.writes(t, func() {
			c := ok[clients.Client](t)(w.RotateClientSecret(t.Context(), "one", digest("second"), time.Hour, e))
			equal(t, "answer", [][]byte{c.SecretDigest, c.PreviousDigest}, [][]byte{digest("second"), digest("secret")})
		}, e)
		good := func(what string, current, previous []byte) {
			t.Helper()
			c := ok[clients.Client](t)(w.Client(t.Context(), "one"))
			equal(t, what, [][]byte{c.SecretDigest, c.PreviousDigest}, [][]byte{current, previous})
		}
		good("at once", digest("second"), digest("secret"))
		w.Age(t, 59*time.Minute)
		good("within the overlap", digest("second"), digest("secret"))
		// An update by somebody who read the client before the rotation does not undo it.
		_, err := w.update(t, newClient("one"), newEvent(audit.ClientUpdated))
		check(t, err)
		good("after an update", digest("second"), digest("secret"))
		w.Age(t, time.Minute)
		good("after the overlap", digest("second"), nil)
		_, err = w.RotateClientSecret(t.Context(), "one", digest("third"), 0, newEvent(audit.ClientSecretRotated))
		check(t, err)
		good("without an overlap", digest("third"), nil)
	})
}

// A rotation that is repeated, because its answer was lost, leaves the old secret as good as it was to be.
func TestClientRotateSecretRepeated(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.addClient(t, "one")
		e := newEvent(audit.ClientSecretRotated)
		w.writes(t, func() {
			for range 2 {
				c := ok[clients.Client](t)(w.RotateClientSecret(t.Context(), "one", digest("second"), time.Hour, e))
				equal(t, "digests", [][]byte{c.SecretDigest, c.PreviousDigest}, [][]byte{digest("second"), digest("secret")})
			}
		}, e)
	})
}

func TestClientDisable(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.addClient(t, "one")
		for i, step := range []struct {
			kind     audit.Type
			disabled bool
			epoch    int64
		}{
			{audit.ClientDisabled, true, 1}, {audit.ClientEnabled, false, 1}, {audit.ClientDisabled, true, 2},
		} {
			e := newEvent(step.kind)
			w.writes(t, func() {
				got := ok[clients.Client](t)(w.SetClientDisabled(t.Context(), "one", step.disabled, e))
				want := c
				want.Disabled, want.Epoch, want.Version = step.disabled, c.Epoch+step.epoch, c.Version+int64(i)+1
				equal(t, "changed", got, want)
			}, e)
		}
	})
}

func TestClientDelete(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.addClient(t, "one")
		w.addClient(t, "two")
		e := newEvent(audit.ClientDeleted)
		w.writes(t, func() { check(t, w.DeleteClient(t.Context(), "one", e)) }, e)
		if _, err := w.Client(t.Context(), "one"); !errors.Is(err, clients.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		_, err := w.Client(t.Context(), "two")
		check(t, err)
	})
}

// The browser origins are those of the enabled clients, each once.
func TestBrowserOrigins(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for id, origins := range map[string][]string{
			"one": {"https://a.example.com", "https://b.example.com"}, "two": {"https://b.example.com", "https://c.example.com"}, "three": nil,
		} {
			c := newClient(id)
			c.BrowserOrigins = origins
			_, err := w.CreateClient(t.Context(), c, newEvent(audit.ClientCreated))
			check(t, err)
		}
		equal(t, "all", slices.Sorted(slices.Values(ok[[]string](t)(w.BrowserOrigins(t.Context())))),
			[]string{"https://a.example.com", "https://b.example.com", "https://c.example.com"})
		_, err := w.SetClientDisabled(t.Context(), "one", true, newEvent(audit.ClientDisabled))
		check(t, err)
		equal(t, "of the enabled", slices.Sorted(slices.Values(ok[[]string](t)(w.BrowserOrigins(t.Context())))),
			[]string{"https://b.example.com", "https://c.example.com"})
	})
}

// The redirect URIs of public clients are those of the enabled ones, each once.
func TestPublicRedirectURIs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for id, uris := range map[string][]string{
			"one": {"https://a.example.com/cb", "com.example.app:/cb"}, "two": {"https://a.example.com/cb", "https://b.example.com/cb"}, "three": nil, "secret": {"https://c.example.com/cb"},
		} {
			c := newClient(id)
			if c.RedirectURIs = uris; id != "secret" {
				c.AuthMethod, c.SecretDigest = clients.None, nil
			}
			_, err := w.CreateClient(t.Context(), c, newEvent(audit.ClientCreated))
			check(t, err)
		}
		equal(t, "all", slices.Sorted(slices.Values(ok[[]string](t)(w.PublicRedirectURIs(t.Context())))),
			[]string{"com.example.app:/cb", "https://a.example.com/cb", "https://b.example.com/cb"})
		_, err := w.SetClientDisabled(t.Context(), "one", true, newEvent(audit.ClientDisabled))
		check(t, err)
		equal(t, "of the enabled", slices.Sorted(slices.Values(ok[[]string](t)(w.PublicRedirectURIs(t.Context())))),
			[]string{"https://a.example.com/cb", "https://b.example.com/cb"})
	})
}

func TestScopes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		described := func(want ...clients.Described) {
			t.Helper()
			equal(t, "scopes", ok[[]clients.Described](t)(w.Scopes(t.Context())), want)
		}
		describe := func(name, description string) {
			t.Helper()
			e := newEvent(audit.ScopeUpdated)
			w.writes(t, func() {
				for range 2 { // as after a lost answer
					check(t, w.DescribeScope(t.Context(), clients.Described{Name: name, Description: description}, e))
				}
			}, e)
		}
		described()
		describe("read", "Read it’s \"ünïcode\"")
		describe("Read", "another")
		describe("https://api.example.com/a", "first")
		describe("read", "Read all")
		described(clients.Described{Name: "Read", Description: "another"}, clients.Described{Name: "https://api.example.com/a", Description: "first"},
			clients.Described{Name: "read", Description: "Read all"})
		e := newEvent(audit.ScopeDeleted)
		w.writes(t, func() { check(t, w.ForgetScope(t.Context(), "read", e)) }, e)
		w.writes(t, func() {
			if err := w.ForgetScope(t.Context(), "read", newEvent(audit.ScopeDeleted)); !errors.Is(err, clients.ErrNoScope) {
				t.Errorf("again: %v", err)
			}
		})
		described(clients.Described{Name: "Read", Description: "another"}, clients.Described{Name: "https://api.example.com/a", Description: "first"})
	})
}
