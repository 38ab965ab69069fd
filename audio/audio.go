// Package audio turns a media file into chunks of speech whose place in the source is known to the sample: Probe tells what
// the file is, NewPlan decides what to do with it, Prepare decodes it, and Split cuts the stream where nobody speaks.
//
// ffprobe and ffmpeg do the decoding, as child processes that get no standard input, no network and only known formats.
// Silence is never cut out of a file: it is left out of the chunks, and the Timeline keeps its place.
package audio

// Rate is the sample rate in Hz of all audio after preparation: mono, 16-bit, as Whisper wants it. Every position in this
// package that is called a sample is one of these, counted from the start of the source.
const Rate = 16000

// Span is a half-open stretch of the source, in samples.
type Span struct{ Start, End int64 }

// Len is the number of samples in s.
func (s Span) Len() int64 { return s.End - s.Start }

// Seconds converts a sample position to seconds of the source.
func Seconds(sample int64) float64 { return float64(sample) / Rate }

// Chunk is a contiguous stretch of the source that is transcribed as one piece of work. A time t within the chunk is the
// time Seconds(Span.Start)+t of the source: there is no other mapping.
type Chunk struct {
	Channel int // whose it is, from 1; 0 where all channels are mixed
	Index   int // among those of its channel, from 0
	Span    Span
	PCM     []int16 // exactly Span.Len() samples
}
