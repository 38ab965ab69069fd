package config

import (
	"iter"
	"slices"
	"strings"
)

// Key describes one setting, for help and for `steno config`.
type Key struct {
	Name    string // snake_case, as in the YAML file
	Doc     string // one line
	Default string // as one would write it; a value in <> is worked out when it is needed
	Secret  bool   // never printed, and not taken from a flag, which every user of the machine can read
}

// Env is the key's environment variable.
func (k Key) Env() string { return envPrefix + strings.ToUpper(k.Name) }

// Flag is the key's flag, with its dashes.
func (k Key) Flag() string { return "--" + strings.ReplaceAll(k.Name, "_", "-") }

// field binds a key to its place in Config. Key.Default is what is parsed; shown, where set, is what people read instead.
type field struct {
	Key
	shown string
	ptr   func(*Config) any
}

// fields is in the order of the printed help. It is never changed.
var fields = []field{
	{Key{"data", "folder for all that steno keeps", "", false}, "<$XDG_DATA_HOME or ~/.local/share>/steno",
		func(c *Config) any { return &c.Data }},
	{Key{"models", "folder of model files", "", false}, "<data>/models", func(c *Config) any { return &c.Models }},
	{Key{"model", "model of a job that names none", "base", false}, "", func(c *Config) any { return &c.Model }},
	{Key{"ffmpeg", "path of ffmpeg", "ffmpeg", false}, "<found in PATH>", func(c *Config) any { return &c.FFmpeg }},
	{Key{"ffprobe", "path of ffprobe", "ffprobe", false}, "<found in PATH>", func(c *Config) any { return &c.FFprobe }},

	{Key{"nats", "URL of NATS; empty means the embedded server", "", false}, "", func(c *Config) any { return &c.NATS }},
	{Key{"nats_creds", "credentials file for NATS", "", false}, "", func(c *Config) any { return &c.NATSCreds }},
	{Key{"nats_replicas", "servers of a NATS cluster that keep each stream: 1, 3 or 5, for all daemons alike", "1", false}, "",
		func(c *Config) any { return &c.NATSReplicas }},
	{Key{"nats_listen", "host:port of the embedded NATS; port 0 means a free one", "127.0.0.1:0", false}, "",
		func(c *Config) any { return &c.NATSListen }},

	{Key{"listen", "host:port of the HTTP gateway; port 0 means a free one", "127.0.0.1:8080", false}, "",
		func(c *Config) any { return &c.Listen }},
	{Key{"db", "database of the gateway: the path of an SQLite file, or postgres://user@host/name", "", false}, "<data>/steno.db",
		func(c *Config) any { return &c.DB }},
	{Key{"keys", "file of the keys that sign access tokens; it is made where there is none", "", false}, "<data>/token.keys",
		func(c *Config) any { return &c.Keys }},
	{Key{"redis", "URL of a Redis for the response cache, such as redis://host:6379/0; empty means in this process", "", false}, "",
		func(c *Config) any { return &c.Redis }},
	{Key{"cache_ttl", "how long responses are kept; 0 means not at all", "1m", false}, "",
		func(c *Config) any { return &c.CacheTTL }},
	{Key{"token_lifetime", "how long an access token is good", "1h", false}, "", func(c *Config) any { return &c.TokenLifetime }},
	{Key{"session", "how long a log-in can be prolonged by new tokens", "720h", false}, "",
		func(c *Config) any { return &c.Session }},
	{Key{"user_rate", "requests per second of one user; 0 means any number", "50", false}, "",
		func(c *Config) any { return &c.UserRate }},
	{Key{"address_rate", "requests per second of one address; 0 means any number", "100", false}, "",
		func(c *Config) any { return &c.AddressRate }},
	{Key{"login_rate", "failed log-ins per minute from one address; 0 means any number", "10", false}, "",
		func(c *Config) any { return &c.LoginRate }},
	{Key{"proxies", "networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8, with commas between", "", false}, "",
		func(c *Config) any { return &c.Proxies }},
	{Key{"origins", "origins of web pages that may call, such as https://app.example, with commas between", "", false}, "",
		func(c *Config) any { return &c.Origins }},
	{Key{"webhook_http", "call webhooks by http, too", "false", false}, "", func(c *Config) any { return &c.WebhookHTTP }},
	{Key{"webhook_allow", "networks that webhooks may be in though they are not public, with commas between", "", false}, "",
		func(c *Config) any { return &c.WebhookAllow }},

	{Key{"jobs", "jobs in flight per worker", "4", false}, "", func(c *Config) any { return &c.Jobs }},
	{Key{"states", "decode states per model, which the cores share; 0 means as many as are fast, and fit", "0", false}, "",
		func(c *Config) any { return &c.States }},
	{Key{"chunks_in_flight", "chunks of one job in memory; 0 means one more than states", "0", false}, "",
		func(c *Config) any { return &c.ChunksInFlight }},
	{Key{"threads", "most threads for a chunk where cores outnumber chunks; 0 means the cores, at most 4", "0", false}, "",
		func(c *Config) any { return &c.Threads }},
	{Key{"kernels", "matrix products: auto for the CPU's best, or at most avx512, avxvnni, avx2; or ggml's", "auto", false}, "",
		func(c *Config) any { return &c.Kernels }},
	{Key{"device", "where models run: auto for the GPUs there are, else the CPU; or cpu; or one, such as cuda:0", "auto", false}, "",
		func(c *Config) any { return &c.Device }},
	{Key{"model_devices", "models that are to run elsewhere, MODEL=DEVICE, with commas between", "", false}, "",
		func(c *Config) any { return &c.ModelDevices }},
	{Key{"cuda", "library that computes on NVIDIA's GPUs; empty means libggml-cuda.so beside the program", "", false}, "",
		func(c *Config) any { return &c.CUDA }},
	{Key{"onnxruntime", "library that tells voices apart; empty means the one beside models, or the system's", "", false}, "",
		func(c *Config) any { return &c.ONNXRuntime }},
	{Key{"in_process", "load models into this process instead of a child", "false", false}, "",
		func(c *Config) any { return &c.InProcess }},
	{Key{"sandbox", "confine ffmpeg, ffprobe and engines: auto where they run so, required, or off", "auto", false}, "",
		func(c *Config) any { return &c.Sandbox }},

	{Key{"pool_models", "models in memory, for each device", "2", false}, "", func(c *Config) any { return &c.PoolModels }},
	{Key{"pool_bytes", "RAM that models may take, such as 4GiB; 0 means a share of what is available", "0", false}, "",
		func(c *Config) any { return &c.PoolBytes }},
	{Key{"pool_idle", "after this long without use a model is unloaded", "10m", false}, "",
		func(c *Config) any { return &c.PoolIdle }},

	{Key{"max_duration", "longest audio that a job may have", "24h", false}, "", func(c *Config) any { return &c.MaxDuration }},
	{Key{"max_upload", "largest file that is taken", "2GiB", false}, "", func(c *Config) any { return &c.MaxUpload }},
	{Key{"disk_reserve", "free disk below which nothing new is taken; 0 means 5 %, at least 1GiB and at most 10GiB", "0", false}, "",
		func(c *Config) any { return &c.DiskReserve }},
	{Key{"roots", "folders under which a job may name a path, with commas between", "", false}, "",
		func(c *Config) any { return &c.Roots }},
	{Key{"mirrors", "URL prefixes to pull models from, with commas between", "", false}, "<where they are published>",
		func(c *Config) any { return &c.Mirrors }},

	{Key{"admin", "host:port of metrics and health, or off", "127.0.0.1:9464", false}, "", func(c *Config) any { return &c.Admin }},
	{Key{"pprof", "serve profiles on the admin address", "false", false}, "", func(c *Config) any { return &c.PProf }},
	{Key{"log_level", "debug, info, warn or error", "info", false}, "", func(c *Config) any { return &c.LogLevel }},
	{Key{"log_format", "text or json", "text", false}, "", func(c *Config) any { return &c.LogFormat }},

	{Key{"user", "name of the first account", "admin", false}, "", func(c *Config) any { return &c.User }},
	{Key{"password", "password of the first account", "", true}, "<generated>", func(c *Config) any { return &c.Password }},
	{Key{"password_file", "file that holds the password", "", false}, "", func(c *Config) any { return &c.PasswordFile }},
}

// Keys lists every setting in the order of the printed help.
func Keys() []Key {
	keys := make([]Key, len(fields))
	for i, f := range fields {
		keys[i] = f.Key
		if f.shown != "" {
			keys[i].Default = f.shown
		}
	}
	return keys
}

// Value returns a setting as one would write it, fit to be printed: a secret that is set reads "xxxxx", as does the password
// within a URL. It returns "" for an unknown key.
func (c Config) Value(key string) string {
	f, ok := lookup(key)
	switch {
	case !ok:
		return ""
	case f.Secret && format(f.ptr(&c)) != "":
		return hidden
	case key == "admin" && c.Admin == "":
		return off
	case key == "nats" || key == "mirrors":
		return redact(format(f.ptr(&c)))
	case key == "db" || key == "redis":
		return redactURL(format(f.ptr(&c)))
	default:
		return format(f.ptr(&c))
	}
}

func lookup(key string) (field, bool) {
	i := slices.IndexFunc(fields, func(f field) bool { return f.Name == key })
	if i < 0 {
		return field{}, false
	}
	return fields[i], true
}

func keyOfFlag(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }

func names(of func(Key) string) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = of(f.Key)
	}
	return out
}

func envNames() []string  { return append(names(Key.Env), configVar) }
func flagNames() []string { return names(Key.Flag) }
func keyNames() []string  { return names(func(k Key) string { return k.Name }) }

func sorted(seq iter.Seq[string]) []string { return slices.Sorted(seq) }
