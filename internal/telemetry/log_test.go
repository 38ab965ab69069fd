package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestNewLogger(t *testing.T) {
	t.Parallel()
	for level, lines := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1} {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			log, err := NewLogger(&out, level, format)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				log.Log(t.Context(), l, "hello", "job", "01J")
			}
			if got := strings.Count(out.String(), "\n"); got != lines {
				t.Errorf("%s %s: %d lines, want %d", level, format, got, lines)
			}
			first, _, _ := strings.Cut(out.String(), "\n")
			if json.Valid([]byte(first)) != (format == "json") || !strings.Contains(first, "hello") {
				t.Errorf("%s: %s", format, first)
			}
		}
	}
}

func TestNewLoggerRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"loud", "text"}, {"", "json"}, {"info", "xml"}, {"INFO", "text"}} {
		if _, err := NewLogger(new(bytes.Buffer), c[0], c[1]); err == nil {
			t.Errorf("%q accepted", c)
		}
	}
}
