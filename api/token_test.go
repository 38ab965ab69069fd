package api_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"steno/api"
	"steno/job"
	"steno/store"
)

// publicPEM is a public key as it is published: the classic attack signs with it as if it were a secret.
func publicPEM(t *testing.T) []byte {
	t.Helper()
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&key.PublicKey))(t)})
}

// badAuthorizations are the headers of those who must not get in, by what is wrong with them.
func (b *bare) badAuthorizations() map[string][]string {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	good := b.ada.token
	list := map[string][]string{
		"no header": nil, "empty": {""}, "scheme alone": {"Bearer"}, "no token": {"Bearer  "},
		"two headers":    {"Bearer " + good, "Bearer " + good},
		"the same twice": {"Bearer " + good + ", Bearer " + good}, "no scheme": {good}, "other scheme": {"Token " + good},
		"basic": {"Basic " + base64.StdEncoding.EncodeToString([]byte("ada:"+password))}, "garbage": {"Bearer \x00\xff…"},
		"dots": {"Bearer .."}, "five parts": {"Bearer " + good + ".e30.e30"},
		"oversized":                          {"Bearer " + good + strings.Repeat("A", 8<<10)},
		"white space that makes it too long": {"Bearer " + strings.Repeat(" ", 8<<10) + good}, "cut": {"Bearer " + good[:len(good)-1]},
		"unsigned":       {"Bearer " + good[:strings.LastIndex(good, ".")+1]},
		"a part too few": {"Bearer " + good[:strings.LastIndex(good, ".")]},
		"key of nobody":  {"Bearer sk-steno-" + strings.Repeat("A", 43)}, "prefix of a key": {"Bearer sk-steno-"},
	}
	add := func(what string, of store.User, spoil func(*forged)) {
		f := b.token(of)
		spoil(&f)
		list[what] = []string{"Bearer " + f.String()}
	}
	claim := func(what, name string, value any) {
		add(what, b.ada.User, func(f *forged) { f.claims[name] = value })
	}
	header := func(what, name string, value any) {
		add(what, b.ada.User, func(f *forged) { f.header[name] = value })
	}
	now, pub := b.cfg.Now().Unix(), publicPEM(b.T)
	add("alg none", b.ada.User, func(f *forged) { f.header["alg"], f.secret = "none", nil })
	none := b.token(b.ada.User)
	none.header["alg"] = "none"
	list["alg none, unsigned"] = []string{"Bearer " + none.String()[:strings.LastIndex(none.String(), ".")+1]}
	add("RS256, signed with the public key", b.ada.User, func(f *forged) { f.header["alg"], f.secret = "RS256", pub })
	header("RS256, signed with our secret", "alg", "RS256")
	add("signed with a public key", b.ada.User, func(f *forged) { f.secret = pub })
	add("HS512", b.ada.User, func(f *forged) { f.header["alg"], f.hash = "HS512", sha512.New })
	header("alg in lower case", "alg", "hs256")
	header("alg that is no text", "alg", 256)
	add("wrong key", b.ada.User, func(f *forged) { f.secret = make([]byte, 32) })
	add("empty key", b.ada.User, func(f *forged) { f.secret = nil })
	header("unknown kid", "kid", "0123456789abcdef")
	header("kid that is a path", "kid", "/dev/null")
	header("kid that is no text", "kid", 1)
	header("empty kid", "kid", "")
	add("no kid", b.ada.User, func(f *forged) { delete(f.header, "kid") })
	claim("expired", "exp", now-31)
	claim("exp that is no number", "exp", "tomorrow")
	claim("not yet issued", "iat", now+120)
	claim("not yet good", "nbf", now+120)
	claim("wrong issuer", "iss", "somebody")
	claim("wrong audience", "aud", "another-api")
	claim("no subject", "sub", "")
	claim("nobody's", "sub", string(job.NewID()))
	claim("a name for a subject", "sub", "ada")
	claim("generation to come", "gen", 99)
	claim("generation that is no number", "gen", "1")
	for _, name := range []string{"exp", "iat", "iss", "aud", "sub", "gen"} {
		add("no "+name, b.ada.User, func(f *forged) { delete(f.claims, name) })
	}
	add("eve's with a wrong signature", b.eve.User, func(f *forged) { f.secret = make([]byte, 32) })
	eves := b.token(b.eve.User).String()
	mixed := eves[:strings.LastIndex(eves, ".")] + good[strings.LastIndex(good, "."):]
	list["eve's with the signature of ada's"] = []string{"Bearer " + mixed}

	yes, dan := true, b.account("dan")
	dan.User = must(b.store.ChangeUser(ctx, dan.ID, store.UserChange{Disabled: &yes}))(b.T)
	add("disabled user", dan.User, func(*forged) {})
	rex := b.account("rex")
	b.call(rex, "POST", "/api/v1/auth/revoke", nil).want(204)
	list["revoked"] = []string{"Bearer " + rex.token}
	again := must(b.store.User(ctx, rex.ID))(b.T)
	b.call(user{again, b.token(again).String()}, "GET", "/api/v1/user/me", nil).want(200)

	// API keys that have been good: one was revoked, and the owner of the other was disabled.
	kim := b.account("kim")
	for what, end := range map[string]func(id string){
		"API key that was revoked": func(id string) { b.call(kim, "DELETE", "/api/v1/user/keys/"+id, nil).want(204) },
		"API key of a disabled user": func(string) {
			must(b.store.ChangeUser(ctx, kim.ID, store.UserChange{Disabled: &yes}))(b.T)
		},
	} {
		off := false
		kim.User = must(b.store.ChangeUser(ctx, kim.ID, store.UserChange{Disabled: &off}))(b.T)
		kim.token = b.token(kim.User).String()
		var k keyOf
		b.call(kim, "POST", "/api/v1/user/keys", map[string]string{"name": "laptop"}).want(201).json(&k)
		b.call(user{token: k.Key}, "GET", "/api/v1/user/me", nil).want(200)
		end(k.ID)
		list[what] = []string{"Bearer " + k.Key}
	}
	must(b.store.ChangeUser(ctx, kim.ID, store.UserChange{Disabled: &yes}))(b.T) // whichever came last
	return list
}

// Each route that needs a token refuses all that is none, in the same words. Which routes need none is said here.
func TestTokens(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	bad := b.badAuthorizations()
	var public []string
	routes, refusals := 0, 0
	for _, o := range operations(t, b.call(user{}, "GET", "/openapi.json", nil).want(200).body) {
		path := o.at(string(job.NewID()))
		if o.public {
			public = append(public, o.method+" "+o.path)
			continue
		}
		routes++
		for name, values := range bad {
			refusals++
			req := b.request(o.method, path, nil)
			for _, v := range values {
				req.Header.Add("Authorization", v)
			}
			got := b.send(req)
			got.what += " with " + name
			got.refused(401, "authentication_error", "UNAUTHORIZED")
			if got.Header.Get("WWW-Authenticate") != `Bearer realm="steno"` || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: header %v", got.what, got.Header)
			}
		}
		// The same request with a good one gets through.
		u := must(b.store.User(t.Context(), b.ada.ID))(t)
		if got := b.call(user{u, b.token(u).String()}, o.method, path, nil); got.StatusCode == 401 || got.StatusCode >= 500 {
			t.Errorf("%s with a good token: %d: %s", got.what, got.StatusCode, got.body)
		}
	}
	t.Logf("%d routes, each with %d credentials that are none: %d refusals", routes, len(bad), refusals)
	if len(bad) < 50 || routes < 20 {
		t.Errorf("only %d credentials on %d routes", len(bad), routes)
	}
	slices.Sort(public)
	if want := []string{
		"GET /api/v1/health", "GET /api/v1/health/ready", "GET /health", "GET /health/ready", "POST /api/v1/auth/token",
	}; !slices.Equal(public, want) {
		t.Errorf("routes for everybody: %v, want %v", public, want)
	}
}

// What a token may look like, so that the other test refuses for the reason that it names.
func TestGoodTokens(t *testing.T) {
	t.Parallel()
	second := api.Key{ID: "second", Secret: []byte(strings.Repeat("s", 32))}
	b := newBare(t, func(c *api.Config) { c.Keys = append(c.Keys, second) })
	now := b.cfg.Now().Unix()
	spoil := func(change func(*forged)) string {
		f := b.token(b.ada.User)
		change(&f)
		return f.String()
	}
	for name, value := range map[string]string{
		"plain":                        "Bearer " + b.ada.token,
		"scheme in lower case":         "bearer " + b.ada.token,
		"more white space":             "Bearer   " + b.ada.token + " ",
		"second key":                   "Bearer " + spoil(func(f *forged) { f.header["kid"], f.secret = second.ID, second.Secret }),
		"just expired":                 "Bearer " + spoil(func(f *forged) { f.claims["exp"] = now - 20 }),
		"issued by a clock that leads": "Bearer " + spoil(func(f *forged) { f.claims["iat"] = now + 20 }),
		"audience among others":        "Bearer " + spoil(func(f *forged) { f.claims["aud"] = []string{"x", "steno-api"} }),
		"audience alone":               "Bearer " + spoil(func(f *forged) { f.claims["aud"] = "steno-api" }),
	} {
		var me struct {
			ID   string `json:"user_id"`
			Name string `json:"username"`
			Role string `json:"role"`
		}
		got := b.call(user{}, "GET", "/api/v1/user/me", nil, "Authorization", value)
		got.what += ", " + name
		got.want(200).json(&me)
		if me.ID != b.ada.ID || me.Name != "ada" || me.Role != "user" || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s, %v", name, got.body, got.Header)
		}
	}
	// Nowhere else is a token looked for.
	b.call(user{}, "GET", "/api/v1/user/me?access_token="+b.ada.token, nil).problem(401, "UNAUTHORIZED")
	b.call(user{}, "GET", "/api/v1/user/me", nil, "Cookie", "access_token="+b.ada.token).problem(401, "UNAUTHORIZED")
	b.call(user{}, "GET", "/api/v1/user/me", nil, "X-Api-Key", b.ada.token).problem(401, "UNAUTHORIZED")
}

// Keys rotate in a file: the new one signs, the old ones verify as long as they are kept.
func TestRotateKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	first := must(api.LoadKeys(path))(t)
	if again := must(api.LoadKeys(path))(t); len(first) != 1 || len(first[0].Secret) < 32 || again[0].ID != first[0].ID {
		t.Fatalf("keys %v, again %v", first, again)
	}
	b := newBare(t, func(c *api.Config) { c.Keys = first })
	gateway := func(keys api.Keys) *bare { return b.again(func(c *api.Config) { c.Keys = keys }) }
	login := func(b *bare) user {
		var body struct {
			Token string `json:"access_token"`
		}
		b.call(user{}, "POST", "/api/v1/auth/token", map[string]string{"username": "ada", "password": password}).want(200).json(&body)
		return user{b.ada.User, body.Token}
	}
	one := login(b)
	two := must(api.RotateKeys(path, 1))(t)
	if len(two) != 2 || two[1].ID != first[0].ID || two[0].ID == first[0].ID {
		t.Fatalf("rotated %v, before %v", two, first)
	}
	got := must(api.LoadKeys(path))(t)
	if len(got) != 2 || got[0].ID != two[0].ID || string(got[1].Secret) != string(first[0].Secret) {
		t.Fatalf("loaded %v, want %v", got, two)
	}
	rotated := gateway(two)
	rotated.call(one, "GET", "/api/v1/user/me", nil).want(200)
	fresh := login(rotated)
	rotated.call(fresh, "GET", "/api/v1/user/me", nil).want(200)
	b.call(fresh, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED") // it is the new key that signs
	last := gateway(must(api.RotateKeys(path, 1))(t))
	last.call(fresh, "GET", "/api/v1/user/me", nil).want(200)
	last.call(one, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
	alone := gateway(must(api.RotateKeys(path, -1))(t)) // as 0
	alone.call(fresh, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
	if st := must(os.Stat(path))(t); st.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %o", st.Mode().Perm())
	}
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
		t.Errorf("left in the folder: %v", left)
	}
}

// Gateways that start at once on one folder agree on the key. There is nothing between them but the file, as between processes.
func TestKeysMadeAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "keys")
		var all sync.WaitGroup
		ids := make([]string, 8)
		for i := range ids {
			all.Go(func() {
				keys, err := api.LoadKeys(path)
				if err != nil || len(keys) != 1 {
					t.Errorf("keys %v, %v", keys, err)
					return
				}
				ids[i] = keys[0].ID + string(keys[0].Secret)
			})
		}
		all.Wait()
		if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
			t.Fatalf("keys differ: %q", ids)
		}
	}
}

func TestBadKeyFiles(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, row := range map[string]struct {
		text string
		mode os.FileMode
		want string // in the error; empty: it is good
	}{
		"one":                 {"a " + secret + "\n", 0o600, ""},
		"no end of line":      {"a " + secret, 0o600, ""},
		"comments and spaces": {"# x\n\n  a   " + secret + "  \r\n#\n", 0o400, ""},
		"read by the group":   {"a " + secret, 0o640, "chmod 600"},
		"read by all":         {"a " + secret, 0o604, "chmod 600"},
		"empty":               {"", 0o600, "there is no key in it"},
		"comments alone":      {"# a " + secret, 0o600, "there is no key in it"},
		"id alone":            {"# x\n\na\n", 0o600, "line 3 is no key"},
		"secret alone":        {" " + secret, 0o600, "line 1 is no key"},
		"short secret":        {"b " + secret + "\na c2hvcnQ=", 0o600, "line 2 is no key"},
		"no base64":           {"a " + strings.Repeat("?", 44), 0o600, "line 1 is no key"},
		"twice":               {"a " + secret + "\na " + secret, 0o600, `the id "a" is there twice`},
		"a line that is long": {"a " + secret + "\nb " + strings.Repeat("A", 100_000) + "!", 0o600, "line 2 is no key"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := errors.Join(os.WriteFile(path, []byte(row.text), 0o600), os.Chmod(path, row.mode)); err != nil {
				t.Fatal(err)
			}
			keys, err := api.LoadKeys(path)
			switch {
			case row.want == "" && (err != nil || len(keys) != 1 || keys[0].ID != "a" || len(keys[0].Secret) != 32):
				t.Errorf("keys %v, %v", keys, err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path)):
				t.Errorf("keys %v, error %v, want %q of %s", keys, err, row.want, path)
			case err != nil && strings.Contains(err.Error(), secret):
				t.Errorf("the error tells the secret: %v", err)
			}
			if _, err := api.RotateKeys(path, 1); (err == nil) != (row.want == "") {
				t.Errorf("rotate: %v", err)
			}
			if row.want != "" && string(must(os.ReadFile(path))(t)) != row.text {
				t.Error("the file has changed")
			}
		})
	}
	nowhere := filepath.Join(t.TempDir(), "no", "keys")
	if _, err := api.LoadKeys(nowhere); err == nil || !strings.Contains(err.Error(), "make the keys") {
		t.Errorf("in a folder that is not there: %v", err)
	}
	if _, err := api.RotateKeys(nowhere, 1); err == nil {
		t.Error("rotated in a folder that is not there")
	}
}
