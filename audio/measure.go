package audio

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
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

// Measure decodes the file once at 16 kHz mono. The declared duration is checked against what decodes: a file that ends before
// the end its header records is TRUNCATED (class INPUT), unless the plan allows it; one that has no sound at all is CORRUPT.
func Measure(ctx context.Context, t Tools, path string, info Info, plan Plan) (Measurement, error) {
	abs, _, err := regular(path)
	if err != nil {
		return Measurement{}, err
	}
	log := &ffmpegLog{}
	args := append([]string{"-v", "info"}, decodeArgs(abs, plan, "f32le", measureFilters())...)
	run, err := t.start(ctx, args, log)
	if err != nil {
		return Measurement{}, err
	}
	var m Measurement
	n, amplitude, err := m.env.readAll(run.out)
	m.Samples, m.TruePeak = n, 20*math.Log10(amplitude)
	werr := run.wait(err != nil)
	switch {
	case ctx.Err() != nil:
		return Measurement{}, context.Cause(ctx)
	case err != nil:
		return Measurement{}, fmt.Errorf("read decoded audio: %w", err)
	case n == 0:
		return Measurement{}, job.Errorf(job.Input, "CORRUPT",
			"nothing in the file decodes: it is damaged or not what its name says (%s)", log.last())
	case plan.MaxSeconds > 0 && Seconds(n) > plan.MaxSeconds:
		return Measurement{}, tooLong(Seconds(n), plan.MaxSeconds)
	}
	m.read(log)
	return m, m.check(info, plan, werr, log)
}

// check compares what decoded with what was claimed.
func (m *Measurement) check(info Info, plan Plan, werr error, log *ffmpegLog) error {
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
	if errors.As(werr, &exit) || log.errors > 0 {
		m.warn("parts of the file did not decode (%d errors; the first: %s)", max(1, log.errors), log.first)
	}
	return nil
}

func (m *Measurement) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

// read takes ebur128's summary from the log and derives the gain.
func (m *Measurement) read(log *ffmpegLog) {
	m.Loudness, m.Range = log.value("I:"), log.value("LRA:")
	if m.Loudness <= silentLoudness || math.IsNaN(m.Loudness) {
		m.GainDB = 0
		return
	}
	m.GainDB = min(TargetLoudness-m.Loudness, TargetPeak-m.TruePeak, maxGain)
	m.GainDB = math.Round(m.GainDB*100) / 100
}

// ffmpegLog reads what ffmpeg says, line by line, and keeps what matters in bounded memory. Safe for concurrent use.
type ffmpegLog struct {
	mu      sync.Mutex
	partial []byte
	summary map[string]float64
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
	f := strings.Fields(s)
	if len(f) < 2 || !strings.HasSuffix(f[0], ":") {
		return
	}
	if v, err := strconv.ParseFloat(f[1], 64); err == nil {
		if l.summary == nil {
			l.summary = make(map[string]float64)
		}
		if len(l.summary) < 32 {
			l.summary[f[0]] = v
		}
	}
}

func (l *ffmpegLog) value(key string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.summary[key]
	if !ok {
		return math.NaN()
	}
	return v
}

func (l *ffmpegLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail
}

// block is the grid of the envelope: 10 ms.
const block = Rate / 100

// envelope is the peak level of each block: 0 for digital silence, else 1 + half decibels above -100 dBFS. A byte a block is
// 8.6 MB for a whole day, which keeps memory flat and lets every cut be planned before a chunk is read.
type envelope []byte

// db is the peak level of block i in dBFS.
func (e envelope) db(i int) float64 {
	if e[i] == 0 {
		return -120
	}
	return float64(e[i]-1)/2 - 100
}

// level takes an amplitude as a factor of full scale; less than half a step of 16-bit PCM is digital silence.
func level(peak float32) byte {
	if peak < 0.5/32768 {
		return 0
	}
	return byte(1 + max(0, min(254, math.Round(2*(100+20*math.Log10(float64(peak)))))))
}

// readAll reads 32-bit float PCM to its end and returns the number of samples and the true peak as a factor of full scale. Floats
// keep what an encoder put above full scale, which 16 bits would clip.
func (e *envelope) readAll(r io.Reader) (samples int64, amplitude float64, err error) {
	br := bufio.NewReaderSize(r, 1<<16)
	buf, pcm := make([]byte, 4*block), make([]float32, block)
	tp := newTruePeak()
	for {
		n, err := io.ReadFull(br, buf)
		if n /= 4; n > 0 {
			peak := float32(0)
			for i := range n {
				v := math.Float32frombits(binary.LittleEndian.Uint32(buf[4*i:]))
				if math.IsNaN(float64(v)) {
					v = 0 // a broken decoder's not-a-number would hide every later peak
				}
				pcm[i] = v
				peak = max(peak, v, -v)
			}
			*e = append(*e, level(peak))
			tp.add(pcm[:n])
			samples += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return samples, tp.end(), nil
		case err != nil:
			return samples, 0, err
		}
	}
}
