package audio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"

	"steno/internal/proc"
	"steno/job"
)

// Measurement is what one decode of the whole file tells.
type Measurement struct {
	Samples  int64   // how long the audio really is
	Loudness float64 // integrated, LUFS; -70 or less is silence
	TruePeak float64 // dBTP
	Range    float64 // LU
	GainDB   float64 // what Linear will apply
	Warnings []string

	env envelope
}

const (
	// silentLoudness is EBU R128's absolute gate: below it there is no programme.
	silentLoudness = -70.0
	// maxGain bounds how much a quiet file is raised: beyond 30 dB it is the noise that one hears.
	maxGain = 30.0
)

// measure decodes the file once at 16 kHz mono, and keeps the audio. The declared duration is checked against what decodes: a
// file that ends before the end its header records is TRUNCATED (class INPUT), unless the plan allows it; one that has no sound
// at all is CORRUPT.
func measure(ctx context.Context, t Tools, path string, info Info, plan Plan, keep *spool) (Measurement, error) {
	meter := newMeter(keep)
	how, err := t.hear(ctx, path, plan, monoFilters(), meter)
	if err != nil {
		return Measurement{}, err
	}
	m := meter.measurement()
	return m, m.check(info, plan, how)
}

// listener takes 32-bit float PCM.
type listener interface {
	readAll(io.Reader) error
	length() int64 // samples so far, of one channel
}

// hearing is how a decode went: how ffmpeg ended, and what it said.
type hearing struct {
	err error
	log *ffmpegLog
}

// hear decodes the whole file into to.
func (t Tools) hear(ctx context.Context, path string, plan Plan, filters []filter, to listener) (hearing, error) {
	abs, _, err := regular(path)
	if err != nil {
		return hearing{}, err
	}
	how := hearing{log: &ffmpegLog{}}
	run, err := t.start(ctx, abs, append([]string{"-v", "warning"}, decodeArgs(abs, plan, "f32le", filters)...), how.log)
	if err != nil {
		return hearing{}, err
	}
	err = to.readAll(run.out)
	how.err = run.wait(err != nil)
	switch {
	case ctx.Err() != nil:
		return hearing{}, context.Cause(ctx)
	case err != nil:
		return hearing{}, fmt.Errorf("read decoded audio: %w", err)
	case to.length() == 0:
		return hearing{}, job.Errorf(job.Input, "CORRUPT",
			"nothing in the file decodes: it is damaged or not what its name says (%s)", how.log.last())
	case plan.MaxSeconds > 0 && Seconds(to.length()) > plan.MaxSeconds:
		return hearing{}, tooLong(Seconds(to.length()), plan.MaxSeconds)
	}
	return how, nil
}

// check compares what decoded with what was claimed.
func (m *Measurement) check(info Info, plan Plan, how hearing) error {
	got := Seconds(m.Samples)
	missing := info.Duration - got
	if info.Exact && missing > max(1, info.Duration/100) {
		if !plan.AllowTruncated {
			return job.Errorf(job.Input, "TRUNCATED", "the file ends at %.1f s of the %.1f s that its header declares: "+
				"get the whole file, or allow truncated input to transcribe what is there", got, info.Duration)
		}
		m.warn("the file ends at %.1f s of the %.1f s that its header declares", got, info.Duration)
	}
	var exit *proc.ExitError
	if errors.As(how.err, &exit) || how.log.errors > 0 {
		m.warn("parts of the file did not decode (%d errors; the first: %s)", max(1, how.log.errors), how.log.first)
	}
	return nil
}

func (m *Measurement) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

// measurement ends the metering and derives the gain.
func (m *meter) measurement() Measurement {
	out := Measurement{
		Samples: m.samples, Loudness: m.loudness.lufs(), Range: m.loudness.lra(), TruePeak: 20 * math.Log10(m.peak.end()), env: m.env,
	}
	if out.Loudness > silentLoudness {
		gain := min(TargetLoudness-out.Loudness, TargetPeak-out.TruePeak, maxGain)
		out.GainDB = math.Round(gain*100) / 100
	}
	return out
}

// ffmpegLog reads what ffmpeg says, line by line, and keeps what matters in bounded memory. Safe for concurrent use.
type ffmpegLog struct {
	mu      sync.Mutex
	partial []byte
	errors  int
	first   string
	tail    string
}

func (l *ffmpegLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := strings.Cut(string(l.partial), "\n")
		if !found {
			break
		}
		l.line(strings.TrimSpace(line))
		l.partial = append(l.partial[:0], rest...)
	}
	if len(l.partial) > 4096 {
		l.partial = l.partial[:0]
	}
	return len(p), nil
}

func (l *ffmpegLog) line(s string) {
	if s == "" {
		return
	}
	l.tail = s
	low := strings.ToLower(s)
	for _, trouble := range []string{"error while decoding", "invalid data found", "header missing"} {
		if !strings.Contains(low, trouble) {
			continue
		}
		if l.errors++; l.first == "" {
			l.first = s
		}
		break
	}
}

func (l *ffmpegLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail
}
