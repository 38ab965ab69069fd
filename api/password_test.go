package api

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"steno/job"
	"steno/store"
)

// phcOf is a hash with these costs and sizes; what it is of does not matter.
func phcOf(memory, time, threads uint64, salt, key int) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, memory, time, threads, b64(make([]byte, salt)), b64(make([]byte, key)))
}

func TestParsePHC(t *testing.T) {
	t.Parallel()
	good := phcOf(19456, 2, 1, 16, 32)
	for text, want := range map[string]phc{
		good:                         {memory: 19456, time: 2, threads: 1, salt: make([]byte, 16), key: make([]byte, 32)},
		phcOf(8, 1, 1, 8, 16):        {memory: 8, time: 1, threads: 1, salt: make([]byte, 8), key: make([]byte, 16)},
		phcOf(1<<20, 16, 255, 8, 16): {memory: 1 << 20, time: 16, threads: 255, salt: make([]byte, 8), key: make([]byte, 16)},
	} {
		if got, err := parsePHC(text); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	replaced := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for what, text := range map[string]string{
		"empty": "", "no hash": "correct horse", "dollars": "$$$$$", "too many parts": good + "$", "text before": "x" + good,
		"argon2i": replaced("argon2id", "argon2i"), "bcrypt": "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		"other version": replaced("v=19", "v=16"), "no version": replaced("v=19$", ""),
		"too much memory": phcOf(1<<20+1, 1, 1, 16, 32), "more than a number holds": phcOf(1<<32+19456, 2, 1, 16, 32),
		"too little memory": phcOf(7, 1, 1, 16, 32), "too many passes": phcOf(8, 17, 1, 16, 32), "no pass": phcOf(8, 0, 1, 16, 32),
		"no thread": phcOf(8, 1, 0, 16, 32), "too many threads": phcOf(8, 1, 256, 16, 32), "negative": replaced("t=2", "t=-2"),
		"short salt": phcOf(8, 1, 1, 7, 32), "short key": phcOf(8, 1, 1, 16, 15), "no key": phcOf(8, 1, 1, 16, 0),
		"other order": replaced("m=19456,t=2", "t=2,m=19456"), "text after the costs": replaced("p=1", "p=1,x=3"),
		"spaces": replaced("m=19456", "m= 19456"), "zeros before": replaced("t=2", "t=02"),
		"padding": good + "=", "no base64": good[:len(good)-1] + "!",
	} {
		if got, err := parsePHC(text); !errors.Is(err, errPHC) {
			t.Errorf("%s: %s is %v, %v", what, text, got, err)
		}
	}
}

// What is read is within the bounds, and is written the same way again.
func FuzzParsePHC(f *testing.F) {
	for _, seed := range []string{
		"", "$$$$$", phcOf(19456, 2, 1, 16, 32), phcOf(8, 1, 1, 8, 16), phcOf(1<<32, 1<<32, 256, 1, 1),
		"$argon2id$v=19$m=19456,t=2,p=1,keyid=x$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=0x10,t=1_0,p= 1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parsePHC(text)
		if err != nil {
			return
		}
		if h.memory < 8 || h.memory > 1<<20 || h.time < 1 || h.time > 16 || h.threads < 1 || len(h.salt) < 8 || len(h.key) < 16 {
			t.Errorf("%q is %v", text, h)
		}
		costs := fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, h.memory, h.time, h.threads)
		if !strings.HasPrefix(text, costs) {
			t.Errorf("%q is read as %q", text, costs)
		}
	})
}

func TestHashPassword(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 7, 1025} {
		if hash, err := HashPassword(strings.Repeat("x", n)); job.AsError(err).Code != "BAD_PASSWORD" || hash != "" {
			t.Errorf("%d bytes: %q, %v", n, hash, err)
		}
	}
	p := newPasswords(1)
	seen := map[string]bool{}
	for _, password := range []string{
		strings.Repeat("x", 8), strings.Repeat("x", 1024), "Übung macht den Meister", GeneratePassword(),
	} {
		hash, err := HashPassword(password)
		if err != nil || seen[hash] || strings.Contains(hash, password) || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("%q is %q, %v", password, hash, err)
		}
		seen[hash] = true
		for try, want := range map[string]bool{password: true, password + "x": false, password[1:]: false, "": false} {
			if got, err := p.fits(hash, try); got != want || err != nil {
				t.Errorf("%q for %q: %v, %v", try, password, got, err)
			}
		}
	}
	if again, _ := HashPassword(strings.Repeat("x", 8)); seen[again] {
		t.Error("two hashes of one password are the same: there is no salt")
	}
	if got, err := p.fits("", "nobody's password"); got || err != nil { // even the decoy's
		t.Errorf("nobody's password fits: %v, %v", got, err)
	}
	if got, err := p.fits("$argon2id$damaged", "x"); got || !errors.Is(err, errPHC) {
		t.Errorf("a damaged hash: %v, %v", got, err)
	}
	if a, b := GeneratePassword(), GeneratePassword(); a == b || len(a) != 20 {
		t.Errorf("passwords %q and %q", a, b)
	}
}

// As many passwords as there are slots are checked at once, and who waits may leave.
func TestPasswordSlots(t *testing.T) {
	t.Parallel()
	p := newPasswords(2)
	var leave [2]func()
	for i := range leave {
		var err error
		if leave[i], err = p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a third enters: %v", err)
	}
	leave[0]()
	again, err := p.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
	leave[1]()
}

// Whatever the header is, it is read without a panic, and what comes out is a part of one that says Bearer.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "Bearer x", "bearer  x ", "Basic YTpi", "Bearer a b", "Bearer\tx", strings.Repeat("Bearer ", 2000),
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, value string, twice bool) {
		r := &http.Request{Header: http.Header{"Authorization": {value}}}
		if twice {
			r.Header["Authorization"] = []string{value, value}
		}
		token, ok := bearer(r)
		if !ok {
			return
		}
		if twice || token == "" || len(value) > maxToken || strings.TrimSpace(token) != token ||
			!strings.EqualFold(value[:7], "bearer ") || !strings.Contains(value, token) {
			t.Errorf("%q is the token %q", value, token)
		}
	})
}

// No text is a token unless it was signed by us; none makes it panic.
func FuzzToken(f *testing.F) {
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	ours := newTokens(Config{Keys: Keys{newKey()}, TokenLifetime: time.Hour, Now: now})
	theirs := newTokens(Config{Keys: Keys{{ours.keys[0].ID, make([]byte, minSecret)}}, TokenLifetime: time.Hour, Now: now})
	const user = "01J000000000000000000000AA"
	text, err := theirs.make(store.User{ID: user, TokenGeneration: 1}, now())
	if err != nil {
		f.Fatal(err)
	}
	if c, err := theirs.parse(text); err != nil || c.Subject != user || c.Generation != 1 || c.LoggedIn != now().Unix() {
		f.Fatalf("%+v, %v", c, err)
	}
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := strings.Split(text, ".")[1]
	for _, seed := range []string{
		"", ".", "..", "...", text, text + ".", text[:len(text)-1], part(`{"alg":"none"}`) + "." + claims + ".",
		part(`{"alg":"HS256","kid":"`+ours.keys[0].ID+`"}`) + "." + claims + ".AAAA",
		part(`{"alg":["HS256"]}`) + "." + claims + ".AAAA", part(`[]`) + "." + part(`[]`) + "." + part(`[]`),
		part(`{"alg":"HS256","kid":{}}`) + "." + part(`{"exp":1e400}`) + ".", "e30.e30.e30",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ours.parse(text); err == nil || c.Subject != "" {
			t.Errorf("%q is a token: %+v, %v", text, c, err)
		}
	})
}

// FuzzSigned: what we signed ourselves is a token only with our algorithm and the key's name in its header, and with who it is from,
// for and about, and times that hold, in its claims.
func FuzzSigned(f *testing.F) {
	const now = 1_700_000_000
	key := Key{"0123456789abcdef", bytes.Repeat([]byte("k"), minSecret)}
	ours := newTokens(Config{Keys: Keys{key}, TokenLifetime: time.Hour, Now: func() time.Time { return time.Unix(now, 0) }})
	const header = `{"alg":"HS256","typ":"JWT","kid":"0123456789abcdef"}`
	const good = `{"iss":"steno","aud":["steno-api"],"sub":"u","iat":1700000000,"exp":1700003600,"gen":1,"auth_time":1700000000}`
	for _, seed := range []string{
		header, `{"alg":"none","kid":"0123456789abcdef"}`, `{"alg":"HS512","kid":"0123456789abcdef"}`, `{"alg":"HS256"}`, `{"alg":"HS256","kid":1}`,
		`{"alg":"HS256","kid":"0123456789abcdef","crit":["b64"],"b64":false}`, `{"alg":["HS256"],"kid":"0123456789abcdef"}`,
		`{"alg":"none","alg":"HS256","kid":"0123456789abcdef"}`, `{"ALG":"HS256","KID":"0123456789abcdef"}`, `{"alg":"RS256","jwk":{},"kid":""}`, `[]`,
	} {
		f.Add(seed, good)
	}
	for _, seed := range []string{
		`{}`, `null`, `[]`, strings.Replace(good, "steno-api", "other", 1), strings.Replace(good, "1700003600", "1699999969", 1),
		strings.Replace(good, "1700003600", "1e400", 1), strings.Replace(good, "1700003600", `"1700003600"`, 1),
		strings.Replace(good, `"iat":1700000000`, `"iat":1700000031`, 1), strings.Replace(good, `["steno-api"]`, `"steno-api"`, 1),
		strings.Replace(good, `,"exp":1700003600`, "", 1), strings.Replace(good, `"iat":1700000000,`, "", 1),
		strings.Replace(good, `"iss":"steno",`, "", 1), strings.Replace(good, `"aud":["steno-api"],`, "", 1),
		strings.Replace(good, `"sub":"u"`, `"sub":""`, 1), strings.Replace(good, `"gen"`, `"nbf":1e12,"gen"`, 1), good + good,
	} {
		f.Add(header, seed)
	}
	f.Fuzz(func(t *testing.T, header, claims string) {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		mac := hmac.New(sha256.New, key.Secret)
		mac.Write([]byte(text))
		c, err := ours.parse(text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
		if err != nil {
			if c.Subject != "" {
				t.Errorf("%s %s is refused (%v), and gives %+v", header, claims, err, c)
			}
			return
		}
		var h map[string]any
		if err := json.Unmarshal([]byte(header), &h); err != nil || h["alg"] != "HS256" || h["kid"] != key.ID {
			t.Errorf("the header %s was taken: %v", header, err)
		}
		var said struct {
			Issuer    string          `json:"iss"`
			Audience  json.RawMessage `json:"aud"`
			Expires   json.Number     `json:"exp"`
			IssuedAt  json.Number     `json:"iat"`
			NotBefore json.Number     `json:"nbf"`
		}
		if err := json.Unmarshal([]byte(claims), &said); err != nil {
			t.Fatalf("the claims %s were taken: %v", claims, err)
		}
		seconds := func(n json.Number) float64 {
			v, err := n.Float64()
			if err != nil && n != "" {
				t.Fatalf("the claims %s were taken: %v", claims, err)
			}
			return v
		}
		const slack = 31 // seconds, our leeway and rounding
		if said.Issuer != "steno" || !bytes.Contains(said.Audience, []byte(audience)) || c.Subject == "" ||
			seconds(said.Expires) < now-slack || seconds(said.IssuedAt) > now+slack || seconds(said.NotBefore) > now+slack {
			t.Errorf("the claims %s were taken: %+v", claims, said)
		}
	})
}
