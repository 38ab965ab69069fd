//go:build cgo

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"steno/internal/proc"
	"steno/internal/testmedia"
)

// monitoring is the folder of rules and dashboards.
var monitoring = filepath.Join("..", "..", "deploy", "monitoring")

// tool is a program of Prometheus, which scripts/prometheus.sh finds or gets.
func tool(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "prometheus.sh"))
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), name)
}

// TestAlerts runs promtool's own tests of the rules: when each alert fires, and when it must not.
func TestAlerts(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", filepath.Join(monitoring, "prometheus.yml")},
		{"test", "rules", filepath.Join(monitoring, "tests", "steno_test.yml")},
	} {
		out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	rules := read(t, filepath.Join(monitoring, "rules", "steno.yml"))
	tests := read(t, filepath.Join(monitoring, "tests", "steno_test.yml"))
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		fires := regexp.MustCompile(`alertname: ` + m[1] + `\n +exp_alerts:\n`).MatchString(tests)
		silent := strings.Contains(tests, "alertname: "+m[1]+"\n        exp_alerts: []\n")
		one := slices.Contains([]string{"StenoPoolThrash", "StenoModelsFailToLoad", "StenoGPUProblem", "StenoGPUMemoryHigh", "StenoGPUHot"}, m[1])
		if !fires || !silent && !one { // of those, other series of the same case stay silent
			t.Errorf("%s has no test in which it fires, or none in which it does not", m[1])
		}
	}
}

// expressions are the queries of dashboards, by panel.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(monitoring, "dashboards", "*.json"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%d dashboards, %v; want 5", len(files), err)
	}
	all := map[string]string{}
	for _, f := range files {
		var d struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal([]byte(read(t, f)), &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				all[fmt.Sprintf("%s / %s / %s", d.Title, p.Title, target.RefID)] = target.Expr
			}
		}
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestDashboards lets a real Prometheus scrape a real node with GPUs (NVIDIA's stand-ins) that works, and asks it each query of each
// dashboard: it must be understood, name series that are there, and have an answer, unless what it counts has not happened.
func TestDashboards(t *testing.T) {
	n := launch(t, breakable.path(t), t.TempDir(), []string{"STENO_CARDS=2", "STENO_SCRIPT=10ms"})
	if !n.ready() {
		t.Fatalf("it ended early:\n%s", n.log)
	}
	p := startPrometheus(t, strings.TrimPrefix(n.admin, "http://"))
	c := n.caller()
	var file struct {
		ID string `json:"file_id"`
	}
	c.json(201, &file, "POST", "/api/v1/files", formOf(t, testmedia.Sample(t, "jfk.wav")))
	c.want(201, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file.ID})
	c.want(200, "GET", "/api/v1/user/history", nil)
	eventually(t, 20*time.Second, "the job was scraped", func() bool { return len(p.query(t, `steno_jobs_completed_total{outcome="done"} == 1`)) > 0 })
	time.Sleep(2 * time.Second) // two scrapes, for rates
	names := p.names(t)
	metric := regexp.MustCompile(`\b(steno|process|go)_[a-z_]+`)
	empty := 0
	for where, expr := range expressions(t) {
		expr = strings.ReplaceAll(expr, "$__rate_interval", "1m")
		for _, name := range metric.FindAllString(expr, -1) {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no series %s in what steno shows", where, name)
			}
		}
		if len(p.query(t, expr)) == 0 {
			empty++
			t.Logf("%s: no answer, for nothing of it has happened: %s", where, expr)
		}
	}
	if empty > 3 {
		t.Errorf("%d queries have no answer, want at most those that count faults and refusals", empty)
	}
	if alerts := p.alerts(t); alerts != 20 {
		t.Errorf("%d alerts are loaded, want 20", alerts)
	}
}

// promServer is a Prometheus that runs.
type promServer struct{ url string }

// startPrometheus runs one on the rules that scrapes an address each half second, until the test ends.
func startPrometheus(t *testing.T, target string) promServer {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(monitoring, "rules"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: { scrape_interval: 500ms, evaluation_interval: 500ms }\nrule_files: [%q]\n"+
		"scrape_configs: [{ job_name: steno, static_configs: [{ targets: [%q] }] }]\n", filepath.Join(rules, "*.yml"), target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close() // another program could take it, and the test would say so
	ctx, stop := context.WithCancel(context.Background())
	cmd := proc.Command(ctx, tool(t, "prometheus"), "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address)
	log := &logBuffer{}
	cmd.Stderr = log
	if err := proc.Start(cmd); err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // we have ended it
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log)
		}
	})
	p := promServer{"http://" + address}
	eventually(t, 30*time.Second, "Prometheus is ready", func() bool {
		res, err := get(t, p.url+"/-/ready")
		if err != nil {
			return false
		}
		return res.StatusCode == http.StatusOK && res.Body.Close() == nil
	})
	return p
}

func get(t *testing.T, address string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // no connection may outlive the test
	return http.DefaultClient.Do(req)
}

// ask reads the data of an answer of Prometheus's API into v.
func (p promServer) ask(t *testing.T, path string, v any) {
	t.Helper()
	res, err := get(t, p.url+path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: v}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %s, %v", path, res.Status, answer.Error, err)
	}
}

func (p promServer) query(t *testing.T, expr string) []json.RawMessage {
	t.Helper()
	var data struct{ Result []json.RawMessage }
	p.ask(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	return data.Result
}

func (p promServer) names(t *testing.T) (names []string) {
	t.Helper()
	p.ask(t, "/api/v1/label/__name__/values", &names)
	return names
}

func (p promServer) alerts(t *testing.T) (n int) {
	t.Helper()
	var data struct {
		Groups []struct{ Rules []struct{ Type string } }
	}
	p.ask(t, "/api/v1/rules", &data)
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Type == "alerting" {
				n++
			}
		}
	}
	return n
}
