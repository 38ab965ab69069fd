package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader names the header that Sign makes.
const SignatureHeader = "Steno-Signature"

// Sign makes the value of SignatureHeader: t=<Unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">. The time is signed with
// the body, so that a call that somebody has recorded cannot be played again later.
func Sign(secret []byte, t time.Time, body []byte) string {
	return fmt.Sprintf("t=%d,v1=%s", t.Unix(), mac(secret, strconv.FormatInt(t.Unix(), 10), body))
}

func mac(secret []byte, t string, body []byte) string {
	h := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(h, "%s.", t) // a hash takes all
	_, _ = h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// Why Verify refuses a call.
var (
	ErrSignature = errors.New("the signature does not fit")
	ErrExpired   = errors.New("the signature is too old")
)

// Verify checks the signature of a call, as its receiver should: header is the value of SignatureHeader, body the bytes as they
// came. A time that is further than tolerance from now is refused; five minutes are usual.
func Verify(secret []byte, header string, body []byte, now time.Time, tolerance time.Duration) error {
	var t, sum string
	for part := range strings.SplitSeq(header, ",") {
		switch key, value, _ := strings.Cut(part, "="); key {
		case "t":
			t = value
		case "v1":
			sum = value
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || !hmac.Equal([]byte(sum), []byte(mac(secret, t, body))) {
		return ErrSignature
	}
	if now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return ErrExpired
	}
	return nil
}

// UserSecret derives a user's key from the one of the configuration: who has one cannot make another's. It is 64 hex digits, to
// be used as they are.
func UserSecret(master []byte, user string) []byte {
	h := hmac.New(sha256.New, master)
	_, _ = h.Write([]byte("steno webhook " + user)) // a hash takes all
	return []byte(hex.EncodeToString(h.Sum(nil)))
}
