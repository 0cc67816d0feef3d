package storagetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"

	"signet/audit"
	"signet/keys"
	"signet/storage"
	"signet/storage/storagetest"
	"signet/users"
)

func newImport(name string) users.NewUser {
	u := newUser(name)
	e := newEvent(audit.UserCreated)
	e.UserID = u.ID
	return users.NewUser{User: u, Canonical: users.Canonical(name), Event: e}
}

// imports returns how many of the users went in, and checks which did not for their address.
func (w *world) imports(t *testing.T, taken []int, list ...users.NewUser) int {
	t.Helper()
	n, got, err := w.ImportUsers(t.Context(), list)
	check(t, err)
	if !slices.Equal(got, taken) {
		t.Errorf("the addresses of %v are taken, want %v", got, taken)
	}
	return n
}

func TestImportUsers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		bob := w.addUser(t, "Bob")
		ann, other, dora := newImport("Ann"), newImport("BOB"), newImport("dora")
		dora.Admin = true
		w.writes(t, func() {
			if n := w.imports(t, nil, dora, other, ann); n != 2 {
				t.Errorf("%d were imported, want 2", n)
			}
		}, byID(dora.Event, ann.Event)...)
		equal(t, "who was there", ok[users.User](t)(w.User(t.Context(), "bob")), bob)
		for _, n := range []users.NewUser{ann, dora} {
			got := ok[users.User](t)(w.User(t.Context(), n.Canonical))
			recent(t, "the time of creation", got.CreatedAt)
			n.CreatedAt = got.CreatedAt
			equal(t, n.Username, got, n.User)
		}
		w.writes(t, func() { // again, as another run would
			if n := w.imports(t, nil, newImport("ANN"), newImport("bob"), newImport("Dora")); n != 0 {
				t.Errorf("%d were imported again", n)
			}
			if n := w.imports(t, nil); n != 0 {
				t.Errorf("%d of none were imported", n)
			}
		})
	})
}

// Profiles go in as they are, and of a verified address there is one, whoever comes first. Who exists is left alone all the same.
func TestImportProfiles(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		with := func(name, email string, verified bool) users.NewUser {
			u := newImport(name)
			u.Profile = users.Profile{Email: email, EmailVerified: verified, Groups: []string{"staff"}, Claims: map[string]json.RawMessage{"level": json.RawMessage(`3`)}}
			return u
		}
		ann := with("ann", "Ann@Example.com", true)
		if n := w.imports(t, []int{1}, ann, with("bob", "ann@example.COM", true), with("carol", "ann@example.com", false), newImport("dora")); n != 3 {
			t.Errorf("%d were imported", n)
		}
		got := ok[users.User](t)(w.UserByEmail(t.Context(), "ann@example.com"))
		recent(t, "the time of the profile", got.UpdatedAt)
		ann.CreatedAt, ann.UpdatedAt = got.CreatedAt, got.UpdatedAt
		equal(t, "ann", got, ann.User)
		if dora := ok[users.User](t)(w.User(t.Context(), "dora")); !dora.Empty() {
			t.Errorf("without a profile: %+v", dora.Profile)
		}
		if n := w.imports(t, []int{2}, with("ANN", "ann@example.com", true), with("carol", "ann@example.com", true), with("erin", "ann@example.com", true)); n != 0 {
			t.Errorf("%d were imported again", n)
		}
		if n := w.eventCount(t); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

func TestImportOfProfiles(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ann := w.addUser(t, "ann")
		p := users.Profile{Email: "ann@example.com", EmailVerified: true}
		_, err := w.ChangeUser(t.Context(), ann.ID, users.Changes{Profile: &p, OldProfile: &ann.Profile}, nil)
		check(t, err)
		row := func(name, rest string) string {
			return fmt.Sprintf("{\"username\":%q,\"password_hash\":%q,%s}\n", name, somebodys, rest)
		}
		file := row("bob", `"email":"ann@example.com","email_verified":true`) + row("carol", `"email":"c@example.com","email_verified":true,"name":"Carol"`) +
			row("dora", `"email":"C@example.com","email_verified":true`) + row("erin", `"email":"C@example.com"`) + row("frank", `"claims":{"sub":1}`) +
			row("gina", `"claims":{"n":1e400}`) + row("hank", `"email_verified":true`) + row("ann", `"name":"Another"`)
		for _, want := range []users.ImportResult{{Imported: 2, Existing: 1, Bad: 5}, {Existing: 3, Bad: 5}} {
			got, bad, err := importFile(t.Context(), t, w, strings.NewReader(file))
			check(t, err)
			equal(t, "result", got, want)
			equal(t, "bad rows", bad, []string{
				"3 email: the same, and verified, is in line 2", `5 claims: "sub" has a meaning of its own: choose another name`,
				"6 claims: holds a number that is too large, or too small, for a 64-bit float", "7 email_verified: there is no email to be verified",
				"1 " + users.ErrEmailTaken.Error(),
			})
		}
		csv := "username,password_hash,groups,name,email,email_verified,claims\nian," + somebodys + ",a;b,Ian,,," + `"{""level"":3}"` + "\njohn," + somebodys + ",,,j,true,\n"
		got, bad, err := importFile(t.Context(), t, w, strings.NewReader(csv))
		check(t, err)
		equal(t, "result", got, users.ImportResult{Imported: 1, Bad: 1})
		equal(t, "bad rows", bad, []string{"3 email: must be an e-mail address such as ann@example.com"})
		ian := ok[users.User](t)(w.User(t.Context(), "ian")).Profile
		ian.UpdatedAt = time.Time{}
		equal(t, "ian", ian, users.Profile{Name: "Ian", Groups: []string{"a", "b"}, Claims: map[string]json.RawMessage{"level": json.RawMessage("3")}})
		if now := ok[users.User](t)(w.User(t.Context(), "ann")); now.Name != "" {
			t.Errorf("who existed is now %+v", now)
		}
	})
}

// byID sorts events as the record does, whatever the order in which they were written.
func byID(events ...audit.Event) []audit.Event {
	slices.SortFunc(events, func(a, b audit.Event) int { return strings.Compare(a.ID, b.ID) })
	return events
}

// Of two imports of the same names at once, in opposite orders, each name goes in once, with one event.
func TestImportUsersAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const names, times = 200, 6
		stores := w.pair(t)
		var imported atomic.Int64
		atOnce(t, times, func(i int) (bool, error) {
			list := make([]users.NewUser, names)
			for n := range list {
				at := n
				if i%2 == 1 {
					at = names - 1 - n
				}
				list[at] = newImport(fmt.Sprint("user ", n))
			}
			n, _, err := stores[i%2].ImportUsers(t.Context(), list)
			imported.Add(int64(n))
			return true, err
		})
		if got := w.Int(t, `SELECT count(*) FROM users`); got != names || imported.Load() != names || w.eventCount(t) != names {
			t.Errorf("%d users, %d told, %d events; want %d", got, imported.Load(), w.eventCount(t), names)
		}
	})
}

func userService(t testing.TB, s storage.Store) *users.Service {
	t.Helper()
	secret := ok[keys.Secret](t)(keys.ParseSecret(keys.NewSecret()))
	return users.New(s, users.Config{Secret: secret, MaxFailures: 5, Window: time.Minute}, slog.New(slog.DiscardHandler))
}

var importer = audit.Origin{Actor: "cli:tester"}

// importFile imports the file, and returns what was said of its bad rows.
func importFile(ctx context.Context, t testing.TB, s storage.Store, file io.Reader) (users.ImportResult, []string, error) {
	t.Helper()
	var bad []string
	result, err := userService(t, s).Import(ctx, file, importer, func(b users.BadRow) { bad = append(bad, fmt.Sprint(b.Line, " ", b.Reason)) })
	return result, bad, err
}

const (
	importHeader = "username,password_hash\n"
	somebodys    = "$2b$12$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234"
)

func TestImport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.addUser(t, "Bob")
		file := importHeader + "Ann," + somebodys + "\nBOB," + somebodys + "\nann,plain\n\"c\nc\"," + somebodys + "\nANN," + somebodys + "\ndora," + somebodys + "\nDora,x\n"
		wantBad := []string{
			"4 password_hash: must be bcrypt ($2a$, $2b$ or $2y$), argon2id or scrypt, the latter two in PHC form",
			"5 " + users.ErrUsername.Error(), "7 username: the same, without regard to case, is in line 2",
			"9 password_hash: must be bcrypt ($2a$, $2b$ or $2y$), argon2id or scrypt, the latter two in PHC form",
		}
		for round, want := range []users.ImportResult{{Imported: 2, Existing: 1, Bad: 4}, {Imported: 0, Existing: 3, Bad: 4}} {
			before := w.eventCount(t)
			got, bad, err := importFile(t.Context(), t, w, strings.NewReader(file))
			check(t, err)
			equal(t, "result", got, want)
			equal(t, "bad rows", bad, wantBad)
			if n := w.eventCount(t) - before; n != want.Imported {
				t.Errorf("round %d: %d events", round, n)
			}
		}
		ann := ok[users.User](t)(w.User(t.Context(), "ann"))
		if ann.Username != "Ann" || ann.PasswordHash != somebodys || ann.Admin || ann.Disabled {
			t.Errorf("imported as %+v", ann)
		}
		events := ok[[]audit.Event](t)(w.Events(t.Context(), audit.Filter{UserID: ann.ID, Limit: all}))
		if len(events) != 1 || events[0].Type != audit.UserCreated || events[0].Detail != "imported" || events[0].Actor != importer.Actor {
			t.Errorf("recorded as %+v", events)
		}
	})
}

// Passwords that another program has hashed are good for a login, and the first one replaces the hash.
func TestImportedUsersLogIn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const password = "correct horse"
		hash := func(d algorithm.Digest, err error) string {
			check(t, err)
			return d.Encode()
		}
		b := ok[*bcrypt.Hasher](t)(bcrypt.New(bcrypt.WithIterations(10)))
		a := ok[*argon2.Hasher](t)(argon2.New(argon2.WithVariantID(), argon2.WithM(8*1024), argon2.WithT(1), argon2.WithP(2)))
		s := ok[*scrypt.Hasher](t)(scrypt.New(scrypt.WithLN(10)))
		bcryptHash := hash(b.Hash(password))
		hashes := map[string]string{
			"bcrypt 2b": bcryptHash, "bcrypt 2a": strings.Replace(bcryptHash, "$2b$", "$2a$", 1), "bcrypt 2y": strings.Replace(bcryptHash, "$2b$", "$2y$", 1),
			"argon2id": hash(a.Hash(password)), "scrypt": hash(s.Hash(password)),
		}
		var file strings.Builder
		for name, hash := range hashes {
			fmt.Fprintf(&file, "{\"username\": %q, \"password_hash\": %q}\n", name, hash)
		}
		result, bad, err := importFile(t.Context(), t, w, strings.NewReader(file.String()))
		check(t, err)
		if result.Imported != len(hashes) || len(bad) > 0 {
			t.Fatalf("%+v, %q", result, bad)
		}
		service := userService(t, w)
		for name, hash := range hashes {
			if _, err := service.Authenticate(t.Context(), name, "wrong horse", "app", audit.Origin{Address: name}); !errors.Is(err, users.ErrBadCredentials) {
				t.Errorf("%s: a wrong password: %v", name, err)
			}
			for range 2 {
				if _, err := service.Authenticate(t.Context(), name, password, "app", audit.Origin{Address: name}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if now := ok[users.User](t)(w.User(t.Context(), name)).PasswordHash; now == hash || !strings.HasPrefix(now, "$argon2id$v=19$m=19456,t=2,p=1$") {
					t.Errorf("%s: the hash is now %q", name, now)
				}
			}
		}
	})
}

// manyUsers is a file of n users, with a bad row in the line bad.
func manyUsers(n, bad int) string {
	var file strings.Builder
	file.WriteString(importHeader)
	for line := 2; line < n+2; line++ {
		hash := somebodys
		if line == bad {
			hash = "none"
		}
		fmt.Fprintf(&file, "user%d@example.com,%s\n", line, hash)
	}
	return file.String()
}

// Whatever stops an import, what is in is whole batches, the error tells where it stopped, and another run does the rest.
func TestImportStops(t *testing.T) {
	for name, stop := range map[string]func(w *world, s storage.Store, cancel func(), r *io.PipeWriter){
		"interrupted":     func(_ *world, _ storage.Store, cancel func(), _ *io.PipeWriter) { cancel() },
		"database gone":   func(_ *world, s storage.Store, _ func(), _ *io.PipeWriter) { s.Close() },
		"file unreadable": func(_ *world, _ storage.Store, _ func(), r *io.PipeWriter) { _ = r.CloseWithError(io.ErrNoProgress) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				const rows, badLine = 4500, 2500
				file := manyUsers(rows, badLine)
				second := ok[storage.Store](t)(storage.Open(t.Context(), w.URL, nil))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r, writer := io.Pipe()
				go func() { _, _ = io.Copy(writer, strings.NewReader(file)); _ = writer.Close() }()
				result, err := userService(t, second).Import(ctx, r, importer, func(users.BadRow) { stop(w, second, cancel, writer) })
				_ = r.Close()
				if name != "database gone" {
					second.Close()
				}
				var stopped *users.StoppedError
				if !errors.As(err, &stopped) || strings.Contains(err.Error(), "$2b$") {
					t.Fatalf("%v", err)
				}
				in := stopped.Line - 2 // the header, and the line itself
				if stopped.Line > badLine {
					in-- // what was read ahead of the failure went in, too
				}
				if in < 2000 || in >= rows-1 || in%1000 != 0 {
					t.Errorf("stopped before line %d", stopped.Line)
				}
				equal(t, "result", result, users.ImportResult{Imported: in, Bad: 1})
				if n := int(w.Int(t, `SELECT count(*) FROM users`)); n != in || w.eventCount(t) != in {
					t.Errorf("%d users, %d events, want %d", n, w.eventCount(t), in)
				}
				result, _, err = importFile(t.Context(), t, w, strings.NewReader(file))
				check(t, err)
				equal(t, "the rest", result, users.ImportResult{Imported: rows - 1 - in, Existing: in, Bad: 1})
			})
		})
	}
}

// A hundred thousand users are a matter of seconds. The bound is for machines that have other things to do.
func TestImportIsFast(t *testing.T) {
	t.Parallel()
	const n = 100_000
	s := ok[storage.Store](t)(storage.Open(t.Context(), storagetest.Postgres(t), nil))
	t.Cleanup(s.Close)
	check(t, s.Migrate(t.Context()))
	file := manyUsers(n, 0)
	began := time.Now()
	result, _, err := importFile(t.Context(), t, s, strings.NewReader(file))
	check(t, err)
	equal(t, "result", result, users.ImportResult{Imported: n})
	took := time.Since(began)
	t.Logf("%d users in %s", n, took)
	if took > 3*time.Minute {
		t.Errorf("%d users took %s", n, took)
	}
}
