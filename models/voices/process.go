package voices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"steno/internal/proc"
	"steno/transcript"
)

// File is a network's weights. What does not have the SHA-256 is not loaded.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Files are what a child loads, and how many threads it computes with.
type Files struct {
	Library string `json:"library"` // libonnxruntime.so
	Segment File   `json:"segment"` // ONNX
	Embed   File   `json:"embed"`   // CAM++ as PyTorch saves it
	Threads int    `json:"threads"`
}

// Finder finds speakers in a process of its own, so that a crash of the library costs the speakers and not the job. It is safe
// for concurrent use.
type Finder struct {
	// Command starts the child: a program that calls Serve, and its arguments.
	Command []string
	Files   Files
	Sandbox *proc.Sandbox // nil is one that confines where it can
	// Places bounds the children that run at a time: each takes Files.Threads cores. nil is no bound.
	Places chan struct{}
}

const (
	// A child is given up after startLimit and paceLimit seconds for each of audio. It takes about a fifteenth of one.
	startLimit = time.Minute
	paceLimit  = 2
	// addressSpace bounds a child's memory in bytes; it takes 250 MB.
	addressSpace = 8 << 30
)

// request is the first line that a child reads. 16-bit PCM follows.
type request struct {
	Files
	Speakers int `json:"speakers"`
}

// answer is what a child writes.
type answer struct {
	Turns []transcript.Turn `json:"turns"`
	Error string            `json:"error,omitempty"`
}

// Find says who speaks when in 16-bit mono PCM of Rate that lasts for length. speakers is how many there are, or 0 where that is
// to be found. The child has ended when Find returns.
func (f *Finder) Find(ctx context.Context, pcm io.Reader, length time.Duration, speakers int) ([]transcript.Turn, error) {
	if f.Places != nil {
		select {
		case f.Places <- struct{}{}:
			defer func() { <-f.Places }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	late := fmt.Errorf("the search for speakers took longer than %v", startLimit+paceLimit*length)
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit+paceLimit*length, late)
	defer cancel()
	head, err := json.Marshal(request{f.Files, speakers})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	input := &source{r: io.MultiReader(bytes.NewReader(append(head, '\n')), pcm)}
	cmd, err := f.Sandbox.Start(func() (*exec.Cmd, error) {
		cmd := proc.Command(ctx, f.Command[0], f.Command[1:]...)
		cmd.Args[0] = "steno-voices" // what process lists say
		cmd.Env = proc.Env(nil)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &proc.Tail{}
		return cmd, nil
	}, f.confinement())
	if err != nil {
		return nil, fmt.Errorf("start the search for speakers: %w", err)
	}
	err = proc.Explain(ctx, cmd, cmd.Wait())
	if input.err != nil {
		return nil, input.err // rather than what the child says of its end
	}
	var a answer
	if said := json.Unmarshal(out.Bytes(), &a); err == nil && said != nil {
		err = said
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("find speakers: %w", err)
	}
	return a.Turns, nil
}

func (f *Finder) confinement() proc.Confinement {
	may := proc.Confinement{
		Read:   []string{f.Files.Library, f.Files.Segment.Path, f.Files.Embed.Path, "/sys/devices/system", "/proc"},
		Memory: addressSpace,
	}
	if real, err := filepath.EvalSymlinks(f.Files.Library); err == nil {
		may.Read = append(may.Read, real)
	}
	return may
}

// source keeps the error of the audio apart from the child's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
