package bench_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if i := slices.Index(os.Args, "--port"); i > 0 {
		playServer(os.Args[i+1])
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("steno/internal/proc.spawn"))
}

// playServer stands in for whisper-server: it answers that it loads its model until it was asked a second time, and then each file
// with its name and language.
func playServer(port string) {
	asked := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("POST /inference", func(w http.ResponseWriter, r *http.Request) {
		_, file, err := r.FormFile("file")
		if err != nil || file.Filename == "bad.wav" {
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "failed to read audio"})
			return
		}
		text := fmt.Sprintf(" %s\n in %s\n", file.Filename, r.FormValue("language"))
		_ = json.NewEncoder(w).Encode(map[string]string{"text": text})
	})
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = http.Serve(l, mux)
}
