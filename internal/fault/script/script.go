// Package script is an engine for fault tests: it says at once what a chunk is, and breaks in whatever way a job asks for. It is
// linked into steno by -tags failpoints alone.
//
// What it says depends on the samples and on nothing else: a segment for each second, whose text is the CRC-32 of the second's
// samples. So a transcript that equals another one was made of the same audio, each second once, at the same place.
package script

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"steno/models"
	"steno/models/engine"
	"steno/transcript"
)

const rate = 16000 // samples per second

// Loader returns a load function whose engines spend pace on each second of audio.
func Loader(pace time.Duration) engine.LoadFunc {
	return func(_ context.Context, r engine.LoadRequest) (engine.Backend, error) {
		f, err := os.Stat(r.Path)
		if err != nil {
			return nil, err
		}
		return &backend{pace: pace, info: models.Info{
			Model: r.Model, Device: r.Device, SHA256: r.SHA256, States: r.States, Bytes: f.Size(), Multilingual: true,
		}}, nil
	}
}

type backend struct {
	pace time.Duration
	info models.Info
}

func (b *backend) Info() models.Info { return b.info }
func (b *backend) Close() error      { return nil }

// Transcribe does what the prompt says, "WORD" or "WORD NUMBER", and says what the chunk is.
func (b *backend) Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	pace := b.pace
	verb, arg, _ := strings.Cut(r.Prompt, " ")
	n, _ := strconv.Atoi(arg)
	switch verb {
	case "abort": // as a failed assertion
		fmt.Fprintln(os.Stderr, "ggml.c:42: GGML_ASSERT(false) failed")
		die(syscall.SIGABRT)
	case "segv":
		die(syscall.SIGSEGV)
	case "exit":
		os.Exit(n)
	case "hang": // and hear no cancel
		select {}
	case "oom":
		return models.Result{}, fmt.Errorf("make a decode state: %w", models.ErrOutOfMemory)
	case "fail":
		return models.Result{}, errors.New("the decoder gave up")
	case "junk": // bytes on the socket that are no frame
		_, _ = syscall.Write(3, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		select {}
	case "long": // n KiB of text
		return models.Result{Language: "en", LanguageProb: 1, Segments: []transcript.Segment{
			{Start: 0, End: float64(len(r.PCM)) / rate, Text: " " + strings.Repeat("all work and no play ", n<<10/21)},
		}}, nil
	case "pace": // n milliseconds for each second
		pace = time.Duration(n) * time.Millisecond
	}
	res := models.Result{Language: "en", LanguageProb: 1, Stats: models.Stats{Passes: 1}}
	if r.DetectOnly {
		return res, nil
	}
	for from := 0; from < len(r.PCM); from += rate {
		to := min(from+rate, len(r.PCM))
		if pace > 0 {
			select {
			case <-ctx.Done():
				return models.Result{}, ctx.Err()
			case <-time.After(pace * time.Duration(to-from) / rate):
			}
		}
		seg := transcript.Segment{
			ID: len(res.Segments), Start: float64(from) / rate, End: float64(to) / rate, Text: " " + sum(r.PCM[from:to]),
		}
		if r.Activity != nil {
			r.Activity.Add(1)
		}
		if emit != nil {
			emit([]transcript.Segment{seg})
		}
		res.Segments = append(res.Segments, seg)
	}
	return res, nil
}

func sum(pcm []int16) string {
	b := make([]byte, 0, 2*len(pcm))
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(b))
}

func die(s syscall.Signal) {
	_ = syscall.Kill(os.Getpid(), s)
	select {}
}
