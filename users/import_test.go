package users

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const header = "username,password_hash\n"

// readRows returns the rows of a file as "LINE username hash", or "LINE ! reason".
func readRows(t testing.TB, r io.Reader) (rows []string, openErr error) {
	t.Helper()
	f, err := openImport(r)
	if err != nil {
		return nil, err
	}
	for {
		r, err := f.next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		check(t, err)
		if r.reason != "" {
			rows = append(rows, fmt.Sprintf("%d ! %s", r.line, r.reason))
		} else {
			text := fmt.Sprintf("%d %s %s", r.line, r.username, r.hash)
			for _, name := range slices.Sorted(maps.Keys(r.profile)) {
				text += fmt.Sprintf(" %s=%s", name, r.profile[name])
			}
			rows = append(rows, text)
		}
	}
}

func TestImportFile(t *testing.T) {
	t.Parallel()
	const stray = "a quote stands where none may be, or is not closed"
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"CSV":                      {header + "ann,x\nbob,y\n", []string{"2 ann x", "3 bob y"}},
		"no last line end":         {header + "ann,x", []string{"2 ann x"}},
		"only a header":            {header, nil},
		"columns the other way":    {"password_hash,username\nx,ann\n", []string{"2 ann x"}},
		"quoted":                   {"\"username\",\"password_hash\"\n\"ann\",\"x\"\n\"a,\"\"b\"\"\",y\n", []string{"2 ann x", `3 a,"b" y`}},
		"CRLF":                     {"username,password_hash\r\nann,x\r\n\"bob\",\"y\"\r\n", []string{"2 ann x", "3 bob y"}},
		"BOM":                      {"\ufeff" + header + "ann,x\n", []string{"2 ann x"}},
		"BOM and quotes":           {"\ufeff\"username\",password_hash\nann,x\n", []string{"2 ann x"}},
		"empty lines":              {"\n\r\n" + header + "\nann,x\n \t \n\nbob,y\n\n", []string{"5 ann x", "8 bob y"}},
		"too few and too many":     {header + "ann\nann,x,\nbob,y\n", []string{"2 ! has 1 columns, the header has 2", "3 ! has 3 columns, the header has 2", "4 bob y"}},
		"a field of several lines": {header + "ann,x\n\"b\no\r\n\nb\",y\ncarol,z\n", []string{"2 ann x", "3 b\no\n\nb y", "7 carol z"}},
		"a quote in a name":        {header + "a\"nn,x\nbob,y\n", []string{"2 ! " + stray, "3 bob y"}},
		"two quotes in a name":     {header + "a\"n\"n,x\nbob,y\n", []string{"2 ! " + stray, "3 bob y"}},
		"a quote that is not closed": {
			header + "\"ann,x\nbob,y\n\ncarol,z", []string{"2 ! " + stray, "3 bob y", "5 carol z"},
		},
		"two of them":          {header + "\"ann,x\nbob,y\n\"carol,z\ndora,u\n", []string{"2 ! " + stray, "3 bob y", "4 ! " + stray, "5 dora u"}},
		"behind a quote":       {header + "\"ann\"n,x\nbob,y\n", []string{"2 ! " + stray, "3 bob y"}},
		"not closed and a NUL": {header + "\"ann,x\nb\x00b,y\ncarol,z\n", []string{"2 ! " + stray, "3 ! holds a NUL byte", "4 carol z"}},
		"not closed for long": {
			header + "\"ann,x\n" + strings.Repeat("a,b\n", maxRow/4), append([]string{"2 ! " + stray}, numbered(3, maxRow/4, " a b")...),
		},
		"not text":      {header + "a\xffn,x\na\x00n,x\nbob,y\n", []string{"2 ! is not UTF-8 text", "3 ! holds a NUL byte", "4 bob y"}},
		"too long":      {header + strings.Repeat("a", maxRow) + ",x\nbob,y\n", []string{"2 ! is longer than 64 KiB", "3 bob y"}},
		"much too long": {header + strings.Repeat("a", 5*maxRow+7) + ",x\nbob,y", []string{"2 ! is longer than 64 KiB", "3 bob y"}},
		"too long, the last": {
			header + "bob,y\n" + strings.Repeat("a", 2*maxRow), []string{"2 bob y", "3 ! is longer than 64 KiB"},
		},
		"spaces are kept": {header + " ann , x\n", []string{"2  ann   x"}},

		"a profile": {
			"groups,username,email,password_hash,email_verified,claims\n" + `staff;the boss,ann,a@b.example,x,true,"{""level"":3}"` + "\n,bob,,y,,\n" +
				`"[""a;b""]",carol,c,z,yes,{` + "\n",
			[]string{
				`2 ann x claims={"level":3} email="a@b.example" email_verified=true groups=["staff","the boss"]`, "3 bob y",
				`4 carol z claims={ email="c" email_verified=yes groups=["a;b"]`, // it is checked later
			},
		},
		"a profile in JSON": {
			`{"claims":{"level":3},"username":"ann","groups":["staff"],"password_hash":"x","email_verified":true,"name":null}` + "\n" +
				`{"username":"bob","password_hash":"y","name":"a","name":"b"}` + "\n" + `{"username":"bob","password_hash":"y","name":"\ud800"}`,
			[]string{`1 ann x claims={"level":3} email_verified=true groups=["staff"] name=null`, "2 ! name: is there twice", "3 ! name: is not Unicode text"},
		},

		"JSON": {
			`{"username":"ann","password_hash":"x"}` + "\n" + ` { "password_hash" : "y", "username" : "b\u00f6b" } ` + "\r\n",
			[]string{"1 ann x", "2 böb y"},
		},
		"JSON, empty lines and a BOM": {"\ufeff\n\n\t{\"username\":\"ann\",\"password_hash\":\"x\"}\n\n", []string{"3 ann x"}},
		"bad JSON": {strings.Join([]string{
			`{"username":"ann","password_hash":"x"`, `{"username":"ann","password_hash":"x"}{}`, `{"username":"ann","password_hash":"x",}`, `[]`, `"ann"`, `ann,x`, `{`,
			`{"username":"ann","password_hash":"x"}`,
		}, "\n"), append(numbered(1, 7, " ! not a JSON object, which has to be in one line"), "8 ann x")},
		"members": {strings.Join([]string{
			`{"username":"ann"}`, `{"password_hash":"x"}`, `{}`, `{"username":"ann","password_hash":null}`, `{"username":7,"password_hash":"x"}`,
			`{"username":["ann"],"password_hash":"x"}`, `{"username":"ann","password_hash":"x","admin":true}`, `{"Username":"ann","password_hash":"x"}`,
			`{"username":"ann","username":"bob","password_hash":"x"}`, `{"username":"a\ud800n","password_hash":"x"}`, `{"username":"ann","password_hash":"x","$2b$12$":""}`,
			"{\"username\":\"a\ufffdn\",\"password_hash\":\"x\"}",
		}, "\n"), []string{
			"1 ! password_hash: is missing", "2 ! username: is missing", "3 ! username: is missing", "4 ! password_hash: must be a text", "5 ! username: must be a text",
			"6 ! username: must be a text", `7 ! unknown member "admin"; ` + knownColumns(), `8 ! unknown member "Username"; ` + knownColumns(),
			"9 ! username: is there twice", "10 ! username: is not Unicode text", "11 ! unknown member; " + knownColumns(),
			"12 a\ufffdn x",
		}},
		"JSON that is no text": {"{\"username\":\"a\xff\",\"password_hash\":\"x\"}\n{\"username\":\"bob\",\"password_hash\":\"y\"}", []string{"1 ! is not UTF-8 text", "2 bob y"}},
		"JSON that is too long": {
			`{"username":"` + strings.Repeat("a", maxRow) + "\"}\n" + `{"username":"bob","password_hash":"y"}`, []string{"1 ! is longer than 64 KiB", "2 bob y"},
		},
	} {
		for kind, r := range map[string]io.Reader{"at once": strings.NewReader(c.file), "slowly": iotest.HalfReader(strings.NewReader(c.file)), "with the end": iotest.DataErrReader(strings.NewReader(c.file))} {
			got, err := readRows(t, r)
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%s, %s: %v (-want +got):\n%s", name, kind, err, diff)
			}
		}
	}
}

// numbered returns n texts, each behind the number of a line.
func numbered(from, n int, text string) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(from+i, text))
	}
	return list
}

func TestImportFileNotUnderstood(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"":                                     "the file is empty",
		"\n \r\n\t":                            "the file is empty",
		"\ufeff":                               "the file is empty",
		"ann,$2b$12$secret\n":                  "line 1: the first line of CSV names the columns",
		"\n\nann,x\n":                          "line 3: the first line of CSV names the columns",
		"username,password_hash,mail\na,b,c":   `line 1: unknown column "mail"; there are username, password_hash, name, given_name, `,
		"username,password_hash,email,email\n": "line 1: the column email is there twice",
		"username,$2b$12$secret\n":             "line 1: unknown column; ",
		"username,Password_Hash\n":             `line 1: unknown column "Password_Hash"`,
		"username, password_hash\n":            `line 1: unknown column " password_hash"`,
		"username,password_hash,\n":            `line 1: unknown column ""`,
		"username;password_hash\n":             "separated by a comma",
		"username\nann\n":                      "line 1: a column is missing",
		"password_hash\nx\n":                   "line 1: a column is missing",
		"username,password_hash,username\n":    "line 1: the column username is there twice",
		"\"username,password_hash\nann,x\n":    "line 1: a quote",
		`[{"username":"ann"}]`:                 "line 1: the file is a JSON array",
		"\xff\xfeu\x00s\x00":                   "line 1: the file is UTF-16",
		"\xfe\xff\x00u\x00s":                   "line 1: the file is UTF-16",
		"u\x00s\x00e\x00r\x00":                 "line 1: holds a NUL byte",
		"\x1f\x8b\x08\xff":                     "line 1: is not UTF-8 text",
		strings.Repeat("username,", maxRow/8):  "line 1: is longer than 64 KiB",
		"username,password_hash\rann,x\r":      "line 1: unknown column",
		"username," + strings.Repeat("a", 100): "line 1: unknown column; ",
	} {
		rows, err := readRows(t, strings.NewReader(file))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.40q: %q, %v; want %s", file, rows, err, want)
		}
	}
	if _, err := readRows(t, iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// A file that is nothing but quotes, or lines that never end, is read in the time that its size asks for.
func TestImportFileIsLinear(t *testing.T) {
	t.Parallel()
	for name, piece := range map[string]string{
		"quotes": "\"\n", "two": "\"\"\n", "three": "\"\"\"\n", "open": "\"a\n", "empty": "\n", "no ends": "\"a\"\"", "commas": ",", "inside": "a\"\n,\n,\n,\n",
	} {
		began := time.Now()
		f, err := openImport(io.LimitReader(io.MultiReader(strings.NewReader(header), &repeating{text: piece}), 1<<20))
		check(t, err)
		for err == nil {
			_, err = f.next()
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: %s", name, took)
		}
	}
}

// repeating is a text without an end.
type repeating struct {
	text string
	at   int
}

func (r *repeating) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at%len(r.text)]
		r.at++
	}
	return len(p), nil
}

func TestForeignHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(argonMemory)
	bcryptTail := strings.Repeat("a", 53)
	const salt, key = "c2FsdHNhbHRzYWx0", "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U"
	for hash, want := range map[string]string{
		"$2a$10$" + bcryptTail: "", "$2b$04$" + bcryptTail: "", "$2y$16$" + bcryptTail: "",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key: "", "$argon2id$v=19$m=262144,t=16,p=4$" + salt + "$" + key: "", "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + key: "",
		"$scrypt$ln=17,r=8,p=1$" + salt + "$" + key: "", "$scrypt$ln=14,r=8,p=5$" + salt + "$" + key: "", "$scrypt$ln=16,r=8,p=16$" + salt + "$" + key: "",

		"$2b$03$" + bcryptTail: "of cost 3", "$2b$17$" + bcryptTail: "of cost 17", "$2b$31$" + bcryptTail: "of cost 31", "$2b$99$" + bcryptTail: "of cost 99",
		"$2b$10$" + bcryptTail + "a": "must be", "$2b$10$" + bcryptTail[1:]: "must be", "$2x$10$" + bcryptTail: "must be", "$2$10$" + bcryptTail: "must be",
		"$2b$-1$" + bcryptTail: "must be", "$2b$10$" + bcryptTail[1:] + "!": "must be", "$2b$10$" + bcryptTail + "\n": "must be", " $2b$10$" + bcryptTail: "must be",
		"{CRYPT}$2b$10$" + bcryptTail: "must be", "$bcrypt-sha256$v=2,t=2b,r=12$" + strings.Repeat("a", 22) + "$" + strings.Repeat("a", 31): "must be",

		"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + key: "m=262145", "$argon2id$v=19$m=262144,t=17,p=1$" + salt + "$" + key: "t=17",
		"$argon2id$v=19$m=999999999,t=999999999,p=1$" + salt + "$" + key: "m=999999999", "$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key: "must be",
		"$argon2id$v=19$m=65536,t=0,p=1$" + salt + "$" + key: "t=0", "$argon2id$v=19$m=65536,t=1,p=0$" + salt + "$" + key: "p=0", "$argon2id$v=19$m=0,t=1,p=1$" + salt + "$" + key: "m=0",
		"$argon2id$v=19$m=65536,t=1,p=65$" + salt + "$" + key: "p=65", "$argon2id$v=19$m=8,t=1,p=2$" + salt + "$" + key: "p=2",
		"$argon2id$v=16$m=65536,t=2,p=1$" + salt + "$" + key: "must be", "$argon2id$m=65536,t=2,p=1$" + salt + "$" + key: "must be", "$argon2i$v=19$m=65536,t=2,p=1$" + salt + "$" + key: "must be",
		"$argon2id$v=19$m=8,m=65536,t=2,p=1$" + salt + "$" + key: "must be", "$argon2id$v=19$m=65536,t=2,p=1,keyid=a$" + salt + "$" + key: "must be",
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$" + key + "=": "must be", "$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$": "must be",
		"$argon2id$v=19$m=65536,t=2,p=1$a$" + key: "cannot be decoded", "$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$a2V5": "too short",
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$" + key[:20] + "\n" + key[20:]: "must be",

		"$scrypt$ln=18,r=9,p=1$" + salt + "$" + key: "ln=18", "$scrypt$ln=18,r=8,p=5$" + salt + "$" + key: "p=5", "$scrypt$ln=25,r=1,p=1$" + salt + "$" + key: "ln=25",
		"$scrypt$ln=63,r=8,p=1$" + salt + "$" + key: "ln=63", "$scrypt$ln=0,r=8,p=1$" + salt + "$" + key: "ln=0", "$scrypt$ln=-1,r=8,p=1$" + salt + "$" + key: "must be",
		"$scrypt$ln=14,r=0,p=1$" + salt + "$" + key: "r=0", "$scrypt$ln=14,r=8,p=0$" + salt + "$" + key: "p=0", "$scrypt$ln=24,r=999999999,p=999999999$" + salt + "$" + key: "r=999999999",
		"$scrypt$ln=1,r=1,p=999999999$" + salt + "$" + key: "p=999999999", "$scrypt$n=16384,r=8,p=1$" + salt + "$" + key: "must be", "$scrypt$ln=14,r=8,p=1$" + salt + "$a2V5": "too short",
		"$y$j9T$" + salt + "$" + key: "must be",

		"": "must be", "password": "must be", "$": "must be", "$1$salt$hash": "must be", "$6$salt$hash": "must be", "$argon2id$": "must be", "5f4dcc3b5aa765d61d8327deb882cf99": "must be",
		"$pbkdf2-sha256$29000$" + salt + "$" + key: "must be", "$2b$10$" + strings.Repeat("a", 100_000): "must be", "$2b$10$\xff": "must be",
	} {
		err := h.checkForeign(hash)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v; want %q", hash, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), key) || strings.Contains(err.Error(), bcryptTail[1:])) {
			t.Errorf("the hash is repeated: %v", err)
		}
	}
	for name, hash := range imported(t) {
		if err := h.checkForeign(hash); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	own, err := h.hash(t.Context(), "correct horse")
	check(t, err)
	if err := h.checkForeign(own); err != nil {
		t.Errorf("a hash of Signet's own: %v", err)
	}
}

// FuzzImport wants of any file that reading it ends, that lines go up, that nothing that is no good row is taken for one, and
// that what is wrong with a row is said without a hash and in one line.
func FuzzImport(f *testing.F) {
	good := "$2b$12$" + strings.Repeat("a", 53)
	for _, seed := range []string{
		"", header, header + "ann," + good + "\n", "password_hash,username\r\n" + good + ",ann\r\n", "\ufeff" + header + "\"a\nnn\",\"" + good + "\"\n\n\nbob,x",
		header + "\"ann," + good + "\nbob," + good, header + "a\x00,b\n\xff,c\n", `{"username":"ann","password_hash":"` + good + "\"}\n{\"username\":1}\n{}\n[]\n{\"a\":{\"b\":[]}}",
		`{"username":"a\ud800","password_hash":"\u0000"}`, header + strings.Repeat("a", maxRow+1) + "\n\"", header + strings.Repeat("\"", 9), "\xff\xfe", "[", "username\n",
		header + "ann,$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA\nbob,$scrypt$ln=63,r=8,p=1$c2FsdA$c2FsdA\n",
		"username,password_hash,groups,claims,email,email_verified\nann," + good + ",a;b,{},a@b.example,true\nbob," + good + ",[,{,\"a\"\"\",TRUE\n",
		`{"username":"ann","password_hash":"` + good + `","groups":["a"],"claims":{"n":1e400,"a":[{"b":"\ud800"}]},"email":null,"email_verified":"yes"}`,
	} {
		f.Add([]byte(seed))
	}
	h := newHasher(argonMemory)
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := openImport(strings.NewReader(string(data)))
		if err != nil {
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "$2b$12$a") {
				t.Fatalf("%q", err)
			}
			return
		}
		last, most := 0, strings.Count(string(data), "\n")+1
		for {
			r, err := file.next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				return
			}
			if r.line <= last || r.line > most {
				t.Fatalf("line %d after %d of %d", r.line, last, most)
			}
			last = r.line
			if r.reason != "" {
				if !utf8.ValidString(r.reason) || strings.Contains(r.reason, "\n") || strings.Contains(r.reason, "$2b$12$a") || len(r.reason) > 500 {
					t.Fatalf("%q", r.reason)
				}
				continue
			}
			if !utf8.ValidString(r.username) || len(r.username)+len(r.hash) > 3*maxRow {
				t.Fatalf("%q, %q", r.username, r.hash)
			}
			if p, err := (Profile{}).With(r.profile); err == nil {
				if again, err := ParseProfile([]byte(p.Stored())); err != nil || again.Stored() != p.Stored() {
					t.Fatalf("%s: %v", p.Stored(), err)
				}
			} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 500 {
				t.Fatalf("%q", err)
			}
			if ValidUsername(r.username) && h.checkForeign(r.hash) == nil {
				if slices.ContainsFunc([]byte(r.hash), func(b byte) bool { return b <= ' ' || b > '~' }) {
					t.Fatalf("the hash %q", r.hash)
				}
				if _, err := h.decoder.Decode(r.hash); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
