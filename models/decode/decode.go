// Package decode turns a chunk of audio into segments with as few runs of the model as its speech allows.
//
// The encoder is where the time goes, so a window is encoded once, at its own length and not at Whisper's 30 s. What that
// costs in accuracy is bought back where it is needed: guards notice a loop, a broken or an empty decode, and that window
// alone is decoded again at full length with Whisper's temperature fallback; speech that a decode left over after its last
// timestamp is picked up by another run that starts there. See docs/adr/0003-one-pass.md for the figures.
//
// The package is pure: the model is an interface, so every path is tested without weights. Functions are safe for
// concurrent use as far as their Model is.
package decode

import (
	"context"
	"fmt"
	"strings"
	"time"

	"steno/models"
	"steno/transcript"
)

const (
	rate = 16000 // Hz, of all PCM here

	// windowSamples is the longest stretch the model sees at once: Whisper's 30 s.
	windowSamples = 30 * rate
)

// Model is one run of the model over one window, on a decode state of its own. Implementations need not be safe for
// concurrent use.
type Model interface {
	// Run encodes and decodes at most 30 s of audio once.
	Run(ctx context.Context, w Window) (Output, error)
	// Detect tells the language of at most 30 s of audio with its probability.
	Detect(ctx context.Context, samples []float32, threads int) (language string, prob float64, err error)
	// Speech gives the probability of speech for each consecutive VADFrame of samples; the last frame may be short.
	Speech(samples []float32) ([]float32, error)
}

// Window is one run's input.
type Window struct {
	Samples   []float32
	Language  string
	Translate bool
	Prompt    string
	Threads   int
	// AudioCtx is the number of encoder positions (20 ms each) to compute; 0 means all 1500.
	AudioCtx int
	// Fallback repeats a failed decode at rising temperatures, as Whisper does.
	Fallback bool
}

// Output is what one run said.
type Output struct {
	Tokens    []Token
	NoSpeech  float64 // probability that the window has no speech
	Fallbacks int
	Steps     int // of the decoder
	Seconds   models.Seconds
}

// Token is one token of the decoder's output.
type Token struct {
	Kind    Kind
	Text    string  // raw bytes; a character may be split over two tokens
	Time    float64 // Timestamp: seconds from the window's start
	Prob    float64
	Logprob float64
	// Attention of a Text is how much it rests on each 20 ms from the window's start, in standard deviations over the window's
	// tokens; empty where that is not known.
	Attention []float32
}

// Kind of a token.
type Kind uint8

// The kinds that matter to a transcript.
const (
	Text Kind = iota
	Timestamp
	End
)

// Options say what the model can do.
type Options struct {
	// FullContext encodes every window at 30 s, for models that cannot do with less.
	FullContext bool
}

// Chunk transcribes one chunk. emit, if not nil, is called with segments as they become final, in order.
func Chunk(ctx context.Context, m Model, r models.Request, o Options, emit func([]transcript.Segment)) (models.Result, error) {
	d := &decoder{m: m, req: r, opts: o, emit: emit, samples: toFloat(r.PCM)}
	d.result.Language, d.result.LanguageProb = r.Language, 1
	if err := d.run(ctx); err != nil {
		return models.Result{}, err
	}
	return d.result, nil
}

// decoder is the state of one Chunk call.
type decoder struct {
	m       Model
	req     models.Request
	opts    Options
	emit    func([]transcript.Segment)
	samples []float32
	speech  []span // where the VAD hears speech, in samples of the chunk, padded: what is decoded
	voice   []span // the same without the pads, parted at every pause: when it is spoken
	result  models.Result
}

func (d *decoder) run(ctx context.Context) error {
	start := time.Now()
	probs, err := d.m.Speech(audible(d.samples))
	d.result.Stats.Seconds.VAD = time.Since(start).Seconds()
	if err != nil {
		return fmt.Errorf("find speech: %w", err)
	}
	voice := voiceSpans(probs, len(d.samples))
	d.speech, d.voice = joined(voice, speechPad, len(d.samples)), joined(voice, 0, len(d.samples))
	if d.req.Language == "auto" || d.req.DetectOnly {
		if err := d.detect(ctx); err != nil {
			return err
		}
	}
	if d.req.DetectOnly {
		return nil
	}
	if len(d.speech) == 0 {
		d.result.Stats.NoSpeech++
		return nil
	}
	end := d.speech[len(d.speech)-1].end
	for pos := d.speech[0].start; pos < end; {
		next, err := d.window(ctx, pos, min(pos+windowSamples, end), true)
		if err != nil {
			return err
		}
		pos = d.skipSilence(next)
	}
	return nil
}

func (d *decoder) detect(ctx context.Context) error {
	s := d.samples
	if len(d.speech) > 0 {
		s = s[d.speech[0].start:]
	}
	lang, prob, err := d.m.Detect(ctx, s[:min(len(s), windowSamples)], d.req.Threads)
	if err != nil {
		return fmt.Errorf("detect language: %w", err)
	}
	d.result.Stats.Passes++
	d.result.Language, d.result.LanguageProb = lang, prob
	return nil
}

// window decodes samples[from:to] and returns where the next window starts. Speech that the model leaped over is decoded in a
// window of its own, if fill is set.
func (d *decoder) window(ctx context.Context, from, to int, fill bool) (next int, err error) {
	w := Window{
		Samples:   d.samples[from:to],
		Language:  d.result.Language,
		Translate: d.req.Translate,
		Prompt:    d.req.Prompt,
		Threads:   d.req.Threads,
	}
	if !d.opts.FullContext {
		w.AudioCtx = contextFor(to - from)
	}
	w.Fallback = w.AudioCtx == 0
	out, err := d.m.Run(ctx, w)
	if err != nil {
		return 0, fmt.Errorf("decode window: %w", err)
	}
	d.count(out)
	pieces := parse(out.Tokens, float64(to-from)/rate)
	if w.AudioCtx != 0 && doubtful(out, pieces, to-from) != "" {
		w.AudioCtx, w.Fallback = 0, true
		d.result.Stats.FullSize++
		if out, err = d.m.Run(ctx, w); err != nil {
			return 0, fmt.Errorf("decode window at full length: %w", err)
		}
		d.count(out)
		pieces = parse(out.Tokens, float64(to-from)/rate)
	}
	var holes []span
	if fill {
		holes = d.holes(pieces, from)
	}
	pieces = d.guard(pieces, from)
	next = d.resume(pieces, from, to)
	d.settle(pieces, from, next < to)
	for _, h := range holes {
		n := 0
		for n < len(pieces) && from+int(pieces[n].start*rate) < h.end {
			n++
		}
		d.keep(pieces[:n], out, from)
		pieces = pieces[n:]
		d.result.Stats.Seeks++
		if _, err := d.window(ctx, h.start, h.end, false); err != nil {
			return 0, err
		}
	}
	d.keep(pieces, out, from)
	return next, nil
}

func (d *decoder) count(out Output) {
	d.result.Stats = d.result.Stats.Add(models.Stats{
		Passes: 1, Fallbacks: out.Fallbacks, Tokens: out.Steps, Seconds: out.Seconds,
	})
}

// keep appends pieces, which start at sample from, to the result.
func (d *decoder) keep(pieces []piece, out Output, from int) {
	offset := float64(from) / rate
	var segs []transcript.Segment
	for _, p := range pieces {
		text := strings.TrimSpace(strings.ToValidUTF8(p.text, ""))
		if text == "" {
			continue
		}
		s := transcript.Segment{
			ID:               len(d.result.Segments) + len(segs),
			Start:            offset + p.start,
			End:              offset + p.end,
			Text:             text,
			AvgLogprob:       p.avgLogprob(),
			NoSpeechProb:     out.NoSpeech,
			CompressionRatio: CompressionRatio(text),
		}
		if d.req.Words {
			var heard [][]float32
			s.Words, heard = words(p)
			placeWords(s.Words, heard, p, d.spokenIn(p, from))
			for i := range s.Words {
				s.Words[i].Start += offset
				s.Words[i].End += offset
			}
		}
		segs = append(segs, s)
	}
	if len(segs) == 0 {
		return
	}
	d.result.Segments = append(d.result.Segments, segs...)
	if d.emit != nil {
		d.emit(segs)
	}
}

// resume says where the next window starts: after the window, or at the last timestamp where speech is left after it.
func (d *decoder) resume(pieces []piece, from, to int) int {
	if len(pieces) == 0 {
		return to
	}
	last := pieces[len(pieces)-1]
	stop := from + int(last.end*rate)
	if last.open {
		// The model wrote to the window's end without closing the sentence.
		return to
	}
	if stop <= from+minStep || d.speechIn(stop+leftOverSlack, to) < minLeftOver {
		return to
	}
	d.result.Stats.Seeks++
	return stop
}

func toFloat(pcm []int16) []float32 {
	f := make([]float32, len(pcm))
	for i, v := range pcm {
		f[i] = float32(v) / 32768
	}
	return f
}
