package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"time"

	"steno/store"
)

// keyPrefix begins each API key, so that people and scanners for secrets know one when they see it.
const keyPrefix = "sk-steno-"

// shownPrefix is the number of characters of a key that are kept, for its owner to recognise it.
const shownPrefix = len(keyPrefix) + 6

// NewAPIKey makes a key of 256 random bits, and what is kept of it. The key itself is shown once.
func NewAPIKey(user, name string) (key string, kept store.APIKey) {
	data := make([]byte, 32)
	rand.Read(data) // never fails
	key = keyPrefix + base64.RawURLEncoding.EncodeToString(data)
	return key, store.APIKey{User: user, Name: name, Prefix: key[:shownPrefix], Hash: hashKey(key)}
}

func hashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// noteTime bounds the write that notes a key's use: the request does not need it.
const noteTime = time.Second

// userOfKey finds whom a key belongs to.
func (s *Server) userOfKey(ctx context.Context, key string) (store.User, error) {
	hash := hashKey(key)
	k, u, err := s.cfg.Store.APIKeyByHash(ctx, hash)
	if err != nil {
		return store.User{}, err
	}
	if subtle.ConstantTimeCompare([]byte(k.Hash), []byte(hash)) != 1 {
		return store.User{}, errUnauthorized()
	}
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	if err := s.cfg.Store.UseAPIKey(ctx, k); err != nil {
		s.cfg.Log.WarnContext(ctx, "note the use of an API key", "error", err)
	}
	return u, nil
}
