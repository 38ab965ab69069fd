package api

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"steno/job"
)

// What a new hash costs: the first choice of OWASP's cheat sheet on storing passwords for argon2id, 19 MiB and two passes.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16 // bytes
	argonKey     = 32 // bytes
)

// Bounds of a password in bytes. The upper one keeps a log-in from hashing megabytes.
const (
	minPassword = 8
	maxPassword = 1024
)

// HashPassword makes an argon2id hash in PHC form. The code of the error is BAD_PASSWORD for one that is too short or too long.
func HashPassword(password string) (string, error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", job.Errorf(job.Input, "BAD_PASSWORD", "a password has %d to %d bytes, this one %d: choose another",
			minPassword, maxPassword, len(password))
	}
	salt := make([]byte, argonSalt)
	rand.Read(salt) // never fails
	return hashWith(password, salt), nil
}

func hashWith(password string, salt []byte) string {
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, argonMemory, argonTime, argonThreads, b64(salt), b64(key))
}

// GeneratePassword makes one of 120 random bits.
func GeneratePassword() string {
	data := make([]byte, 15)
	rand.Read(data) // never fails
	return base64.RawURLEncoding.EncodeToString(data)
}

// phc is a hash taken apart.
type phc struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

var errPHC = errors.New("the stored password hash cannot be read: set a new password with steno user passwd")

// parsePHC reads a hash with bounds on its costs, so that a damaged row cannot take the machine's memory.
func parsePHC(text string) (phc, error) {
	var h phc
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errPHC
	}
	const costs = "m=%d,t=%d,p=%d"
	// Sscanf passes over spaces and what follows, such as a parameter that the hash depends on and we do not know.
	if _, err := fmt.Sscanf(parts[3], costs, &h.memory, &h.time, &h.threads); err != nil ||
		fmt.Sprintf(costs, h.memory, h.time, h.threads) != parts[3] {
		return h, errPHC
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return h, errPHC
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return h, errPHC
	}
	if h.memory < 8 || h.memory > 1<<20 || h.time < 1 || h.time > 16 || h.threads < 1 || len(h.salt) < 8 || len(h.key) < 16 {
		return h, errPHC
	}
	return h, nil
}

// passwords checks passwords, a bounded number at a time. Safe for concurrent use.
type passwords struct {
	slots chan struct{}
	decoy string // what the password of an unknown user is compared with, so that it takes the same time
}

func newPasswords(parallel int) *passwords {
	salt := make([]byte, argonSalt)
	rand.Read(salt) // never fails
	return &passwords{make(chan struct{}, parallel), hashWith("nobody's password", salt)}
}

// enter waits for the right to check a password; leave gives it back.
func (p *passwords) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fits compares a password with a hash; an empty hash is that of an unknown user, and never fits. It takes as long either way.
// Call it between enter and leave.
func (p *passwords) fits(hash, password string) (bool, error) {
	h, err := parsePHC(or(hash, p.decoy))
	if err != nil {
		return false, err
	}
	key := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1 && hash != "", nil
}
