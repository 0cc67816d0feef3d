package users

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// What one login with an imported hash may cost, at the most some four seconds of one core. Hashes come from elsewhere, and
// the cost of each is written in itself: a single absurd one would keep a core busy for days, or take all the memory.
const (
	maxBcryptCost   = 16
	maxHashMemory   = 256 << 20 // bytes at once; there are as many at once as cores
	maxArgonWork    = 4 << 30   // bytes over all passes
	maxScryptWork   = 1 << 30   // likewise; scrypt takes longer for each
	maxArgonLanes   = 64
	minKeyBytes     = 16 // of a shorter key another password's may happen to be the same
	minBcryptCost   = 4
	maxScryptRounds = 24 // ln; any more exceed the memory in any case
)

var errHashForm = errors.New("password_hash: must be bcrypt ($2a$, $2b$ or $2y$), argon2id or scrypt, the latter two in PHC form")

// The forms are stricter than what the decoder takes, which fills in what is missing, lets a parameter stand twice, and
// overlooks line breaks: what is checked here is then what is computed.
var (
	bcryptForm = regexp.MustCompile(`^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$`)
	argonForm  = regexp.MustCompile(`^\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+$`)
	scryptForm = regexp.MustCompile(`^\$scrypt\$ln=(\d{1,9}),r=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+$`)
)

// checkForeign tells what is wrong with a hash that another program has made, without repeating any of it.
func (h *hasher) checkForeign(hash string) error {
	var err error
	if m := bcryptForm.FindStringSubmatch(hash); m != nil {
		err = checkBcrypt(number(m[1]))
	} else if m := argonForm.FindStringSubmatch(hash); m != nil {
		err = checkArgon(number(m[1]), number(m[2]), number(m[3]))
	} else if m := scryptForm.FindStringSubmatch(hash); m != nil {
		err = checkScrypt(number(m[1]), number(m[2]), number(m[3]))
	} else {
		err = errHashForm
	}
	if err != nil {
		return err
	}
	digest, err := h.decoder.Decode(hash)
	if err != nil {
		return errors.New("password_hash: cannot be decoded") // the decoder's own error repeats parts of the hash
	}
	if len(digest.Key()) < minKeyBytes {
		return fmt.Errorf("password_hash: is too short; at least %d bytes are wanted", minKeyBytes)
	}
	return nil
}

// number reads digits, so few that it cannot fail.
func number(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func checkBcrypt(cost int64) error {
	if cost < minBcryptCost || cost > maxBcryptCost {
		return fmt.Errorf("password_hash: bcrypt of cost %d; allowed: %d to %d", cost, minBcryptCost, maxBcryptCost)
	}
	return nil
}

func checkArgon(kib, passes, lanes int64) error {
	if passes < 1 || lanes < 1 || lanes > maxArgonLanes || kib < 8*lanes || kib<<10 > maxHashMemory || (kib<<10)*passes > maxArgonWork {
		return fmt.Errorf("password_hash: argon2id of m=%d,t=%d,p=%d; allowed: %d MiB, and %d MiB over all passes, in at most %d lanes of 8 KiB or more",
			kib, passes, lanes, maxHashMemory>>20, maxArgonWork>>20, maxArgonLanes)
	}
	return nil
}

func checkScrypt(rounds, block, lanes int64) error {
	if rounds >= 1 && rounds <= maxScryptRounds && block >= 1 && block <= maxHashMemory && lanes >= 1 {
		if memory := 128 * block << rounds; memory <= maxHashMemory && memory*lanes <= maxScryptWork {
			return nil
		}
	}
	return fmt.Errorf("password_hash: scrypt of ln=%d,r=%d,p=%d; allowed: %d MiB (128 × 2^ln × r bytes), and %d MiB over all p",
		rounds, block, lanes, maxHashMemory>>20, maxScryptWork>>20)
}
