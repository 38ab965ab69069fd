//go:build cgo

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/internal/proc"
	"steno/internal/testmedia"
	"steno/job"
)

// read returns a file of the node's data folder.
func (n *node) read(name string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.data, name))
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// TestSecretsStayOutOfTheLog goes the whole way at the most talkative level, makes much go wrong on it, and looks for all that was secret.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	n := startNode(t, t.TempDir(), "--log-level", "debug")
	c := n.caller()
	secrets := map[string]string{
		"password": nodePassword, "token": c.token, "its signature": c.token[strings.LastIndex(c.token, ".")+1:],
		"wrong password": "Zwrongpassword", "prompt": "Zprompt", "path of a webhook": "Zhookpath", "token of a webhook": "Zhooktoken",
		"bad token": "Zbadtoken", "bad key": "sk-steno-Zbadkey", "what was said": "fellow Americans", "and after it": "can do for your country",
	}
	var key struct {
		Key string `json:"key"`
	}
	c.json(201, &key, "POST", "/api/v1/user/keys", map[string]string{"name": "laptop"})
	secrets["API key"] = key.Key
	var sign struct {
		Secret string `json:"secret"`
	}
	c.json(200, &sign, "GET", "/api/v1/user/webhook-secret", nil)
	secrets["key of webhooks"] = sign.Secret
	var broker struct{ Token string }
	if err := json.Unmarshal([]byte(n.read("nats.json")), &broker); err != nil {
		t.Fatal(err)
	}
	secrets["token of the queue"] = broker.Token
	for _, field := range strings.Fields(n.read("token.keys")) {
		if len(field) >= 32 {
			secrets["key of tokens"] = field
		}
	}
	for what, s := range secrets {
		if len(s) < 7 {
			t.Fatalf("%s is %q: that is not what it is meant to be", what, s)
		}
	}

	var file struct {
		ID string `json:"file_id"`
	}
	c.json(201, &file, "POST", "/api/v1/files", formOf(t, testmedia.Sample(t, "jfk.wav")))
	var made task
	c.json(201, &made, "POST", "/api/v1/transcription/create", map[string]any{
		"file_id": file.ID, "language": "en", "prompt": "Zprompt", "words": true, "webhook": "https://nobody.invalid/Zhookpath?token=Zhooktoken",
	})
	path := "/api/v1/transcription/" + string(made.ID)
	c.want(200, "GET", path+"/events?access_token=Zbadtoken", nil) // until it is done
	var got task
	if c.json(200, &got, "GET", path+"/status", nil); got.Status != job.Done {
		t.Fatalf("status %+v", got)
	}
	if pid := n.engine(); pid == 0 {
		t.Error("there is no engine whose environment could be looked at")
	} else if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || bytes.Contains(env, []byte("STENO_PASSWORD")) {
		t.Errorf("the engine's environment holds the password: %v", err)
	}
	for _, format := range []string{"text", "srt", "json"} {
		c.want(200, "GET", path+"/download?format="+format, nil)
	}
	// What goes wrong says more than what does not.
	anyone := &caller{t: t, base: n.api}
	anyone.want(401, "POST", "/api/v1/auth/token", map[string]string{"username": "admin", "password": "Zwrongpassword"})
	anyone.want(401, "POST", "/api/v1/auth/token", map[string]string{"username": nodePassword, "password": "admin"})
	anyone.want(422, "POST", "/api/v1/auth/token", map[string]any{"username": "admin", "password": []string{nodePassword}})
	for _, bad := range []string{"Zbadtoken", "sk-steno-Zbadkey", c.token + "x"} {
		anyone.want(401, "GET", "/api/v1/user/me", nil, "Authorization", "Bearer "+bad)
	}
	anyone.want(404, "GET", "/api/v1/none/"+key.Key, nil)
	c.want(422, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file.ID, "webhook": "http://127.0.0.1/Zhookpath?Zhooktoken"})
	c.want(204, "DELETE", path+"?file=true", nil)
	if o := n.steno("submit", "--wait", testmedia.Sample(t, "jfk.wav")); o.code != 0 {
		t.Errorf("submit: %s", o.err)
	}
	eventually(t, 20*time.Second, "a call of the webhook has failed, or none is due", func() bool {
		return n.metric(`steno_outbox_commands{lane="webhook"}`) == 0 || strings.Contains(n.log.String(), "nobody.invalid") ||
			n.metric(`steno_webhook_deliveries_total{outcome="failed"}`) > 0
	})

	// Profiles, which show memory, are not there.
	for _, base := range []string{n.api, n.admin} {
		for _, what := range []string{"", "heap", "goroutine?debug=2", "cmdline", "profile?seconds=1", "symbol", "trace?seconds=1"} {
			(&caller{t: t, base: base, token: c.token}).want(404, "GET", "/debug/pprof/"+what, nil)
		}
	}
	(&caller{t: t, base: n.api}).want(404, "GET", "/metrics", nil)
	if err := n.stop(); err != nil {
		t.Errorf("steno up ended with %v", err)
	}
	log := n.log.String()
	for what, s := range secrets {
		if i := strings.Index(log, s); i >= 0 {
			t.Errorf("the log holds the %s: %q", what, log[max(0, i-200):min(len(log), i+len(s))])
		}
	}
	if lines := strings.Count(log, "\n"); lines < 30 || !strings.Contains(log, "level=DEBUG") || !strings.Contains(log, "route=/api/v1/files") {
		t.Errorf("only %d lines: the log is not the talkative one", lines)
	}
	t.Logf("%d secrets, %d lines of log", len(secrets), strings.Count(log, "\n"))
}

// TestSecretsOfURLs starts each command that opens something with a password in its URL, where nobody answers: complaints, the settings
// that are shown, and what doctor finds say where it went, and not with what.
func TestSecretsOfURLs(t *testing.T) {
	const secret = "Zsecret"
	env := append(stenoEnv(t), "STENO_LOG_LEVEL=debug", "STENO_ADMIN=off", "STENO_LISTEN=127.0.0.1:0", "STENO_PASSWORD="+secret+"long enough")
	urls := map[string][]string{
		"database":           {"STENO_DB=postgres://steno:" + secret + "@127.0.0.1:1/steno"},
		"database, by query": {"STENO_DB=postgres://127.0.0.1:1/steno?user=a&password=" + secret},
		"database, odd":      {"STENO_DB=postgres://steno:" + secret + "%zz@127.0.0.1:1/steno"},
		"redis":              {"STENO_REDIS=redis://:" + secret + "@127.0.0.1:1/0"},
		"redis, odd":         {"STENO_REDIS=redis://:" + secret + "@127.0.0.1:1/none?password=" + secret},
		"queue":              {"STENO_NATS=nats://steno:" + secret + "@127.0.0.1:1"},
		"queue, a token":     {"STENO_NATS=nats://" + secret + "@127.0.0.1:1"},
		"mirror":             {"STENO_MIRRORS=https://a:" + secret + "@127.0.0.1:1/"},
	}
	ran := 0
	for what, set := range urls {
		commands := [][]string{{"config"}, {"config", "--json"}, {"doctor"}, {"status"}}
		switch {
		case strings.HasPrefix(what, "queue"):
			commands = append(commands, []string{"gateway"}, []string{"worker"})
		case strings.HasPrefix(what, "mirror"):
			commands = append(commands, []string{"models", "pull", "tiny"})
		default:
			commands = append(commands, []string{"up"}, []string{"user", "list"})
		}
		for _, args := range commands {
			ran++
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			cmd := proc.Command(ctx, binary.path(t), append(args, "--data", t.TempDir())...)
			var out logBuffer
			cmd.Env, cmd.Stdout, cmd.Stderr = append(env, set...), &out, &out
			err := proc.Run(ctx, cmd)
			cancel()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v: %v", args, err)
			}
			if said := out.String(); strings.Contains(said, secret) || said == "" {
				t.Errorf("%s, steno %s: %s", what, strings.Join(args, " "), said)
			}
		}
	}
	t.Logf("%d commands", ran)
}
