// Package config reads steno's settings: flags over STENO_* environment over one YAML file over defaults.
//
// A setting has one snake_case name, its key. "pool_models" is the YAML key, STENO_POOL_MODELS the variable and --pool-models
// the flag. No other package of steno reads the environment, and this one only reads what it is handed.
package config

import (
	"maps"
	"time"
)

// Config holds the effective settings. It is a plain value: copies share only the slices, which nobody changes.
type Config struct {
	Data   string // folder for all that steno keeps, absolute
	Models string // folder of model files, absolute
	Model  string // the model of a job that names none

	FFmpeg  string // path of ffmpeg; the bare name where PATH has none, so that the first use says so
	FFprobe string // path of ffprobe, in the same way

	NATS      string // URL, or several with commas between; empty means the embedded server
	NATSCreds string // credentials file for NATS, absolute; empty means none
	// NATSReplicas is how many servers of an outside NATS keep each stream: 1, 3 or 5.
	NATSReplicas int
	// NATSListen is the host:port where the embedded NATS server listens; port 0 means a free one.
	NATSListen string

	Listen        string        // host:port of the gateway; port 0 means a free one
	DB            string        // the gateway's database: an absolute path for SQLite, or a postgres:// URL
	Keys          string        // file of the keys that sign tokens, absolute
	Redis         string        // URL of the Redis that keeps responses; empty means this process does
	CacheTTL      time.Duration // how long responses are kept; 0 means not at all
	TokenLifetime time.Duration // how long an access token is good; more than 0
	Session       time.Duration // how long a log-in can be prolonged by new tokens; more than 0
	UserRate      int           // requests per second of one user; 0 means any number
	AddressRate   int           // requests per second of one address; 0 means any number
	LoginRate     int           // failed log-ins per minute from one address; 0 means any number
	Proxies       []string      // networks (CIDR) whose X-Forwarded-For is believed
	Origins       []string      // origins of web pages that may call the gateway, or *
	WebhookHTTP   bool          // call webhooks by http too
	WebhookAllow  []string      // networks (CIDR) that webhooks may be in though they are not public

	Jobs           int      // jobs in flight per worker, at least 1
	States         int      // decode states per model; 0 means one per core within the quota
	ChunksInFlight int      // chunks of one job in memory; 0 means as many as states
	Threads        int      // most threads for a chunk of an incomplete last round; 0 means the cores within the quota, at most 4
	Kernels        string   // auto, avx512, avxvnni, avx2, or ggml for the library's own matrix products
	InProcess      bool     // load models into this process instead of a child
	Device         string   // where models run: auto, cpu, or a GPU such as cuda:0
	ModelDevices   []string // MODEL=DEVICE, for models that are to run elsewhere
	CUDA           string   // the library of ggml that computes on NVIDIA's GPUs; empty means libggml-cuda.so beside the program
	ONNXRuntime    string   // the library that tells voices apart; empty means libonnxruntime.so where models are, or the system's
	Sandbox        string   // auto, required or off: whether ffmpeg, ffprobe and engines are confined

	PoolModels int           // models in memory, at least 1
	PoolBytes  Bytes         // RAM that models may take; 0 means a share of what is available at start
	PoolIdle   time.Duration // after this long without use a model is unloaded; more than 0

	MaxDuration time.Duration // longest audio that a job may have; more than 0
	MaxUpload   Bytes         // largest file that is taken; more than 0
	DiskReserve Bytes         // what must be left on the disk of Data to take on more; 0 means 5 %, within 1 and 10 GiB
	Roots       []string      // absolute folders under which a job may name a path; none means no job may
	Mirrors     []string      // URL prefixes to pull models from, in order; none means where they are published

	Admin     string // host:port of metrics and health; empty means no such listener
	PProf     bool   // serve profiles on Admin, which must then be a loopback address
	LogLevel  string // debug, info, warn or error
	LogFormat string // text or json

	User         string // name of the first account
	Password     string // its password; empty means that one is generated
	PasswordFile string // the file that Password was read from, absolute; empty where it came another way
}

// Origins tells where each key's value came from: "default", "file PATH", "STENO_X" or "--x". Load fills in every key.
type Origins map[string]string

// Sources are the inputs of Load, from the weakest to the strongest.
type Sources struct {
	// File is the YAML file, as --config names it. Empty means the one in STENO_CONFIG, or else steno/config.yaml in
	// $XDG_CONFIG_HOME (~/.config), which need not exist.
	File string
	// Env is the environment as os.Environ returns it. An empty variable counts as not set.
	Env []string
	// Flags are those that were given on the command line, by name without the dashes. An empty value counts: it resets what the
	// file or the environment say.
	Flags map[string]string
}

// Load returns the effective settings and where each came from. An error is a *job.Error of class INPUT; where several values
// are wrong it names them all, one per line.
func Load(src Sources) (Config, Origins, error) {
	l := loader{env: parseEnv(src.Env), origins: Origins{}, where: map[string]string{}}
	for _, read := range []func() error{
		l.readDefaults,
		func() error { return l.readFile(src.File) },
		l.readEnv,
		func() error { return l.readFlags(src.Flags) },
		l.resolve,
		l.validate,
	} {
		if err := read(); err != nil {
			return Config{}, nil, badConfig(err)
		}
	}
	return l.cfg, l.origins, nil
}

// loader gathers one configuration; each source overwrites what the weaker ones said.
type loader struct {
	cfg     Config
	env     map[string]string
	origins Origins
	where   map[string]string // like origins, with the line of a file: for messages
}

func (l *loader) readDefaults() error {
	for _, f := range fields {
		if err := l.set(f, f.Default, "default", "default"); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) readEnv() error {
	for _, name := range sorted(maps.Keys(l.env)) {
		if !isOurs(name) || l.env[name] == "" {
			continue
		}
		f, ok := lookup(keyOfEnv(name))
		if !ok {
			return unknown("environment variable", name, envNames())
		}
		if err := l.set(f, l.env[name], name, name); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) readFlags(flags map[string]string) error {
	for _, name := range sorted(maps.Keys(flags)) {
		f, ok := lookup(keyOfFlag(name))
		if !ok {
			return unknown("flag", "--"+name, flagNames())
		}
		if f.Secret {
			return secretFlag(f)
		}
		if err := l.set(f, flags[name], f.Flag(), f.Flag()); err != nil {
			return err
		}
	}
	return nil
}

// set parses text into the field. An empty text means the default, so that a flag can undo what the file says.
func (l *loader) set(f field, text, origin, where string) error {
	if text == "" {
		text = f.Default
	}
	if err := parse(f.ptr(&l.cfg), text); err != nil {
		return wrong(f.Name, where, err)
	}
	l.origins[f.Name], l.where[f.Name] = origin, where
	return nil
}
