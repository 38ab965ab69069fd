package voices

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"steno/transcript"
)

// Loaded are networks that hold memory.
type Loaded interface {
	Networks
	Close() error
}

// LoadFunc loads networks, both ONNX, with the library at a path.
type LoadFunc func(library string, segment, embed []byte, threads int) (Loaded, error)

// Serve is the child: it reads a request and audio from in, and writes who speaks when to out.
func Serve(in io.Reader, out io.Writer, load LoadFunc) error {
	turns, err := serve(bufio.NewReaderSize(in, 1<<16), load)
	a := answer{Turns: turns}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	return json.NewEncoder(out).Encode(a)
}

func serve(in *bufio.Reader, load LoadFunc) (turns []transcript.Turn, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("this command is for steno itself: it reads what to do from a worker (%w)", err)
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	segment, err := r.Segment.read()
	if err != nil {
		return nil, err
	}
	weights, err := r.Embed.read()
	if err != nil {
		return nil, err
	}
	embed, err := Embedder(weights)
	if err != nil {
		return nil, err
	}
	nets, err := load(r.Library, segment, embed, r.Threads)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := nets.Close(); err == nil {
			err = closed
		}
	}()
	return Hear(in, nets, r.Speakers)
}

// read reads the file and checks what it has read.
func (f File) read() ([]byte, error) {
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); !strings.EqualFold(got, f.SHA256) {
		return nil, fmt.Errorf("%s has SHA-256 %s, want %s: remove it and pull it again", f.Path, got, f.SHA256)
	}
	return data, nil
}
