package api

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Keys are the secrets that sign tokens. The first signs; all verify, so that a new one can be put in front while tokens of the
// old ones are still about.
type Keys []Key

// Key is one secret.
type Key struct {
	ID     string // its kid
	Secret []byte // 32 bytes or more
}

const minSecret = 32

// LoadKeys reads a file of keys, and makes it with one where there is none, readable by its owner only. A line holds a key's id
// and its secret in base64; empty lines and those that begin with # are passed over.
func LoadKeys(path string) (Keys, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKeys(path); err != nil {
			return nil, fmt.Errorf("make the keys for tokens: %w", err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys for tokens: %w", err)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others can read %s, and make tokens with it: run chmod 600 on it", path)
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return keys, nil
}

// makeKeys writes beside and links into place, so that of two processes that start at once both read the same file, whole.
func makeKeys(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "# Keys that sign access tokens: the first signs, all verify. "+
		"To rotate, put a new line on top and restart.\n%s\n", newKey().line())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// RotateKeys puts a new key in front of a file's keys and keeps the newest of the others, up to the given number.
func RotateKeys(path string, keep int) (Keys, error) {
	keys, err := LoadKeys(path)
	if err != nil {
		return nil, err
	}
	keys = append(Keys{newKey()}, keys[:max(0, min(keep, len(keys)))]...)
	var text bytes.Buffer
	for _, k := range keys {
		fmt.Fprintln(&text, k.line())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-*")
	if err != nil {
		return nil, fmt.Errorf("rotate the keys: %w", err)
	}
	defer os.Remove(f.Name()) // after the renaming there is nothing of that name
	_, err = f.Write(text.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("rotate the keys: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, fmt.Errorf("rotate the keys: %w", err)
	}
	return keys, nil
}

func newKey() Key {
	id, secret := make([]byte, 8), make([]byte, minSecret)
	rand.Read(id) // never fails
	rand.Read(secret)
	return Key{hex.EncodeToString(id), secret}
}

func (k Key) line() string { return k.ID + " " + base64.StdEncoding.EncodeToString(k.Secret) }

func parseKeys(data []byte) (Keys, error) {
	var keys Keys
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, text, _ := strings.Cut(line, " ")
		secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(secret) < minSecret || id == "" {
			return nil, fmt.Errorf("line %d is no key: write an id, a space and at least %d bytes in base64", i+1, minSecret)
		}
		if keys.find(id) != nil {
			return nil, fmt.Errorf("the id %q is there twice: remove one line", id)
		}
		keys = append(keys, Key{id, secret})
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it: remove the file, and a new one is made")
	}
	return keys, nil
}

func (k Keys) find(id string) []byte {
	for _, key := range k {
		if key.ID == id {
			return key.Secret
		}
	}
	return nil
}
