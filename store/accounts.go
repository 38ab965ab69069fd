package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"steno/job"
)

// Role says what a user may do.
type Role string

// The roles.
const (
	RoleUser  Role = "user"
	RoleAdmin Role = "admin"
)

// User is an account.
type User struct {
	ID       string
	Username string // unique; upper and lower case differ
	// PasswordHash is an argon2id hash in PHC form, $argon2id$….
	PasswordHash string
	Role         Role
	Disabled     bool
	// TokenGeneration is part of each token; tokens of another generation are revoked. It begins at 1.
	TokenGeneration int
	Created         time.Time
	Updated         time.Time
}

// CreateUser adds an account from u's name, hash and role. Codes: BAD_USER; USER_EXISTS, which wraps ErrConflict.
func (s *Store) CreateUser(ctx context.Context, u User) (User, error) {
	if err := checkUser(u); err != nil {
		return User{}, err
	}
	u.ID, u.Created, u.TokenGeneration = string(job.NewID()), s.now(), 1
	u.Updated = u.Created
	err := s.tx(ctx, func(c session) error {
		_, err := c.exec(ctx, addUser, u.ID, u.Username, u.PasswordHash, u.Role, u.Disabled, micros(u.Created))
		if kindOf(err) == duplicate {
			return conflict("USER_EXISTS", "there is a user %q already: choose another name", u.Username)
		}
		return err
	})
	if err != nil {
		return User{}, forUser(ctx, "create the user", err)
	}
	return u, nil
}

func checkUser(u User) error {
	switch {
	case !validName(u.Username) || len(u.Username) > 64 || strings.ContainsAny(u.Username, " \t\n"):
		return bad("BAD_USER", "%q is no user name: use up to 64 characters without spaces", u.Username)
	case u.Role != RoleUser && u.Role != RoleAdmin:
		return bad("BAD_USER", "role %q is not known: choose user or admin", u.Role)
	}
	return checkPasswordHash(u.PasswordHash)
}

// checkPasswordHash keeps plain passwords out.
func checkPasswordHash(hash string) error {
	if !strings.HasPrefix(hash, "$argon2id$") {
		return job.Errorf(job.Internal, "BAD_PASSWORD_HASH", "the password was not hashed with argon2id: report this as a fault")
	}
	return nil
}

// User returns an account by its id.
func (s *Store) User(ctx context.Context, id string) (User, error) {
	return s.findUser(ctx, getUser, id)
}

// UserByName returns an account by its name.
func (s *Store) UserByName(ctx context.Context, name string) (User, error) {
	return s.findUser(ctx, getUserByName, name)
}

func (s *Store) findUser(ctx context.Context, q statement, key string) (User, error) {
	u, err := scanUser(s.reader().row(ctx, q, key))
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, notFound("USER", key)
	}
	return u, forUser(ctx, "find the user", err)
}

// Users returns all accounts by name.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	list, err := all(ctx, s.reader(), scanUser, listUsers)
	return list, forUser(ctx, "list the users", err)
}

func scanUser(row scanner) (User, error) {
	var u User
	var created, updated int64
	err := row.Scan(&u.ID, &u.Username, &u.PasswordHash, &u.Role, &u.Disabled, &u.TokenGeneration, &created, &updated)
	u.Created, u.Updated = fromMicros(created), fromMicros(updated)
	return u, err
}

// UserChange says what becomes of an account; nil leaves a field as it is.
type UserChange struct {
	PasswordHash *string
	Role         *Role
	Disabled     *bool
}

// ChangeUser changes an account and moves its token generation on, so that all its tokens are revoked; the zero UserChange
// does only that. API keys stay: they have a revocation of their own, and a disabled user's do not work.
func (s *Store) ChangeUser(ctx context.Context, id string, change UserChange) (User, error) {
	var u User
	err := s.tx(ctx, func(c session) (err error) {
		if u, err = scanUser(c.row(ctx, lockUser, id)); errors.Is(err, sql.ErrNoRows) {
			return notFound("USER", id)
		} else if err != nil {
			return err
		}
		set(&u.PasswordHash, change.PasswordHash)
		set(&u.Role, change.Role)
		set(&u.Disabled, change.Disabled)
		if err := checkUser(u); err != nil {
			return err
		}
		u.TokenGeneration++
		u.Updated = s.now()
		_, err = c.exec(ctx, updateUser, u.ID, u.PasswordHash, u.Role, u.Disabled, u.TokenGeneration, micros(u.Updated))
		return err
	})
	if err != nil {
		return User{}, forUser(ctx, "change the user", err)
	}
	return u, nil
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// APIKey is a key for programs. The key itself is not kept.
type APIKey struct {
	ID     string
	User   string
	Name   string
	Prefix string // the first characters of the key, by which its owner recognises it
	// Hash is the SHA-256 of the key, 64 hex digits in lower case.
	Hash     string
	Created  time.Time
	LastUsed time.Time // zero: never; to the minute
	Revoked  time.Time // zero: it works
}

// CreateAPIKey adds a key from k's user, name, prefix and hash. Codes: BAD_API_KEY, USER_NOT_FOUND.
func (s *Store) CreateAPIKey(ctx context.Context, k APIKey) (APIKey, error) {
	if !isSHA256(k.Hash) || len(k.Prefix) > 16 || !validName(k.Name) {
		return APIKey{}, bad("BAD_API_KEY", "an API key needs a name, a prefix of up to 16 characters and a SHA-256 hash")
	}
	k.ID, k.Created = string(job.NewID()), s.now()
	err := s.tx(ctx, func(c session) error {
		if there, err := exists(ctx, c, hasUser, k.User); err != nil {
			return err
		} else if !there {
			return notFound("USER", k.User)
		}
		_, err := c.exec(ctx, addAPIKey, k.ID, k.User, k.Name, k.Prefix, k.Hash, micros(k.Created))
		return err
	})
	if err != nil {
		return APIKey{}, forUser(ctx, "create the API key", err)
	}
	return k, nil
}

// APIKeys returns a user's keys, newest first, the revoked too.
func (s *Store) APIKeys(ctx context.Context, user string) ([]APIKey, error) {
	list, err := all(ctx, s.reader(), scanAPIKey, listAPIKeys, user)
	return list, forUser(ctx, "list the API keys", err)
}

// APIKeyByHash returns the key with this hash and its owner. A key that was revoked, or whose owner is disabled, is not found.
func (s *Store) APIKeyByHash(ctx context.Context, hash string) (APIKey, User, error) {
	k, err := scanAPIKey(s.reader().row(ctx, getAPIKey, hash))
	if errors.Is(err, sql.ErrNoRows) {
		return APIKey{}, User{}, notFound("API_KEY", "of this hash")
	}
	if err != nil {
		return APIKey{}, User{}, forUser(ctx, "find the API key", fmt.Errorf("%s: %w", getAPIKey.Name, err))
	}
	u, err := s.User(ctx, k.User)
	if err == nil && u.Disabled {
		err = notFound("API_KEY", "of this hash")
	}
	if err != nil {
		return APIKey{}, User{}, err
	}
	return k, u, nil
}

// UseAPIKey notes that a key was used now, at most once a minute, so that requests cost no write each.
func (s *Store) UseAPIKey(ctx context.Context, k APIKey) error {
	now := s.now()
	if now.Sub(k.LastUsed) < time.Minute {
		return nil
	}
	err := s.tx(ctx, func(c session) error {
		_, err := c.exec(ctx, useAPIKey, k.ID, micros(now))
		return err
	})
	return forUser(ctx, "note the use of an API key", err)
}

// RevokeAPIKey ends one of the user's keys for good. To revoke it again changes nothing.
func (s *Store) RevokeAPIKey(ctx context.Context, user, id string) error {
	err := s.tx(ctx, func(c session) error {
		n, err := c.exec(ctx, revokeAPIKey, id, user, micros(s.now()))
		if err == nil && n == 0 {
			return notFound("API_KEY", id)
		}
		return err
	})
	return forUser(ctx, "revoke the API key", err)
}

func scanAPIKey(row scanner) (APIKey, error) {
	var k APIKey
	var created, used, revoked int64
	err := row.Scan(&k.ID, &k.User, &k.Name, &k.Prefix, &k.Hash, &created, &used, &revoked)
	k.Created, k.LastUsed, k.Revoked = fromMicros(created), fromMicros(used), fromMicros(revoked)
	return k, err
}
