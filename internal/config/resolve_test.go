package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestFolders(t *testing.T) {
	t.Parallel()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env          []string
		data, models string
	}{
		"home":     {[]string{"HOME=/h"}, "/h/.local/share/steno", "/h/.local/share/steno/models"},
		"XDG":      {[]string{"HOME=/h", "XDG_DATA_HOME=/x"}, "/x/steno", "/x/steno/models"},
		"bad XDG":  {[]string{"HOME=/h", "XDG_DATA_HOME=x"}, "/h/.local/share/steno", "/h/.local/share/steno/models"},
		"data":     {[]string{"HOME=/h", "STENO_DATA=/d/"}, "/d", "/d/models"},
		"tilde":    {[]string{"HOME=/h", "STENO_DATA=~/d"}, "/h/d", "/h/d/models"},
		"relative": {[]string{"STENO_DATA=d", "STENO_MODELS=m"}, cwd + "/d", cwd + "/m"},
	} {
		got, _, err := Load(Sources{Env: c.env})
		if err != nil || got.Data != c.data || got.Models != c.models {
			t.Errorf("%s: data %q, models %q; want %q, %q; %v", name, got.Data, got.Models, c.data, c.models, err)
		}
	}
	if _, _, err := Load(Sources{}); err == nil || !strings.Contains(err.Error(), "STENO_DATA") {
		t.Errorf("without any home: %v", err)
	}
}

func TestProgramsAreFoundInTheGivenPath(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	for path, mode := range map[string]os.FileMode{
		filepath.Join(first, "ffmpeg"):  0o600, // not executable: passed over
		filepath.Join(second, "ffmpeg"): 0o700,
		filepath.Join(second, "mine"):   0o700,
	} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(first, "ffprobe"), 0o700); err != nil { // a folder is no program
		t.Fatal(err)
	}
	path := "PATH=.:" + first + ":" + second
	got, _, err := Load(Sources{Env: home(t, path)})
	if err != nil || got.FFmpeg != filepath.Join(second, "ffmpeg") || got.FFprobe != "ffprobe" {
		t.Errorf("ffmpeg %q, ffprobe %q, %v", got.FFmpeg, got.FFprobe, err)
	}
	got, _, err = Load(Sources{Env: home(t, path), Flags: map[string]string{"ffmpeg": "mine", "ffprobe": "/opt/ffprobe"}})
	if err != nil || got.FFmpeg != filepath.Join(second, "mine") || got.FFprobe != "/opt/ffprobe" {
		t.Errorf("named: ffmpeg %q, ffprobe %q, %v", got.FFmpeg, got.FFprobe, err)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	odd := filepath.Join(t.TempDir(), "a,b")
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	file := write(t, "steno.yaml", "roots:\n  - "+odd+"\nmirrors: https://a/{repo}, https://b\n")
	got, _, err := Load(Sources{File: file, Env: home(t)})
	if err != nil || !reflect.DeepEqual(got.Roots, []string{odd}) ||
		!reflect.DeepEqual(got.Mirrors, []string{"https://a/{repo}", "https://b"}) {
		t.Errorf("roots %q, mirrors %q, %v", got.Roots, got.Mirrors, err)
	}
	got, _, err = Load(Sources{File: file, Env: home(t), Flags: map[string]string{"mirrors": "https://c,", "roots": ""}})
	if err != nil || got.Roots != nil || !reflect.DeepEqual(got.Mirrors, []string{"https://c"}) {
		t.Errorf("by flag: roots %q, mirrors %q, %v", got.Roots, got.Mirrors, err)
	}
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	file := write(t, "password", " s3cret \r\n")
	got, origins, err := Load(Sources{Env: home(t, "STENO_PASSWORD_FILE="+file)})
	if err != nil || got.Password != " s3cret " || origins["password"] != "file "+file {
		t.Errorf("password %q from %q, %v", got.Password, origins["password"], err)
	}
	if shown := got.Value("password"); shown != "xxxxx" {
		t.Errorf("the password prints as %q", shown)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	env := home(t, "STENO_PASSWORD="+secret, "STENO_MIRRORS=https://me:"+secret+"@host/x",
		"STENO_NATS=nats://me:"+secret+"@a:4222,tls://"+secret+"@b:4222")
	got, _, err := Load(Sources{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		if value := got.Value(k.Name); strings.Contains(value, secret) {
			t.Errorf("%s shows %q", k.Name, value)
		}
	}
	if nats := got.Value("nats"); nats != "nats://me:xxxxx@a:4222,tls://xxxxx@b:4222" {
		t.Errorf("nats reads %q", nats)
	}
	for _, bad := range []string{
		"STENO_NATS=http://me:" + secret + "@a:4222", "STENO_NATS=nats://me:" + secret + "@a:port",
		"STENO_MIRRORS=ftp://me:" + secret + "@a",
	} {
		if _, _, err := Load(Sources{Env: home(t, bad)}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestAdminOff(t *testing.T) {
	t.Parallel()
	got, _, err := Load(Sources{Env: home(t, "STENO_ADMIN=off")})
	if err != nil || got.Admin != "" || got.Value("admin") != "off" {
		t.Errorf("admin %q, shown %q, %v", got.Admin, got.Value("admin"), err)
	}
}

func TestPProfOnLoopback(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:1", "[::1]:1", "localhost:1"} {
		if _, _, err := Load(Sources{Env: home(t, "STENO_PPROF=yes", "STENO_ADMIN="+addr)}); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{
		"": "/h/.local/share/steno/steno.db", "x.db": cwd + "/x.db", "~/x.db": "/h/x.db", "sqlite:x.db": cwd + "/x.db", "sqlite:///a/x.db": "/a/x.db",
		// These are for package store to take or to refuse.
		"postgres://steno@db/steno": "postgres://steno@db/steno", "mysql://host/x": "mysql://host/x", ":memory:": ":memory:", "sqlite:": "sqlite:",
	} {
		if got, _, err := Load(Sources{Env: []string{"HOME=/h", "STENO_DB=" + dsn}}); err != nil || got.DB != want {
			t.Errorf("%q is %q, want %q; %v", dsn, got.DB, want, err)
		}
	}
}

// Whatever a URL looks like, its password is not shown, and the rest mostly is.
func TestRedactURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/var/lib/a@b:c.db":                            "/var/lib/a@b:c.db",
		"postgres://steno@db/steno":                    "postgres://steno@db/steno",
		"postgres://steno:hunter2@db/steno":            "postgres://steno:xxxxx@db/steno",
		"postgres://steno:hunter2@a:1,b:2/steno":       "postgres://steno:xxxxx@a:1,b:2/steno",
		"postgres://steno:hun/te?r#2@db/steno":         "postgres://steno:xxxxx@db/steno",
		"postgres://steno:hunter@2@db/steno":           "postgres://steno:xxxxx@db/steno",
		"postgres://db/x?user=me&password=hunter2&a=b": "postgres://db/x?user=me&password=xxxxx&a=b",
		"postgres://db/x?sslPassword=hunter2":          "postgres://db/x?sslPassword=xxxxx",
		"redis://:hunter2@host:6379/0":                 "redis://:xxxxx@host:6379/0",
		"rediss://host:6379/0":                         "rediss://host:6379/0",
		"unix://me:hunter2@/run/redis.sock?db=1":       "unix://me:xxxxx@/run/redis.sock?db=1",
	} {
		if got := redactURL(text); got != want {
			t.Errorf("%s reads %s, want %s", text, got, want)
		}
	}
}
