package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine describes where a suite ran and with what.
type Machine struct {
	CPU    string   `json:"cpu"`
	Flags  []string `json:"flags"` // of the CPU, those that matter to matrix products
	Cores  int      `json:"cores"`
	Memory int64    `json:"memory_bytes"`
	Kernel string   `json:"kernel"`
	OS     string   `json:"os"`
	// Programs are versions by program: steno, its kernels, ffmpeg and every peer that is there.
	Programs map[string]string `json:"programs"`
	Weights  []Weights         `json:"weights"`
}

// Weights is a file of weights that a suite used.
type Weights struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// telling are the CPU flags that decide which kernels a program can use.
var telling = []string{
	"avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
	"amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
}

func describe(ctx context.Context, k Kit, cases []Case) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Programs: map[string]string{}}
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // what a system does not tell stays empty
	m.CPU, m.Flags = readCPU(string(cpuinfo))
	meminfo, _ := os.ReadFile("/proc/meminfo")
	m.Memory = field(string(meminfo), "MemTotal") << 10
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	release, _ := os.ReadFile("/etc/os-release")
	m.OS = osName(string(release))
	m.programs(ctx, k)
	var err error
	m.Weights, err = weightsOf(cases)
	return m, err
}

// readCPU reads /proc/cpuinfo of x86 and ARM.
func readCPU(text string) (name string, flags []string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name", "CPU part":
			name = value
		case "flags", "Features":
			have := strings.Fields(value)
			flags = slices.DeleteFunc(slices.Clone(telling), func(f string) bool { return !slices.Contains(have, f) })
			return name, flags
		}
	}
	return name, flags
}

func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n
		}
	}
	return 0
}

func osName(release string) string {
	for line := range strings.Lines(release) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return runtime.GOOS
}

// programs asks each program for its version. One that does not answer is left out.
func (m *Machine) programs(ctx context.Context, k Kit) {
	first := func(name, path string, args ...string) {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = k.Env
		if out, err := cmd.Output(); err == nil {
			line, _, _ := strings.Cut(string(out), "\n")
			m.Programs[name] = line
		}
	}
	first("steno", k.Steno, "--version")
	first("ffmpeg", "ffmpeg", "-version")
	first("python of the peers", filepath.Join(k.Peers, "python", "bin", "python"), "--version")
	if kernels := doctor(ctx, k); kernels != "" {
		m.Programs["steno's engine"] = kernels
	}
	if version, err := os.ReadFile(filepath.Join(k.Peers, "bin", "version")); err == nil {
		m.Programs["whisper.cpp"] = strings.TrimSpace(string(version))
	}
	packages, _ := filepath.Glob(filepath.Join(k.Peers, "python", "lib", "python3*", "site-packages", "*.dist-info")) // well-formed
	for _, p := range packages {
		name, version, _ := strings.Cut(strings.TrimSuffix(filepath.Base(p), ".dist-info"), "-")
		switch name {
		case "faster_whisper", "ctranslate2", "openai_whisper", "torch", "onnxruntime", "av":
			m.Programs[name] = version
		}
	}
}

// doctor is what `steno doctor` says of the engine. Other checks of it may fail, and with them the command.
func doctor(ctx context.Context, k Kit) string {
	data, err := os.MkdirTemp("", "steno-bench-")
	if err != nil {
		return ""
	}
	defer os.RemoveAll(data)
	cmd := exec.CommandContext(ctx, k.Steno, "doctor", "--json", "--data", data, "--models", k.Models)
	cmd.Env = k.Env
	out, _ := cmd.Output()
	var found []struct{ Check, Text string }
	if json.NewDecoder(bytes.NewReader(out)).Decode(&found) != nil {
		return ""
	}
	for _, f := range found {
		if f.Check == "engine" {
			return f.Text
		}
	}
	return ""
}

// weightsOf hashes what the contenders that ran were given.
func weightsOf(cases []Case) ([]Weights, error) {
	var all []Weights
	seen := map[string]bool{}
	for _, c := range cases {
		for _, e := range c.Entries {
			if e.WarmUp == nil || seen[e.Weights] {
				continue
			}
			seen[e.Weights] = true
			w, err := hashWeights(e.Weights)
			if err != nil {
				return nil, err
			}
			all = append(all, w)
		}
	}
	return all, nil
}

func hashWeights(path string) (Weights, error) {
	w := Weights{Name: filepath.Base(path)}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		w.Name = filepath.Join(filepath.Base(path), "model.bin")
		path = filepath.Join(path, "model.bin")
	}
	sum, n, err := hashFile(path)
	w.SHA256, w.Bytes = sum, n
	return w, err
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("hash a file: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		return "", 0, fmt.Errorf("hash %s: %w", filepath.Base(path), err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// Media is a recording that contenders transcribe.
type Media struct {
	Path     string  `json:"-"` // absolute
	Name     string  `json:"name"`
	Duration float64 `json:"duration_s"`
	SHA256   string  `json:"sha256"`
	// Reference is what is said; nil where nobody wrote it down.
	Reference *string `json:"reference,omitempty"`
}

// known are texts of samples that come without one, by the SHA-256 of the file.
var known = map[string]string{
	// jfk.wav of whisper.cpp: public domain.
	"59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e": "And so my fellow Americans ask not what your country " +
		"can do for you, ask what you can do for your country.",
}

// OpenMedia looks at the recording at path. Its words are those of a text file of the same name with .txt, else those that the
// manifest of its folder gives.
func OpenMedia(ctx context.Context, path string) (Media, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Media{}, fmt.Errorf("find %s: %w", path, err)
	}
	m := Media{Path: path, Name: filepath.Base(path)}
	if m.SHA256, _, err = hashFile(path); err != nil {
		return Media{}, err
	}
	out, err := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0",
		"file:"+path).Output()
	if err != nil {
		return Media{}, fmt.Errorf("find the length of %s: %w", m.Name, err)
	}
	if m.Duration, err = strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err != nil {
		return Media{}, fmt.Errorf("find the length of %s: %w", m.Name, err)
	}
	m.Reference, err = reference(path, m.SHA256)
	return m, err
}

func reference(path, sum string) (*string, error) {
	text, err := os.ReadFile(strings.TrimSuffix(path, filepath.Ext(path)) + ".txt")
	if err == nil {
		s := string(text)
		return &s, nil
	}
	if text, ok := known[sum]; ok {
		return &text, nil
	}
	clips, err := ReadManifest(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, c := range clips {
		if text, ok := c.Text(); ok && c.File == filepath.Base(path) {
			return &text, nil
		}
	}
	return nil, nil
}

// CorpusMedia are the clips of the corpus in dir that hold speech in the language with known words.
func CorpusMedia(dir, language string) ([]Media, error) {
	clips, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	var all []Media
	for _, c := range clips {
		text, ok := c.Text()
		if !ok || c.Language != language {
			continue
		}
		path, err := filepath.Abs(filepath.Join(dir, filepath.FromSlash(c.File)))
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", c.File, err)
		}
		m := Media{Path: path, Name: c.File, Duration: c.Duration, Reference: &text}
		if m.SHA256, _, err = hashFile(path); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
