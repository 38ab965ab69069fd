package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"steno/internal/proc"
)

// whisperServer is whisper.cpp's HTTP server, started for each run, asked for each file and ended by a child of ours
// (AskServer), so that it is measured as the others are.
func (k Kit) whisperServer(name, model, weights string) Contender {
	c := k.whisperCLI(name, model, weights)
	c.Streams = false
	bin := filepath.Join(k.Peers, "bin", "whisper-server")
	if _, err := os.Stat(bin); err != nil {
		c.Absent = "whisper-server is not built: run scripts/peers.sh"
	}
	c.command = func(t task) Command {
		args := []string{"bench", "ask-server", "--language", t.language, "--server", bin, "--weights", c.Weights,
			"--threads", strconv.Itoa(k.Threads)}
		return Command{Path: k.Self, Args: append(args, t.files...), Env: k.Env}
	}
	c.read = readPython
	return c
}

// ServerTask is what AskServer does.
type ServerTask struct {
	Server   string // the program whisper-server
	Weights  string
	Language string
	Threads  int
	Files    []string // 16 kHz wav
}

// AskServer starts whisper-server on a free port of the loopback, sends it each file, writes a JSON line for each as the
// programs in peers/ do, and ends it.
func AskServer(ctx context.Context, t ServerTask, out io.Writer) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	cmd := proc.Command(ctx, t.Server, "-m", t.Weights, "-t", strconv.Itoa(t.Threads), "--host", "127.0.0.1",
		"--port", strconv.Itoa(port))
	cmd.Stderr = &proc.Tail{}
	if err := proc.Start(cmd); err != nil {
		cancel()
		return fmt.Errorf("start whisper-server: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cancel()
		_ = errors.Join(<-ended) // the interrupt is its only way to end, so its exit status tells nothing
	}()
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := awaitServer(ctx, url+"/health", ended); err != nil {
		return fmt.Errorf("start whisper-server: %w: %s", err, cmd.Stderr)
	}
	load := time.Since(begin).Seconds()
	for _, path := range t.Files {
		begin := time.Now()
		text, err := ask(ctx, url+"/inference", t.Language, path)
		if err != nil {
			return fmt.Errorf("ask whisper-server for %s: %w", filepath.Base(path), err)
		}
		line := map[string]any{"text": text, "load": load, "run": time.Since(begin).Seconds()}
		if err := json.NewEncoder(out).Encode(line); err != nil {
			return err
		}
		load = 0
	}
	return nil
}

// freePort is a port that was free a moment ago.
func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// awaitServer asks until the server has loaded its model, every 10 ms.
func awaitServer(ctx context.Context, url string, ended chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		req.Close = true
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			ended <- err // for the one who waits for its end
			return errors.Join(errors.New("it ended"), err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func ask(ctx context.Context, url, language, path string) (string, error) {
	audio, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", filepath.Base(path))
	if err != nil {
		return "", err
	}
	_, err = part.Write(audio)
	err = errors.Join(err, form.WriteField("language", language), form.WriteField("response_format", "json"), form.Close())
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &body)
	if err != nil {
		return "", err
	}
	req.Close = true
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	var result struct{ Text, Error string }
	if err := json.Unmarshal(bytes.ToValidUTF8(answer, []byte("\uFFFD")), &result); err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it answers %s: %.200s", res.Status, answer)
	}
	if result.Error != "" {
		return "", errors.New(result.Error)
	}
	return strings.Join(strings.Fields(result.Text), " "), nil
}
