package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"steno/job"
)

// accessFile lies in the data folder while an embedded server listens. Only its owner can read it: it holds the token.
const accessFile = "nats.json"

type access struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

// Local returns the Config with which another process of the same user reaches the embedded server of a data folder. The
// connection follows the server when it is started again, at another address and with another token.
func Local(dir string) (Config, error) {
	a, err := readAccess(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, &job.Error{
			Class: job.Input, Code: "NOT_RUNNING", Err: err,
			Message: "no steno runs on the data folder " + dir + ": start one with `steno up`, or name a NATS server",
		}
	}
	if err != nil {
		return Config{}, err
	}
	return Config{URL: a.URL, Attach: true, local: dir}, nil
}

func readAccess(dir string) (access, error) {
	var a access
	data, err := os.ReadFile(filepath.Join(dir, accessFile))
	if err != nil {
		return a, fmt.Errorf("read queue address: %w", err)
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, fmt.Errorf("read queue address in %s: %w", accessFile, err)
	}
	return a, nil
}

// follower dials whatever server listens for a data folder now.
type follower struct{ dir string }

func (f follower) Dial(network, _ string) (net.Conn, error) {
	a, err := readAccess(f.dir)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(a.URL)
	if err != nil {
		return nil, fmt.Errorf("read queue address in %s: %w", accessFile, err)
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	return dialer.DialContext(context.Background(), network, u.Host) // nats.CustomDialer knows no context
}

func (f follower) token() string {
	a, _ := readAccess(f.dir) // without a file there is no server either
	return a.Token
}

// writeAccess replaces the file in one step, so that a reader never sees half of it.
func writeAccess(dir string, a access) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write queue address: %w", err)
	}
	f, err := os.CreateTemp(dir, accessFile+".*") // with mode 0600
	if err != nil {
		return fmt.Errorf("write queue address: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write queue address: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, accessFile)); err != nil {
		return fmt.Errorf("write queue address: %w", err)
	}
	return nil
}

// serverLog hands the server's lines to slog and keeps the last error, to explain why a start did not succeed.
type serverLog struct {
	log *slog.Logger
	mu  sync.Mutex
	err error
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats: " + fmt.Sprintf(format, v...))
}
func (l *serverLog) Debugf(string, ...any)          {}
func (l *serverLog) Tracef(string, ...any)          {}
func (l *serverLog) Warnf(format string, v ...any)  { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any) { l.keep(fmt.Sprintf(format, v...)) }
func (l *serverLog) Fatalf(format string, v ...any) { l.keep(fmt.Sprintf(format, v...)) }

func (l *serverLog) keep(text string) {
	l.log.Error("nats: " + text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.New(text)
}

func (l *serverLog) last() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
