package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"steno/internal/proc"
	"steno/job"
	"steno/models/files"
	"steno/models/voices"
	"steno/transcript"
)

// voicesName is the hidden subcommand of the child that tells voices apart.
const voicesName = "voices"

// voicesCmd is that child. Only steno itself starts it.
func (a *app) voicesCmd() *cobra.Command {
	return &cobra.Command{
		Use: voicesName, Hidden: true, Args: args(cobra.NoArgs),
		// It has no settings of its own: all it needs comes with the audio.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(*cobra.Command, []string) error {
			return voices.Serve(os.Stdin, a.std.out, loadVoices)
		},
	}
}

// voiceThreads is how many threads listen to one recording: beside a transcription, which has all cores, more gain nothing.
const voiceThreads = 2

// voiceFinder tells voices apart with the models that are here when it is asked, for they may be pulled at any time.
type voiceFinder struct {
	store   *files.Store
	library func() (string, error)
	sandbox *proc.Sandbox
	places  chan struct{}
}

// voiceFinder makes the one of this process, for a number of cores.
func (a *app) voiceFinder(store *files.Store, cores int) *voiceFinder {
	places := make(chan struct{}, max(1, cores/voiceThreads))
	return &voiceFinder{store: store, library: a.onnxRuntime, sandbox: a.sandbox, places: places}
}

// Find implements pipeline.Voices.
func (v *voiceFinder) Find(ctx context.Context, pcm io.Reader, length time.Duration, speakers int) ([]transcript.Turn, error) {
	f, err := v.files()
	if err != nil {
		return nil, err
	}
	finder := voices.Finder{Command: []string{"/proc/self/exe", voicesName}, Files: f, Sandbox: v.sandbox, Places: v.places}
	return finder.Find(ctx, pcm, length, speakers)
}

// files are what the child loads. The error says how to get what is missing.
func (v *voiceFinder) files() (f voices.Files, err error) {
	f.Threads = voiceThreads
	if f.Segment, err = v.model(files.SegmentationName); err != nil {
		return f, err
	}
	if f.Embed, err = v.model(files.EmbeddingName); err != nil {
		return f, err
	}
	f.Library, err = v.library()
	return f, err
}

func (v *voiceFinder) model(name string) (voices.File, error) {
	e, _, err := v.store.Resolve(name, nil)
	if err != nil {
		return voices.File{}, err
	}
	path, err := v.store.Path(e.Name)
	return voices.File{Path: path, SHA256: e.SHA256}, err
}

// onnxRuntime is the library that computes voices.
func (a *app) onnxRuntime() (string, error) {
	if a.cfg.ONNXRuntime != "" {
		return a.cfg.ONNXRuntime, nil
	}
	patterns := []string{filepath.Join(a.cfg.Models, "libonnxruntime.so")}
	if self, err := os.Executable(); err == nil {
		patterns = append(patterns, filepath.Join(filepath.Dir(self), "libonnxruntime.so"))
	}
	for _, dir := range []string{"/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu"} {
		patterns = append(patterns, filepath.Join(dir, "libonnxruntime.so*"))
	}
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 { // well-formed, but for a folder with a bracket
			return found[0], nil
		}
	}
	return "", job.Errorf(job.Internal, "NO_ONNXRUNTIME",
		"there is no libonnxruntime.so in %s, beside this program or in the system's folders: `make models` gets it, or name one of "+
			"version 1.24 or later with --onnxruntime.", a.cfg.Models)
}
