package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"steno/store"
)

// maxToken bounds the Authorization header.
const maxToken = 8 << 10

// errUnauthorized says nothing of what is wrong: that would help those who guess.
func errUnauthorized() *Problem {
	return newProblem(http.StatusUnauthorized, "UNAUTHORIZED",
		"the request has no valid token: send one of POST /api/v1/auth/token, or an API key, as Authorization: Bearer …").
		with("WWW-Authenticate", `Bearer realm="steno"`)
}

// authenticate finds out who calls.
func (s *Server) authenticate(r *http.Request) error {
	q := requestOf(r.Context())
	token, ok := bearer(r)
	if !ok {
		return errUnauthorized()
	}
	u, err := s.caller(r.Context(), q, token)
	if errors.Is(err, store.ErrNotFound) {
		return errUnauthorized()
	}
	if err != nil {
		return err
	}
	return s.known(q, u)
}

// known notes who calls, and holds each user to its rate.
func (s *Server) known(q *request, u store.User) error {
	q.user = u
	if wait, ok := s.users.take(u.ID, time.Now()); !ok {
		return s.tooMany("user", wait)
	}
	return nil
}

func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 || len(values[0]) > maxToken {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// caller is the user behind a token or an API key.
func (s *Server) caller(ctx context.Context, q *request, token string) (store.User, error) {
	if strings.HasPrefix(token, keyPrefix) {
		return s.userOfKey(ctx, token)
	}
	c, err := s.tokens.parse(token)
	if err != nil {
		return store.User{}, errUnauthorized()
	}
	u, err := s.standing(ctx, c)
	if err == nil {
		q.token = &c
	}
	return u, err
}

// standing is the user of a token, if it is not revoked.
func (s *Server) standing(ctx context.Context, c claims) (store.User, error) {
	u, err := s.cfg.Store.User(ctx, c.Subject)
	if err == nil && (u.Disabled || u.TokenGeneration != c.Generation) {
		err = errUnauthorized()
	}
	return u, err
}

// tokenBody is the answer that carries a token.
type tokenBody struct {
	AccessToken string `json:"access_token" doc:"send it as Authorization: Bearer …"`
	TokenType   string `json:"token_type" enum:"bearer"`
	ExpiresIn   int    `json:"expires_in" doc:"seconds for which it is good"`
}

type tokenOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         tokenBody
}

type loginInput struct {
	Body struct {
		Username string `json:"username" minLength:"1" maxLength:"64"`
		Password string `json:"password" minLength:"1" maxLength:"1024"`
	}
}

// loginWait is how long a log-in may wait for its turn to be checked.
const loginWait = 10 * time.Second

// login gives a token for a name and a password.
func (s *Server) login(ctx context.Context, in *loginInput) (*tokenOutput, error) {
	waiting, cancel := context.WithTimeout(ctx, loginWait)
	defer cancel()
	leave, err := s.passwords.enter(waiting)
	if err != nil {
		return nil, newProblem(http.StatusServiceUnavailable, "BUSY", "many log in right now: try again in a moment").
			with("Retry-After", "2")
	}
	defer leave()
	// Failures are counted before the next is tried, so a guesser's patience is what it pays with; users who know their passwords
	// are not counted.
	now, from, name := time.Now(), "address "+requestOf(ctx).address, "name "+in.Body.Username
	for limit, key := range map[*limits]string{s.failures: from, s.failedNames: name} {
		if wait, ok := limit.free(key, now); !ok {
			s.metrics.logins.WithLabelValues("limited").Inc()
			return nil, s.tooMany("login", wait)
		}
	}
	u, err := s.knows(ctx, in.Body.Username, in.Body.Password)
	if err != nil {
		return nil, err
	}
	if u.ID == "" {
		s.metrics.logins.WithLabelValues("refused").Inc()
		s.failures.take(from, now)
		s.failedNames.take(name, now)
		return nil, newProblem(http.StatusUnauthorized, "BAD_CREDENTIALS", "the user name or the password is wrong: check both").
			with("WWW-Authenticate", `Bearer realm="steno"`)
	}
	s.metrics.logins.WithLabelValues("ok").Inc()
	return s.newToken(u, s.cfg.Now())
}

// knows returns the user with this name and password, and the zero User where there is none. It takes the same time either way.
func (s *Server) knows(ctx context.Context, name, password string) (store.User, error) {
	var u store.User
	if !strings.Contains(name, "\x00") {
		var err error
		if u, err = s.cfg.Store.UserByName(ctx, name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return store.User{}, err
		}
	}
	fits, err := s.passwords.fits(u.PasswordHash, password)
	if err != nil || !fits || u.Disabled {
		return store.User{}, err
	}
	return u, nil
}

func (s *Server) newToken(u store.User, loggedIn time.Time) (*tokenOutput, error) {
	token, err := s.tokens.make(u, loggedIn)
	if err != nil {
		return nil, err
	}
	return &tokenOutput{"no-store", tokenBody{token, "bearer", int(s.cfg.TokenLifetime.Seconds())}}, nil
}

// errNeedsToken is for what only somebody who has logged in may do.
func errNeedsToken() *Problem {
	return newProblem(http.StatusForbidden, "NEEDS_TOKEN", "an API key cannot do this: log in by POST /api/v1/auth/token first")
}

// refresh gives a new token for one that is still good.
func (s *Server) refresh(ctx context.Context, _ *struct{}) (*tokenOutput, error) {
	q := requestOf(ctx)
	if q.token == nil {
		return nil, errNeedsToken()
	}
	loggedIn := time.Unix(q.token.LoggedIn, 0)
	if s.cfg.Now().Sub(loggedIn) > s.cfg.Session {
		return nil, newProblem(http.StatusUnauthorized, "SESSION_OVER", "the log-in is too long ago: log in again").
			with("WWW-Authenticate", `Bearer realm="steno"`)
	}
	return s.newToken(q.user, loggedIn)
}

// revoke ends all tokens of the caller.
func (s *Server) revoke(ctx context.Context, _ *struct{}) (*struct{}, error) {
	q := requestOf(ctx)
	if q.token == nil {
		return nil, errNeedsToken()
	}
	_, err := s.cfg.Store.ChangeUser(ctx, q.user.ID, store.UserChange{})
	return nil, err
}

type meOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		ID       string     `json:"user_id"`
		Username string     `json:"username"`
		Role     store.Role `json:"role" enum:"user,admin"`
		Created  time.Time  `json:"created_at"`
	}
}

// me says who calls.
func (*Server) me(ctx context.Context, _ *struct{}) (*meOutput, error) {
	u := requestOf(ctx).user
	out := &meOutput{CacheControl: "no-store"}
	out.Body.ID, out.Body.Username, out.Body.Role, out.Body.Created = u.ID, u.Username, u.Role, u.Created
	return out, nil
}

func (s *Server) authRoutes() {
	register(s, route{
		method: http.MethodPost, path: prefix + "/auth/token", id: "get-token", tag: "accounts", public: true, body: true,
		summary: "Get an access token for a user name and a password", fails: []int{http.StatusUnauthorized},
	}, s.login)
	register(s, route{
		method: http.MethodPost, path: prefix + "/auth/refresh", id: "refresh-token", tag: "accounts",
		summary: "Get a new access token for one that is still good", fails: []int{http.StatusForbidden},
	}, s.refresh)
	register(s, route{
		method: http.MethodPost, path: prefix + "/auth/revoke", id: "revoke-tokens", tag: "accounts",
		summary: "End all access tokens of the caller; API keys stay", fails: []int{http.StatusForbidden},
	}, s.revoke)
	register(s, route{
		method: http.MethodGet, path: prefix + "/user/me", id: "who-am-i", tag: "accounts", summary: "See who the token belongs to",
	}, s.me)
}
