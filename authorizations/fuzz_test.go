package authorizations_test

import (
	"strings"
	"testing"

	"signet/authorizations"
)

// A user code is read in any case, with or without dashes and spaces, and what is read is written as it is shown.
func FuzzParseUserCode(f *testing.F) {
	for _, text := range []string{"BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "BCDF-GHJA", "", "BCDFGHJKL", "ВCDF-GHJK", "BCDF\x00GHJK"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		code, ok := authorizations.ParseUserCode(text)
		if !ok {
			return
		}
		shown := code.String()
		if len(shown) != 9 || shown[4] != '-' || strings.Trim(strings.Replace(shown, "-", "", 1), "BCDFGHJKLMNPQRSTVWXZ") != "" {
			t.Fatalf("%q is read as %q", text, shown)
		}
		if again, ok := authorizations.ParseUserCode(shown); !ok || again != code {
			t.Errorf("%q is not read as it was: %q, %t", shown, again, ok)
		}
	})
}
