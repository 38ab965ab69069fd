package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"steno/internal/config"
	"steno/job"
)

// Each name that clients are told of can be asked for, and the names of one model are recorded as one, so that its transcripts are
// found again.
func TestResolve(t *testing.T) {
	r := resolver{registry{}, "tiny.en"}
	for _, name := range (registry{}).names() {
		if p, err := r.resolve(job.Params{Model: name}); err != nil || p.Language != "auto" || p.Task != job.Transcribe {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for asked, want := range map[string]string{
		"": "tiny.en", "whisper-1": "tiny.en", "whisper-large-v3": "large-v3", "openai/whisper-large-v3": "large-v3", "whisper-turbo": "large-v3-turbo",
		"turbo": "large-v3-turbo", "ggml-base.bin": "base", "Base": "base", "base-q8_0": "base-q8_0", "whisper-base-f16": "base-f16",
	} {
		if p, err := r.resolve(job.Params{Model: asked}); err != nil || p.Model != want {
			t.Errorf("%q is %q, want %q; %v", asked, p.Model, want, err)
		}
	}
	for name, c := range map[string]struct {
		p    job.Params
		code string
	}{
		"unknown":     {job.Params{Model: "whisper-9"}, "MODEL_UNKNOWN"},
		"finds voice": {job.Params{Model: "silero-v6.2.0"}, "BAD_PARAMETER"},
		"language":    {job.Params{Language: "xx"}, "BAD_PARAMETER"},
	} {
		var e *job.Error
		if _, err := r.resolve(c.p); !errors.As(err, &e) || e.Class != job.Input || e.Code != c.code {
			t.Errorf("%s: %v, want code %s", name, err, c.code)
		}
	}
}

// Where the models are on this machine, those that are not are refused with what to do, and without a word of folders.
func TestResolveHere(t *testing.T) {
	a := &app{cfg: config.Config{Models: t.TempDir()}}
	r := resolver{local{&machine{store: a.store()}}, "base"}
	if got := r.models.names(); !slices.Equal(got, []string{defaultAlias}) {
		t.Errorf("names without a model: %q", got)
	}
	_, err := r.resolve(job.Params{Model: "whisper-turbo"})
	var e *job.Error
	if !errors.As(err, &e) || e.Class != job.Input || e.Code != "MODEL_MISSING" || !strings.Contains(e.Message, "steno models pull") ||
		strings.Contains(e.Message, a.cfg.Models) {
		t.Errorf("a model that is not here: %v", err)
	}
	if _, err := r.resolve(job.Params{Model: "whisper-9"}); job.AsError(err).Code != "MODEL_UNKNOWN" {
		t.Errorf("a model that is nowhere: %v", err)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "webhook.key")
	made, err := loadSecret(path)
	if err != nil || len(made) != secretSize {
		t.Fatalf("%d bytes, %v", len(made), err)
	}
	if again, err := loadSecret(path); err != nil || !bytes.Equal(again, made) {
		t.Errorf("read again: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSecret(path); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a broken file: %v", err)
	}
}

// TestDoctorOnTheGatewaysAddress tells a free address from one that something else has.
func TestDoctorOnTheGatewaysAddress(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	examine := func() finding {
		t.Helper()
		var out bytes.Buffer
		dir := t.TempDir()
		env := []string{"HOME=" + dir, "STENO_MODELS=" + dir, "STENO_LISTEN=" + ln.Addr().String(), "PATH=" + os.Getenv("PATH")}
		run(t.Context(), []string{"doctor", "--json"}, streams{strings.NewReader(""), &out, &out}, env)
		var found []finding
		if err := json.Unmarshal(out.Bytes(), &found); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
		i := slices.IndexFunc(found, func(f finding) bool { return f.Check == "gateway" })
		if i < 0 {
			t.Fatalf("no word of the gateway: %+v", found)
		}
		return found[i]
	}
	go func() { // what has the address is no web server
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello\n"))
			conn.Close()
		}
	}()
	if f := examine(); f.OK || !strings.Contains(f.Text, "--listen") {
		t.Errorf("a taken address: %+v", f)
	}
	ln.Close()
	if f := examine(); !f.OK || !strings.Contains(f.Text, "is free") {
		t.Errorf("a free address: %+v", f)
	}
}
