package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"steno/job"
)

// home returns an environment with an empty home folder and nothing else.
func home(t *testing.T, vars ...string) []string {
	t.Helper()
	return append([]string{"HOME=" + t.TempDir()}, vars...)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got, origins, err := Load(Sources{Env: []string{"HOME=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, ".local", "share", "steno")
	want := Config{
		Data: data, Models: filepath.Join(data, "models"), Model: "base", FFmpeg: "ffmpeg", FFprobe: "ffprobe",
		Listen: "127.0.0.1:8080", NATSReplicas: 1, NATSListen: "127.0.0.1:0", DB: filepath.Join(data, "steno.db"), Keys: filepath.Join(data, "token.keys"),
		CacheTTL: time.Minute, TokenLifetime: time.Hour, Session: 30 * 24 * time.Hour, UserRate: 50, AddressRate: 100, LoginRate: 10,
		Jobs: 4, PoolModels: 2, PoolIdle: 10 * time.Minute,
		MaxDuration: 24 * time.Hour, MaxUpload: 2 << 30, Admin: "127.0.0.1:9464",
		Kernels: "auto", Device: "auto", Sandbox: "auto", LogLevel: "info", LogFormat: "text", User: "admin",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(origins) != len(Keys()) {
		t.Errorf("%d origins for %d keys", len(origins), len(Keys()))
	}
	for key, origin := range origins {
		if origin != "default" {
			t.Errorf("%s comes from %s", key, origin)
		}
	}
}

// Each key is set by each source in turn; the stronger must win, and say so.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "steno.yaml", "jobs: 5\nmodel: small\npool_bytes: 4GiB\nroots: [/, \"/tmp\"]\n")
	env := home(t, "STENO_JOBS=6", "STENO_MODEL=tiny", "STENO_POOL_IDLE=1h")
	got, origins, err := Load(Sources{File: file, Env: env, Flags: map[string]string{"jobs": "7", "pool-models": "3"}})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]struct{ value, origin string }{
		"jobs":        {"7", "--jobs"},
		"pool_models": {"3", "--pool-models"},
		"model":       {"tiny", "STENO_MODEL"},
		"pool_idle":   {"1h", "STENO_POOL_IDLE"},
		"pool_bytes":  {"4GiB", "file " + file},
		"roots":       {"/,/tmp", "file " + file},
		"log_level":   {"info", "default"},
	} {
		if value := got.Value(key); value != want.value || origins[key] != want.origin {
			t.Errorf("%s is %q from %q, want %q from %q", key, value, origins[key], want.value, want.origin)
		}
	}
}

func TestEmptyValues(t *testing.T) {
	t.Parallel()
	file := write(t, "steno.yaml", "nats: nats://queue:4222\nmodel:\nmax_upload: \"\"\n")
	got, origins, err := Load(Sources{File: file, Env: home(t, "STENO_NATS=")})
	if err != nil {
		t.Fatal(err)
	}
	if got.NATS != "nats://queue:4222" {
		t.Errorf("an empty variable changed nats to %q", got.NATS)
	}
	if got.Model != "base" || origins["model"] != "default" || got.MaxUpload != 2<<30 {
		t.Errorf("empty keys of the file: model %q from %s, max_upload %v", got.Model, origins["model"], got.MaxUpload)
	}
	got, origins, err = Load(Sources{File: file, Env: home(t), Flags: map[string]string{"nats": ""}})
	if err != nil || got.NATS != "" || origins["nats"] != "--nats" {
		t.Errorf("an empty flag left nats at %q from %s, %v", got.NATS, origins["nats"], err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		yaml  string
		env   []string
		flags map[string]string
		want  string // part of the message
	}{
		"unknown key": {yaml: "jobs: 1\npool_model: 3\n",
			want: `key "pool_model" (from FILE line 2): the nearest known key is pool_models`},
		"unknown variable": {env: []string{"STENO_JOB=3"}, want: "variable STENO_JOB: the nearest known name is STENO_JOBS"},
		"lower variable":   {env: []string{"STENO_jobs=3"}, want: "the nearest known name is STENO_"},
		"unknown flag": {flags: map[string]string{"log-lvel": "x"},
			want: "flag --log-lvel: the nearest known name is --log-level"},
		"password flag":     {flags: map[string]string{"password": "x"}, want: "--password must not be a flag"},
		"number":            {env: []string{"STENO_JOBS=many"}, want: `jobs (from STENO_JOBS): "many" is not a whole number`},
		"number in file":    {yaml: "\njobs: 1.5\n", want: `jobs (from FILE line 2): "1.5" is not a whole number`},
		"no jobs":           {flags: map[string]string{"jobs": "0"}, want: "jobs (from --jobs): 0 is not between 1 and 4096"},
		"negative states":   {yaml: "states: -1", want: "-1 is not between 0 and 4096"},
		"device":            {env: []string{"STENO_DEVICE=gpu"}, want: `device (from STENO_DEVICE): "gpu" is none of auto, cpu and cuda:N`},
		"device of a model": {flags: map[string]string{"model-devices": "large-v3"}, want: `"large-v3" is not MODEL=DEVICE`},
		"no models":         {yaml: "pool_models: 0", want: "0 is not between 1 and 4096"},
		"chunks":            {yaml: "chunks_in_flight: 5000", want: "5000 is not between"},
		"threads":           {yaml: "threads: -2", want: "threads (from FILE line 1)"},
		"size":              {yaml: "pool_bytes: 4G", want: `"4G" is not a size: write bytes, or a unit`},
		"no upload":         {yaml: "max_upload: 0", want: "max_upload (from FILE line 1): 0 is not more than zero"},
		"duration":          {yaml: "pool_idle: 10", want: `"10" is not a duration: write it as in 90s`},
		"negative duration": {yaml: "max_duration: -1s", want: "max_duration (from FILE line 1): -1s is not more than zero"},
		"no idle":           {yaml: "pool_idle: 0s", want: "0s is not more than zero"},
		"bool":              {yaml: "pprof: maybe", want: `"maybe" is neither true nor false`},
		"level":             {yaml: "log_level: loud", want: `"loud" is none of debug, info, warn, error`},
		"format":            {yaml: "log_format: xml", want: `"xml" is none of text, json`},
		"listen":            {yaml: "listen: 4222", want: `listen (from FILE line 1): "4222" is not host:port`},
		"port":              {yaml: "admin: 127.0.0.1:70000", want: `"127.0.0.1:70000" is not host:port`},
		"nats":              {yaml: "nats: http://queue", want: "nats://host:4222"},
		"mirror":            {yaml: "mirrors: [\"ftp://host\"]", want: "https://host/folder"},
		"root":              {yaml: "roots: /no/such/folder", want: "/no/such/folder"},
		"root is a file":    {yaml: "roots: /dev/null", want: "/dev/null is not a folder"},
		"model":             {yaml: "model: \"a b\"", want: `"a b" is empty or has a space`},
		"user":              {env: []string{"STENO_USER= "}, want: `user (from STENO_USER): " " is empty or has a space`},
		"creds alone":       {yaml: "nats_creds: /dev/null", want: "nats_creds (from FILE line 1): set nats too"},
		"replicas":          {yaml: "nats: queue:4222\nnats_replicas: 2", want: `"2" is none of 1, 3, 5`},
		"replicas alone":    {yaml: "nats_replicas: 3", want: "nats_replicas (from FILE line 1): set nats too"},
		"creds missing":     {yaml: "nats: queue:4222\nnats_creds: /no/creds", want: "/no/creds: no such file"},
		"pprof outside":     {yaml: "admin: 0.0.0.0:9464\npprof: true", want: "pprof (from FILE line 2): profiles show secrets"},
		"pprof everywhere":  {yaml: "admin: \":9464\"\npprof: true", want: "profiles show secrets"},
		"pprof by name":     {yaml: "admin: example:9464\npprof: true", want: "profiles show secrets"},
		"pprof off":         {yaml: "admin: off\npprof: true", want: "set admin to an address, or pprof to false"},
		"cache":             {yaml: "cache_ttl: -1s", want: "cache_ttl (from FILE line 1): -1s is less than zero"},
		"token":             {yaml: "token_lifetime: 0s", want: "token_lifetime (from FILE line 1): 0s is not more than zero"},
		"rate":              {yaml: "user_rate: -1", want: "user_rate (from FILE line 1): -1 is not between"},
		"too high a rate":   {yaml: "address_rate: 1000001", want: "1000001 is not between 0 and 1000000"},
		"mapped network":    {yaml: "proxies: \"::ffff:10.0.0.0/104\"", want: "is not a network"},
		"proxy":             {yaml: "proxies: 10.0.0.1", want: `"10.0.0.1" is not a network: write it as in 10.0.0.0/8`},
		"webhook network":   {yaml: "webhook_allow: [10.0.0.0/8, home]", want: `webhook_allow (from FILE line 1): "home" is not a network`},
		"origin":            {yaml: "origins: https://app.example/", want: "is not an origin"},
		"redis":             {yaml: "redis: \"http://x:pw@host\"", want: "redis (from FILE line 1): this is not the URL of a Redis"},
		"gateway and nats":  {yaml: "nats_listen: 127.0.0.1:8080", want: "is listen's address too"},
		"one address twice": {yaml: "admin: 127.0.0.1:4222\nlisten: 127.0.0.1:4222", want: "is admin's address too"},
		"password twice":    {env: []string{"STENO_PASSWORD=a", "STENO_PASSWORD_FILE=/dev/null"}, want: "are both set: keep one"},
		"empty password":    {yaml: "password_file: /dev/null", want: "/dev/null holds no password"},
		"lost password":     {yaml: "password_file: /no/password", want: "/no/password: no such file"},
		"large file":        {yaml: "password_file: /dev/zero", want: "/dev/zero is larger than 1MiB"},
		"key twice":         {yaml: "jobs: 1\njobs: 2\n", want: "jobs (from FILE line 2): the key is there twice"},
		"not a mapping":     {yaml: "- jobs\n", want: `write one "key: value" per line`},
		"not YAML":          {yaml: "jobs: [\n", want: "read the configuration FILE: yaml"},
		"two documents":     {yaml: "jobs: 1\n---\njobs: 2\n", want: "only one YAML document"},
		"list for one":      {yaml: "jobs: [1, 2]\n", want: "write a single value"},
		"nested":            {yaml: "pool:\n  models: 2\n", want: `unknown key "pool"`},
		"nested list":       {yaml: "roots: [[/]]\n", want: "write a list of plain values"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := Sources{Env: home(t, c.env...), Flags: c.flags}
			if c.yaml != "" {
				src.File = write(t, "steno.yaml", c.yaml)
			}
			cfg, origins, err := Load(src)
			if err == nil {
				t.Fatalf("accepted: %+v", cfg)
			}
			if want := strings.ReplaceAll(c.want, "FILE", src.File); !strings.Contains(err.Error(), want) {
				t.Errorf("got  %q\nwant %q", err, want)
			}
			if e := job.AsError(err); e.Class != job.Input || e.Code != Code {
				t.Errorf("class %s, code %s", e.Class, e.Code)
			}
			if origins != nil || !reflect.DeepEqual(cfg, Config{}) {
				t.Error("values came with the error")
			}
		})
	}
}

func TestAllThatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	_, _, err := Load(Sources{Env: home(t, "STENO_JOBS=0", "STENO_LOG_LEVEL=loud", "STENO_LISTEN=x")})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"STENO_JOBS", "STENO_LOG_LEVEL", "STENO_LISTEN"} {
		if strings.Count(err.Error(), name) != 1 {
			t.Errorf("%s is not named once in %q", name, err)
		}
	}
}

func TestWhichFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := filepath.Join(dir, ".config", "steno", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte("jobs: 11"), 0o600); err != nil {
		t.Fatal(err)
	}
	byEnv, byFlag := write(t, "env.yaml", "jobs: 12"), write(t, "flag.yaml", "jobs: 13")
	for name, c := range map[string]struct {
		src  Sources
		want int
	}{
		"own":         {Sources{Env: []string{"HOME=" + dir}}, 11},
		"XDG":         {Sources{Env: []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + t.TempDir()}}, 4},
		"XDG ignored": {Sources{Env: []string{"HOME=" + dir, "XDG_CONFIG_HOME=relative"}}, 11},
		"variable":    {Sources{Env: []string{"HOME=" + dir, "STENO_CONFIG=" + byEnv}}, 12},
		"flag":        {Sources{File: byFlag, Env: []string{"HOME=" + dir, "STENO_CONFIG=" + byEnv}}, 13},
	} {
		if got, _, err := Load(c.src); err != nil || got.Jobs != c.want {
			t.Errorf("%s: jobs %d, want %d; %v", name, got.Jobs, c.want, err)
		}
	}
	_, _, err := Load(Sources{File: "/no/such.yaml", Env: home(t)})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such.yaml") {
		t.Errorf("a named file that is missing: %v", err)
	}
}

func TestVariablesOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	env := home(t, "STENO_CORPUS=/x", "STENOGRAPHY=1", "JOBS=9", "broken", "STENO_JOBS=2", "STENO_JOBS=3")
	got, _, err := Load(Sources{Env: env})
	if err != nil || got.Jobs != 3 {
		t.Errorf("jobs %d, want the last of two, 3; %v", got.Jobs, err)
	}
}
