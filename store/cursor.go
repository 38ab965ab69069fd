package store

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"steno/job"
)

// A cursor is URL-safe base64 of: version (1 byte), time (8), id (26), checksum (4). The checksum covers whose history it is and
// its filter too. It finds mistakes, not forgery: a forged cursor is another place in the caller's own history, no more.
const (
	cursorVersion = 1
	cursorBody    = 1 + 8 + 26
	cursorLength  = cursorBody + 4
)

func (p position) cursor(sc scope) string {
	data := make([]byte, 0, cursorLength)
	data = append(data, cursorVersion)
	data = binary.BigEndian.AppendUint64(data, uint64(p.created))
	data = append(data, p.id...)
	data = append(data, sc.checksum(data)...)
	return base64.RawURLEncoding.EncodeToString(data)
}

// parseCursor reads a cursor of this scope. The empty one is the top.
func parseCursor(text string, sc scope) (position, error) {
	if text == "" {
		return top, nil
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(data) != cursorLength || data[0] != cursorVersion {
		return position{}, bad("BAD_CURSOR", "the cursor is not one of ours: begin again without one")
	}
	body, sum := data[:cursorBody], data[cursorBody:]
	if subtle.ConstantTimeCompare(sum, sc.checksum(body)) != 1 {
		return position{}, bad("BAD_CURSOR", "the cursor is damaged, or belongs to another user or filter: begin again without one")
	}
	id, err := job.ParseID(string(body[9:]))
	if err != nil {
		return position{}, bad("BAD_CURSOR", "the cursor names no task: begin again without one")
	}
	return position{int64(binary.BigEndian.Uint64(body[1:])), id}, nil
}

// checksum is 4 bytes over the scope and the body. No part of a scope has a NUL.
func (sc scope) checksum(body []byte) []byte {
	whose := "user " + sc.user
	if sc.everybody {
		whose = "everybody"
	}
	h := sha256.New()
	h.Write([]byte(strings.Join([]string{whose, string(sc.Status), sc.Prefix, ""}, "\x00")))
	h.Write(body)
	return h.Sum(nil)[:4]
}
