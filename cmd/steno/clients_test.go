//go:build cgo

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/job"
)

// client is a program of the environment that scripts/python.sh makes.
func client(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", ".build", "clients", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run scripts/python.sh clients, as make test does", err)
	}
	return path
}

// apiKey makes an API key for the node's first account.
func (n *node) apiKey() string {
	n.t.Helper()
	o := n.steno("user", "key", "add", "admin", "--name", "test")
	if o.code != 0 {
		n.t.Fatalf("user key add: exit code %d: %s", o.code, o.err)
	}
	return strings.TrimSpace(o.out)
}

// TestOpenAIClient lets OpenAI's own Python client transcribe real speech in every format.
func TestOpenAIClient(t *testing.T) {
	n := startNode(t, t.TempDir())
	cmd := exec.CommandContext(t.Context(), client(t, "python"), filepath.Join("testdata", "clients", "openai_client.py"),
		n.api+"/v1", n.apiKey(), testmedia.Sample(t, "jfk.wav"), testmedia.JFK)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("OpenAI's client: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestSchemathesis sends what schemathesis makes of /openapi.json, good and bad, and checks that each answer is one that is described
// there, and none a fault of ours.
func TestSchemathesis(t *testing.T) {
	n := startNode(t, t.TempDir(), "--model", "tiny.en", "--user-rate", "0", "--address-rate", "0", "--login-rate", "0")
	c := n.caller()
	var files, tasks []string
	for _, name := range []string{"jfk.wav", "sense.wav"} {
		var file struct {
			ID string `json:"file_id"`
		}
		c.json(201, &file, "POST", "/api/v1/files", formOf(t, testmedia.Sample(t, name)))
		var made task
		c.json(201, &made, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file.ID})
		files, tasks = append(files, file.ID), append(tasks, string(made.ID))
	}
	eventually(t, time.Minute, "both tasks are done", func() bool {
		done := true
		for _, id := range tasks {
			var got task
			c.json(200, &got, "GET", "/api/v1/transcription/"+id+"/status", nil)
			done = done && got.Status == job.Done
		}
		return done
	})
	cmd := exec.CommandContext(t.Context(), client(t, "schemathesis"), "run", n.api+"/openapi.json",
		"-H", "Authorization: Bearer "+n.apiKey(),
		"--exclude-operation-id", "revoke-key", // it would find its own
		"--exclude-operation-id", "follow-tasks", // it never ends
		"--exclude-operation-id", "drain-node", // it ends the only worker
		"-c", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance",
		"--phases", "examples,coverage,fuzzing", "-n", "30", "--seed", "1", "--continue-on-failure", "--request-timeout", "60")
	cmd.Env = append(os.Environ(), "STENO_TEST_TASK_ID="+strings.Join(tasks, ","), "STENO_TEST_FILE_ID="+strings.Join(files, ","),
		"SCHEMATHESIS_HOOKS=schemathesis_hooks", "PYTHONPATH="+clientsFolder(t), "PYTHONHASHSEED=0", "NO_COLOR=1")
	cmd.Dir = t.TempDir() // it leaves its notes where it runs
	out, err := cmd.CombinedOutput()
	if i := bytes.Index(out, []byte("Test cases:")); i >= 0 && err == nil {
		t.Logf("%s", bytes.TrimSpace(out[i:]))
	}
	if err != nil {
		t.Fatalf("schemathesis: %v\n%s", err, out)
	}
	for _, class := range []string{"2", "4"} { // it got past the door
		if n.metric(`steno_http_request_duration_seconds_count{code="`+class+`04",method="DELETE",route="/api/v1/files/{file_id}"}`) == 0 {
			t.Errorf("no DELETE of a file was answered with %s04", class)
		}
	}
}

func clientsFolder(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "clients"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
