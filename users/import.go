package users

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"signet/audit"
)

// importBatch is how many users go into the database in one transaction: enough that its commit hardly counts, few enough
// that no request waits long for it.
const importBatch = 1000

// NewUser is a user to be made, the canonical name (see Canonical) under which it is unique, and the event that tells of it.
type NewUser struct {
	User

	Canonical string
	Event     audit.Event
}

// BadRow is a row of an imported file that is left out, by the line in which it begins.
type BadRow struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// ImportResult counts the rows of an imported file.
type ImportResult struct {
	Imported int `json:"imported"`
	Existing int `json:"existing"` // their users were there already and were left alone
	Bad      int `json:"bad"`
}

// StoppedError says that an import did not reach the end of the file. The users in the lines before Line are in.
type StoppedError struct {
	Line int
	Err  error
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("stopped before line %d: %v; the users in the lines before it are in, and running it again goes on from there", e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *StoppedError) Unwrap() error { return e.Err }

// Import makes users of the rows of a file, CSV or JSON lines, that has their names, the hashes of their passwords, and what else is
// known of them. Names that exist are left alone, so that the same file may be imported again. It calls bad for each row that it leaves out. A
// file that cannot be understood as a whole is an error, and nothing of it is imported; what keeps the import from reaching
// the file's end is a StoppedError.
//
// It keeps a batch of rows in memory, and a few dozen bytes for each user to know it again.
func (s *Service) Import(ctx context.Context, r io.Reader, o audit.Origin, bad func(BadRow)) (ImportResult, error) {
	file, err := openImport(r)
	if err != nil {
		return ImportResult{}, err
	}
	i := importer{
		Service: s, origin: o, bad: bad, seen: map[digest]int{}, emails: map[digest]int{}, batch: make([]NewUser, 0, importBatch), reached: 1,
	}
	for {
		if err := ctx.Err(); err != nil {
			return i.result, &StoppedError{i.reached, errors.New("interrupted")}
		}
		row, err := file.next()
		switch {
		case errors.Is(err, io.EOF):
			return i.result, i.write(ctx, row.line)
		case err != nil && ctx.Err() != nil:
			continue // the reader was told to stop, too
		case err != nil:
			return i.result, &StoppedError{i.reached, fmt.Errorf("cannot read the file: %w", err)}
		}
		if err := i.add(ctx, row); err != nil {
			return i.result, err
		}
	}
}

// digest stands for a canonical name, or an address: a file has many, and they can be long.
type digest [16]byte

func digestOf(text string) digest {
	sum := sha256.Sum256([]byte(text))
	return digest(sum[:])
}

// importer is an import under way.
type importer struct {
	*Service

	origin  audit.Origin
	bad     func(BadRow)
	result  ImportResult
	seen    map[digest]int // the line of each good row
	emails  map[digest]int // likewise, by the verified address
	batch   []NewUser
	lines   []int // of the batch
	reached int   // the first line of which it is not known that its user is in
}

// add takes one row, and writes the batch when it is full.
func (i *importer) add(ctx context.Context, r row) error {
	canonical := Canonical(r.username)
	u := User{ID: uuid.NewString(), Username: r.username, PasswordHash: r.hash}
	if r.reason == "" {
		var err error
		if u.Profile, err = i.check(r, digestOf(canonical)); err != nil {
			r.reason = err.Error()
		}
	}
	if r.reason != "" {
		i.leaveOut(r.line, r.reason)
		return nil
	}
	i.seen[digestOf(canonical)] = r.line
	if email := u.VerifiedEmail(); email != "" {
		i.emails[digestOf(email)] = r.line
	}
	if len(i.batch) == 0 {
		i.reached = r.line
	}
	e := event(audit.UserCreated, i.origin, u.ID)
	e.Detail = "imported"
	i.batch, i.lines = append(i.batch, NewUser{u, canonical, e}), append(i.lines, r.line)
	if len(i.batch) < importBatch {
		return nil
	}
	return i.write(ctx, r.line+1)
}

// leaveOut counts and tells of a bad row.
func (i *importer) leaveOut(line int, reason string) {
	i.result.Bad++
	i.bad(BadRow{line, reason})
}

// check returns the profile that is in the row, or what is wrong with the row.
func (i *importer) check(r row, name digest) (Profile, error) {
	if err := checkUsername(r.username); err != nil {
		return Profile{}, err
	}
	if err := i.hasher.checkForeign(r.hash); err != nil {
		return Profile{}, err
	}
	p, err := Profile{}.With(r.profile)
	if err != nil {
		return Profile{}, err
	}
	if line, twice := i.seen[name]; twice {
		return Profile{}, fmt.Errorf("username: the same, without regard to case, is in line %d", line)
	}
	if line, twice := i.emails[digestOf(p.VerifiedEmail())]; twice {
		return Profile{}, fmt.Errorf("email: the same, and verified, is in line %d", line)
	}
	return p, nil
}

// write writes the batch, behind which the file goes on at the line next.
func (i *importer) write(ctx context.Context, next int) error {
	if len(i.batch) > 0 {
		imported, taken, err := i.store.ImportUsers(ctx, i.batch)
		if err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			} else {
				err = fmt.Errorf("cannot write to the database: %w", err)
			}
			return &StoppedError{i.reached, err}
		}
		i.result.Imported += imported
		i.result.Existing += len(i.batch) - imported - len(taken)
		for _, at := range taken {
			i.leaveOut(i.lines[at], ErrEmailTaken.Error())
		}
	}
	clear(i.batch) // the texts
	i.batch, i.lines, i.reached = i.batch[:0], i.lines[:0], next
	return nil
}
