package api_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"steno/api"
	"steno/store"
)

// login sends a name and a password.
func (b *bare) login(name, password string) *reply {
	b.Helper()
	return b.call(user{}, "POST", "/api/v1/auth/token", map[string]string{"username": name, "password": password})
}

// tokenOf is the answer that carries a token.
func (p *reply) tokenOf(of user) user {
	p.t.Helper()
	var body struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		Time  int    `json:"expires_in"`
	}
	p.want(200).json(&body)
	if body.Token == "" || body.Type != "bearer" || body.Time != 3600 || p.Header.Get("Cache-Control") != "no-store" {
		p.t.Errorf("%s: %s, %v", p.what, p.body, p.Header)
	}
	of.token = body.Token
	return of
}

// Who has no account, or a disabled one, is told the same as who has forgotten the password.
func TestLogin(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	yes := true
	dan := b.account("dan")
	must(b.store.ChangeUser(t.Context(), dan.ID, store.UserChange{Disabled: &yes}))(t)
	b.call(b.login("ada", password).tokenOf(b.ada), "GET", "/api/v1/user/me", nil).want(200)
	var answers []string
	for _, row := range []struct{ name, password string }{
		{"ada", "wrong horse"}, {"ada", password + " "}, {"ada", strings.ToUpper(password)}, {"ada", strings.Repeat("x", 1024)},
		{"ada", "\x00"}, {"Ada", password}, {"nobody", password}, {"ada\x00", password}, {"dan", password},
		{"' OR 1=1 --", password}, {b.ada.ID, password},
		{"nobody", "nobody's password"}, // the decoy's
	} {
		body := map[string]string{"username": row.name, "password": row.password}
		got := b.call(user{}, "POST", "/api/v1/auth/token", body, "X-Request-Id", "x")
		got.what += fmt.Sprintf(" as %+v", row)
		got.problem(401, "BAD_CREDENTIALS")
		if got.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: header %v", got.what, got.Header)
		}
		answers = append(answers, fmt.Sprint(string(got.body), got.Header))
	}
	if list := slices.Compact(answers); len(list) != 1 {
		t.Errorf("answers differ: %q", list)
	}
	for _, body := range []any{
		map[string]string{"username": "ada"}, map[string]string{"password": password}, []string{"ada", password},
		map[string]string{"username": "", "password": password}, map[string]string{"username": "ada", "password": ""},
		map[string]any{"username": 1, "password": password},
		map[string]string{"username": strings.Repeat("a", 65), "password": password},
		map[string]string{"username": "ada", "password": strings.Repeat("a", 1025)},
	} {
		got := b.call(user{}, "POST", "/api/v1/auth/token", body)
		got.problem(422, "BAD_FIELD")
		if strings.Contains(string(got.body), password) {
			t.Errorf("the answer repeats the password: %s", got.body)
		}
	}
}

// An unknown name costs as much work as a known one, so that the time does not tell which is which. The least of some times is
// the work alone; without the work an answer takes a hundredth of it. On a busy machine more tries find the least.
func TestUnknownNamesTakeTime(t *testing.T) {
	b := newBare(t)
	least := map[string]time.Duration{"ada": time.Hour, "nobody": time.Hour, "nul\x00": time.Hour}
	alike := func() bool { return min(least["nobody"], least["nul\x00"]) >= least["ada"]/4 }
	for try := 0; try < 4 || try < 40 && !alike(); try++ {
		for name := range least {
			began := time.Now()
			b.login(name, "wrong horse").want(401)
			least[name] = min(least[name], time.Since(began))
		}
	}
	if !alike() {
		t.Errorf("times %v", least)
	}
}

// retryAfter is how long an answer says to wait.
func (p *reply) retryAfter() time.Duration {
	p.t.Helper()
	n, err := strconv.Atoi(p.Header.Get("Retry-After"))
	if err != nil || n < 1 {
		p.t.Fatalf("%s: Retry-After is %q", p.what, p.Header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

// Guesses are slowed down: from one address, and for one name from all addresses together.
func TestLoginLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, func(c *api.Config) { c.LoginRate = 2 })
		for range 5 { // who knows the password is not counted
			b.login("ada", password).want(200)
		}
		b.login("ada", "wrong horse").problem(401, "BAD_CREDENTIALS")
		b.login("nobody", "wrong horse").problem(401, "BAD_CREDENTIALS")
		for _, name := range []string{"ada", "eve", "nobody"} {
			b.login(name, "wrong horse").problem(429, "TOO_MANY_REQUESTS")
		}
		refused := b.login("ada", password) // else one would guess on and see which is right
		refused.problem(429, "TOO_MANY_REQUESTS")
		if wait := refused.retryAfter(); wait != 30*time.Second {
			t.Errorf("wait for %s, with 2 a minute", wait)
		}
		b.call(b.ada, "GET", "/api/v1/user/me", nil).want(200) // all else goes on
		b.from("192.0.2.2:1").login("ada", password).want(200)
		time.Sleep(refused.retryAfter() - time.Second)
		b.login("ada", password).problem(429, "TOO_MANY_REQUESTS")
		time.Sleep(time.Second)
		b.login("ada", password).want(200)
		b.login("ada", "wrong horse").problem(401, "BAD_CREDENTIALS")
		b.login("ada", "wrong horse").problem(429, "TOO_MANY_REQUESTS")
	})
}

func TestLoginLimitOfNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, func(c *api.Config) { c.LoginRate = 1 })
		for i := range 10 { // ten times what one address may
			b.from(fmt.Sprintf("192.0.2.%d:1", i+2)).login("ada", "wrong horse").problem(401, "BAD_CREDENTIALS")
		}
		refused := b.login("ada", password)
		refused.problem(429, "TOO_MANY_REQUESTS")
		b.login("eve", password).want(200)
		time.Sleep(refused.retryAfter())
		b.login("ada", password).want(200)
	})
}

// A log-in is prolonged by new tokens until it is too old, whatever tokens were made meanwhile.
func TestSession(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	b := newBare(t, func(c *api.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		c.Session = 2 * time.Hour
	})
	refresh := func(as user) *reply { return b.call(as, "POST", "/api/v1/auth/refresh", nil) }
	at := func(d time.Duration) { later.Store(int64(d)) }
	first := b.login("ada", password).tokenOf(b.ada)
	at(50 * time.Minute)
	second := refresh(first).tokenOf(b.ada)
	at(62 * time.Minute)
	refresh(first).problem(401, "UNAUTHORIZED") // it has expired
	at(100 * time.Minute)
	third := refresh(second).tokenOf(b.ada)
	at(119 * time.Minute)
	refresh(third).tokenOf(b.ada)
	at(121 * time.Minute)
	over := refresh(third)
	over.problem(401, "SESSION_OVER")
	if over.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("header %v", over.Header)
	}
	b.call(third, "GET", "/api/v1/user/me", nil).want(200)
	refresh(b.login("ada", password).tokenOf(b.ada)).want(200)
}

// To revoke ends all tokens of the user who asks, and of nobody else.
func TestRevoke(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	one, two := b.login("ada", password).tokenOf(b.ada), b.login("ada", password).tokenOf(b.ada)
	fresh := b.call(one, "POST", "/api/v1/auth/refresh", nil).tokenOf(b.ada)
	b.call(two, "POST", "/api/v1/auth/revoke", nil).want(204)
	for _, old := range []user{one, two, fresh, b.ada} {
		b.call(old, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
		b.call(old, "POST", "/api/v1/auth/refresh", nil).problem(401, "UNAUTHORIZED")
	}
	b.call(b.eve, "GET", "/api/v1/user/me", nil).want(200)
	b.call(b.login("ada", password).tokenOf(b.ada), "GET", "/api/v1/user/me", nil).want(200)
}

// keyOf is an API key as its owner sees it.
type keyOf struct {
	ID       string     `json:"key_id"`
	Name     string     `json:"name"`
	Prefix   string     `json:"prefix"`
	Key      string     `json:"key"`
	LastUsed *time.Time `json:"last_used_at"`
	Revoked  *time.Time `json:"revoked_at"`
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	const path = "/api/v1/user/keys"
	only := func() keyOf {
		t.Helper()
		var list struct {
			Items []keyOf `json:"items"`
		}
		if b.call(b.ada, "GET", path, nil).want(200).json(&list); len(list.Items) != 1 {
			t.Fatalf("keys %+v", list.Items)
		}
		return list.Items[0]
	}
	var k keyOf
	made := b.call(b.ada, "POST", path, map[string]string{"name": "laptop"}).want(201).json(&k)
	if !strings.HasPrefix(k.Key, "sk-steno-") || len(k.Key) != 9+43 || k.Name != "laptop" || !strings.HasPrefix(k.Key, k.Prefix) ||
		len(k.Prefix) > 16 || made.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("key %+v, %v", k, made.Header)
	}
	if got := only(); got.ID != k.ID || got.Prefix != k.Prefix || got.Key != "" || got.LastUsed != nil || got.Revoked != nil {
		t.Errorf("before its use %+v", got)
	}
	program := user{b.ada.User, k.Key}
	var me struct {
		ID string `json:"user_id"`
	}
	if b.call(program, "GET", "/api/v1/user/me", nil).want(200).json(&me); me.ID != b.ada.ID {
		t.Errorf("the key is that of %s", me.ID)
	}
	b.call(program, "GET", "/v1/models", nil).want(200)
	if got := only(); got.LastUsed == nil || time.Since(*got.LastUsed) > time.Minute {
		t.Errorf("after its use %+v", got)
	}
	// Whoever has found a key can neither keep a way in nor lock its owner out.
	b.call(program, "POST", "/api/v1/auth/refresh", nil).problem(403, "NEEDS_TOKEN")
	b.call(program, "POST", "/api/v1/auth/revoke", nil).problem(403, "NEEDS_TOKEN")
	b.call(program, "POST", path, map[string]string{"name": "another"}).problem(403, "NEEDS_TOKEN")
	for _, name := range []string{"", strings.Repeat("n", 101)} {
		b.call(b.ada, "POST", path, map[string]string{"name": name}).problem(422, "BAD_FIELD")
	}
	for _, wrong := range []string{
		k.Key[:len(k.Key)-1], k.Key + "A", strings.ToUpper(k.Key), "sk-steno-" + strings.ToLower(k.Key[9:]), k.Prefix,
	} {
		b.call(user{token: wrong}, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
	}

	b.call(b.ada, "POST", "/api/v1/auth/revoke", nil).want(204) // ends tokens alone
	b.ada.token = b.login("ada", password).tokenOf(b.ada).token
	b.call(program, "GET", "/api/v1/user/me", nil).want(200)
	for range 2 { // again changes nothing
		b.call(b.ada, "DELETE", path+"/"+k.ID, nil).want(204)
		b.call(program, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
	}
	if got := only(); got.Revoked == nil || got.ID != k.ID {
		t.Errorf("revoked %+v", got)
	}
	b.call(b.ada, "DELETE", path+"/nothing", nil).problem(404, "API_KEY_NOT_FOUND")
}

// A key ends with its user's account.
func TestKeyOfDisabledUser(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	var k keyOf
	b.call(b.ada, "POST", "/api/v1/user/keys", map[string]string{"name": "laptop"}).want(201).json(&k)
	program := user{token: k.Key}
	b.call(program, "GET", "/api/v1/user/me", nil).want(200)
	for _, row := range []struct {
		disabled bool
		want     int
	}{{true, 401}, {false, 200}} {
		must(b.store.ChangeUser(context.WithoutCancel(t.Context()), b.ada.ID, store.UserChange{Disabled: &row.disabled}))(t)
		b.call(program, "GET", "/api/v1/user/me", nil).want(row.want)
	}
}
