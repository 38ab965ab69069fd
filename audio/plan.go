package audio

import (
	"fmt"
	"strconv"
	"time"

	"steno/job"
	"steno/transcript"
)

// Loudness says how the level is corrected.
type Loudness string

// The ways to correct the level.
const (
	Linear  Loudness = "linear"  // one constant gain, measured first
	Classic Loudness = "classic" // ffmpeg's dynamic loudnorm filter
	Off     Loudness = "off"
)

// EBU R128 targets: integrated loudness in LUFS, true peak in dBTP, loudness range in LU.
const (
	TargetLoudness = -16.0
	TargetPeak     = -1.5
	TargetRange    = 11.0
)

// Want is what the user asked for; zero fields leave the choice to the plan.
type Want struct {
	ChunkSeconds   float64
	Loudness       string
	Silence        string
	AllowTruncated bool
	Speakers       bool // a stream for each speaker that has a channel
}

// WantFrom takes the audio's part of a job's parameters.
func WantFrom(p job.Params) Want {
	return Want{
		ChunkSeconds: p.ChunkSeconds, Loudness: p.Loudness, Silence: p.Silence, AllowTruncated: p.AllowTruncated, Speakers: p.Diarize,
	}
}

// Resources are what the machine offers to one job.
type Resources struct {
	Slots       int           // chunks that can be worked on at the same time
	MaxDuration time.Duration // the longest audio that is taken
}

// Plan is what will be done to a file. It is plain data; equal plans give equal chunks of equal files.
type Plan struct {
	ChunkSeconds   float64  `json:"chunk_seconds"`
	Loudness       Loudness `json:"loudness"`
	RemoveSilence  bool     `json:"remove_silence"`
	SilenceDB      float64  `json:"silence_db"`          // dBFS after the gain
	MinSilence     float64  `json:"min_silence_seconds"` // shorter pauses stay inside a chunk
	AllowTruncated bool     `json:"allow_truncated"`
	MaxSeconds     float64  `json:"max_seconds"`
	Speakers       bool     `json:"speakers,omitempty"` // a stream for each speaker that has a channel

	Choices []transcript.Choice `json:"-"`
}

const (
	// maxChunk is the most a chunk may hold; it bounds memory (2 MB a minute).
	maxChunk = 300
	// minChunk is the least: below, cuts cost more words than anything gains.
	minChunk = 5
)

// NewPlan decides what to do with a file. It is a pure function. Errors are of class INPUT: DURATION_LIMIT, BAD_PARAMETER.
func NewPlan(info Info, want Want, res Resources) (Plan, error) {
	p := Plan{
		SilenceDB: -50, MinSilence: 2, AllowTruncated: want.AllowTruncated, MaxSeconds: res.MaxDuration.Seconds(),
		Speakers: want.Speakers,
	}
	if p.MaxSeconds > 0 && info.Exact && info.Duration > p.MaxSeconds {
		return Plan{}, tooLong(info.Duration, p.MaxSeconds)
	}
	if err := p.chunks(want); err != nil {
		return Plan{}, err
	}
	if err := p.level(want); err != nil {
		return Plan{}, err
	}
	if err := p.silence(want); err != nil {
		return Plan{}, err
	}
	p.choose("sample_rate", strconv.Itoa(Rate), fmt.Sprintf("what Whisper hears; %d Hz, %d channels are mixed down before any "+
		"filter runs, since filters at the source's rate cost up to 20 times as much", info.SampleRate, info.Channels))
	p.choose("chunks_in_flight", strconv.Itoa(res.Slots), "what this worker gives to one job; it bounds the memory")
	return p, nil
}

func tooLong(got, limit float64) error {
	return job.Errorf(job.Input, "DURATION_LIMIT",
		"the audio is %.0f s long and this service takes %.0f s: split the file, or raise max_duration", got, limit)
}

func (p *Plan) choose(name, value, reason string) {
	p.Choices = append(p.Choices, transcript.Choice{Name: name, Value: value, Reason: reason})
}

func (p *Plan) chunks(want Want) error {
	switch c := want.ChunkSeconds; {
	case c == 0:
		p.ChunkSeconds = 30
		p.choose("chunk_seconds", "30", "one window of Whisper at any length of file: longer chunks are decoded window by window "+
			"all the same, and shorter pieces of work keep every core busy to the end")
	case c < minChunk || c > maxChunk:
		return job.Errorf(job.Input, "BAD_PARAMETER", "a chunk of %g s is out of range: choose %d to %d s", c, minChunk, maxChunk)
	default:
		p.ChunkSeconds = c
		p.choose("chunk_seconds", strconv.FormatFloat(c, 'g', -1, 64), "asked for")
	}
	return nil
}

func (p *Plan) level(want Want) error {
	switch l := Loudness(want.Loudness); l {
	case "":
		p.Loudness = Linear
		p.choose("loudness", string(Linear), "one constant gain towards -16 LUFS under -1.5 dBTP: it cannot raise noise between "+
			"words, and costs a tenth of the dynamic filter")
	case Linear, Classic, Off:
		p.Loudness = l
		p.choose("loudness", string(l), "asked for")
	default:
		return job.Errorf(job.Input, "BAD_PARAMETER", "loudness %q is not known: choose linear, classic or off", l)
	}
	return nil
}

func (p *Plan) silence(want Want) error {
	switch want.Silence {
	case "":
		p.RemoveSilence = true
		p.choose("silence", "remove", "2 s and more below -50 dBFS are not transcribed, unless a faint voice stands out of them; "+
			"their place on the timeline is kept")
	case "remove", "keep":
		p.RemoveSilence = want.Silence == "remove"
		p.choose("silence", want.Silence, "asked for")
	default:
		return job.Errorf(job.Input, "BAD_PARAMETER", "silence %q is not known: choose remove or keep", want.Silence)
	}
	return nil
}
