package config

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"steno/job"
)

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "7B": 7, "4GiB": 4 << 30, "1.5GiB": 3 << 29, "512 MiB": 512 << 20, "2GB": 2e9, "1kB": 1000, "1KB": 1000,
		"1KiB": 1024, "1TiB": 1 << 40, "9223372036854775807": math.MaxInt64, "8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q is %d, want %d; %v", text, got, want, err)
		}
	}
	for _, text := range []string{
		"", "GiB", "4G", "4gib", "-1", "-1GiB", "1.5", "1.5B", "1e3MiB", "0x1KiB", "NaNGiB", "InfGiB", "1_000", "8388608TiB",
		"9223372036854775808", "8388607.9999999999TiB", "1.2.3GiB", ".GiB",
	} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// Whatever `steno config` prints can be written into the file and means the same.
func TestFormatIsParsedBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := Bytes(rapid.Int64Min(0).Draw(t, "size"))
		duration := time.Duration(rapid.Int64().Draw(t, "duration"))
		if rapid.Bool().Draw(t, "round") {
			size, duration = size>>30<<30, duration.Truncate(time.Minute)
		}
		number, flag := rapid.Int().Draw(t, "number"), rapid.Bool().Draw(t, "flag")
		list := rapid.SliceOfN(rapid.StringMatching(`[a-z/]+`), 1, 4).Draw(t, "list")
		for _, value := range []any{&size, &duration, &number, &flag, &list} {
			again := reflect.New(reflect.TypeOf(value).Elem())
			if err := parse(again.Interface(), format(value)); err != nil {
				t.Fatalf("%q: %v", format(value), err)
			}
			if got, want := again.Elem().Interface(), reflect.ValueOf(value).Elem().Interface(); !reflect.DeepEqual(got, want) {
				t.Fatalf("%v became %q, then %v", want, format(value), got)
			}
		}
	})
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"pool_model": "pool_models", "chunks": "threads", "chunk_in_flight": "chunks_in_flight", "ffmpg": "ffmpeg",
		"loglevel": "log_level", "passwd": "password",
	} {
		if got := nearest(name, keyNames()); edits(name, got) > edits(name, want) {
			t.Errorf("%q: got %q (%d edits), want %q (%d)", name, got, edits(name, got), want, edits(name, want))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.StringMatching(`[ab]{0,6}`).Draw(t, "a"), rapid.StringMatching(`[ab]{0,6}`).Draw(t, "b")
		d := edits(a, b)
		if (d == 0) != (a == b) || d != edits(b, a) || d > max(len(a), len(b)) || d < max(len(a)-len(b), len(b)-len(a)) {
			t.Fatalf("edits(%q, %q) = %d", a, b, d)
		}
		if longer := edits(a, "x"+a); longer != 1 {
			t.Fatalf("one letter more than %q: %d edits", a, longer)
		}
	})
}

// Every field of Config has its key, and no two keys share one.
func TestKeysCoverTheStruct(t *testing.T) {
	t.Parallel()
	var c Config
	seen := map[any]string{}
	for _, f := range fields {
		ptr := f.ptr(&c)
		if other, twice := seen[ptr]; twice {
			t.Errorf("%s and %s set the same field", f.Name, other)
		}
		seen[ptr] = f.Name
	}
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		key, ok := seen[v.Field(i).Addr().Interface()]
		if !ok {
			t.Errorf("the field %s has no key", name)
		}
		if strings.ReplaceAll(key, "_", "") != strings.ToLower(name) {
			t.Errorf("the field %s has the key %s", name, key)
		}
	}
	for _, k := range Keys() {
		if k.Doc == "" || lastByte(k.Doc) == '.' || k.Name != keyOfEnv(k.Env()) || k.Name != keyOfFlag(k.Flag()[2:]) {
			t.Errorf("key %+v: variable %s, flag %s", k, k.Env(), k.Flag())
		}
	}
}

func lastByte(s string) byte { return s[len(s)-1] }

func TestValueOfUnknownKey(t *testing.T) {
	t.Parallel()
	if got := (Config{}).Value("nope"); got != "" {
		t.Errorf("got %q", got)
	}
}

// FuzzFile holds Load to its word on any file: a value for every key, or one error of class INPUT.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "# nothing\n", "jobs: 4\npool_bytes: 4GiB\n", "roots: [/, /tmp]\n", "roots: &r [/]\nmirrors: *r\n",
		"a: &a [*a]\n", "jobs: !!null\n", "? [a]\n: b\n", "<<: {jobs: 1}\n", "jobs: !!binary aGk=\n", "\xff\xfe", "{", "nats: 'x\n",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, origins, err := Load(Sources{File: path, Env: []string{"HOME=" + dir}})
		if err != nil {
			if job.AsError(err).Code != Code || err.Error() == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		if len(origins) != len(fields) || cfg.Jobs < 1 || !filepath.IsAbs(cfg.Data) || cfg.PoolIdle <= 0 {
			t.Fatalf("%+v", cfg)
		}
	})
}

// FuzzParseBytes looks for sizes that overflow or do not survive being printed.
func FuzzParseBytes(f *testing.F) {
	for _, seed := range []string{"0", "4GiB", "1.5TiB", "9223372036854775807", "8388607.99999999999TiB", "00.1KB", "-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBytes(text)
		if err != nil {
			return
		}
		if again, err := ParseBytes(b.String()); err != nil || b < 0 || again != b {
			t.Fatalf("%q is %d, printed %s, read %d; %v", text, b, b, again, err)
		}
	})
}
