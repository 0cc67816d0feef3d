package logins

import (
	"encoding/base32"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// A clock may be one step off (RFC 6238 section 5.2), and no step that is used, or before one that is, is good.
func TestStepOf(t *testing.T) {
	t.Parallel()
	secret := []byte("12345678901234567890") // that of the RFC's appendix B
	for _, second := range []int64{59, 1111111109, 1111111111, 1234567890, 2000000000, 20000000000} {
		now := time.Unix(second, 0)
		current := second / totpPeriod
		for offset := int64(-3); offset <= 3; offset++ {
			code, err := totp.GenerateCode(base32.StdEncoding.EncodeToString(secret), now.Add(time.Duration(offset)*totpPeriod*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			for last := current - 4; last <= current+4; last++ {
				step, ok := stepOf(secret, code, now, last)
				if want := offset >= -1 && offset <= 1 && current+offset > last; ok != want || ok && step != current+offset {
					t.Errorf("at %d the code of step %+d, after %+d: %v, %+d", second, offset, last-current, ok, step-current)
				}
			}
		}
	}
	if step, ok := stepOf(secret, "287082", time.Unix(59, 0), -1); !ok || step != 1 { // appendix B, its last six digits
		t.Errorf("the RFC's own code: %v, %d", ok, step)
	}
	for _, bad := range []string{"", "28708", "2870820", " 87082", "287082 ", "28708a", "２８７０８２", "+87082"} {
		if _, ok := stepOf(secret, bad, time.Unix(59, 0), -1); ok {
			t.Errorf("%q is a code", bad)
		}
	}
}
