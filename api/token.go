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
	issuer         = "steno"
	audience       = "steno-api"
	ticketAudience = "steno-file"
)

const leeway = 30 * time.Second

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	// Generation is that of the user's tokens when it was made; all of an older one are revoked.
	Generation int `json:"gen"`
	// LoggedIn is when the user gave the password, in seconds since 1970; new tokens keep it.
	LoggedIn int64 `json:"auth_time"`
	// File is all that a ticket lets its bearer read; access tokens have none.
	File string `json:"file,omitempty"`
}

// tokens makes and checks access tokens. Safe for concurrent use.
type tokens struct {
	keys     Keys
	lifetime time.Duration
	now      func() time.Time
	// access and ticket take only what was made for their purpose.
	access, ticket *jwt.Parser
}

func newTokens(cfg Config) *tokens {
	parser := func(audience string) *jwt.Parser {
		return jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(cfg.Now),
		)
	}
	return &tokens{cfg.Keys, cfg.TokenLifetime, cfg.Now, parser(audience), parser(ticketAudience)}
}

// make signs an access token for a user.
func (t *tokens) make(u store.User, loggedIn time.Time) (string, error) {
	return t.sign(u, audience, claims{LoggedIn: loggedIn.Unix()})
}

// makeTicket signs a ticket for one of the user's files: good for as long as an access token, and for nothing else.
func (t *tokens) makeTicket(u store.User, file string) (string, error) {
	return t.sign(u, ticketAudience, claims{File: file})
}

func (t *tokens) sign(u store.User, audience string, c claims) (string, error) {
	now := t.now()
	c.RegisteredClaims = jwt.RegisteredClaims{
		Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: u.ID,
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.lifetime)),
	}
	c.Generation = u.TokenGeneration
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	token.Header["kid"] = t.keys[0].ID
	signed, err := token.SignedString(t.keys[0].Secret)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	return signed, nil
}

// parse checks an access token's signature and times. Whether the user still stands behind it is not asked here.
func (t *tokens) parse(text string) (claims, error) { return t.check(t.access, text) }

// parseTicket does the same for a ticket.
func (t *tokens) parseTicket(text string) (claims, error) { return t.check(t.ticket, text) }

func (t *tokens) check(parser *jwt.Parser, text string) (claims, error) {
	var c claims
	_, err := parser.ParseWithClaims(text, &c, func(token *jwt.Token) (any, error) {
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
