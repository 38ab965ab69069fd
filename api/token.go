package api

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"steno/store"
)

// Who tokens come from and whom they are for.
const (
	issuer   = "steno"
	audience = "steno-api"
)

const leeway = 30 * time.Second

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	// Generation is that of the user's tokens when it was made; all of an older one are revoked.
	Generation int `json:"gen"`
	// LoggedIn is when the user gave the password, in seconds since 1970; new tokens keep it.
	LoggedIn int64 `json:"auth_time"`
}

// tokens makes and checks access tokens. Safe for concurrent use.
type tokens struct {
	keys     Keys
	lifetime time.Duration
	now      func() time.Time
	parser   *jwt.Parser
}

func newTokens(cfg Config) *tokens {
	return &tokens{cfg.Keys, cfg.TokenLifetime, cfg.Now, jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(cfg.Now),
	)}
}

// make signs a token for a user.
func (t *tokens) make(u store.User, loggedIn time.Time) (string, error) {
	now := t.now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: u.ID,
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.lifetime)),
		},
		Generation: u.TokenGeneration, LoggedIn: loggedIn.Unix(),
	})
	token.Header["kid"] = t.keys[0].ID
	signed, err := token.SignedString(t.keys[0].Secret)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	return signed, nil
}

// parse checks a token's signature and times. Whether the user still stands behind it is not asked here.
func (t *tokens) parse(text string) (claims, error) {
	var c claims
	_, err := t.parser.ParseWithClaims(text, &c, func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		if secret := t.keys.find(id); secret != nil {
			return secret, nil
		}
		return nil, errors.New("the token names no key of ours")
	})
	if err != nil {
		return claims{}, err
	}
	if c.Subject == "" || c.IssuedAt == nil {
		return claims{}, errors.New("the token lacks its subject or its time")
	}
	return c, nil
}
