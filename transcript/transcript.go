// Package transcript holds the result of a job: words, segments and the transcript with its timings, how parts are merged
// to a whole, and the writers for each output format. It is a leaf: it imports nothing of ours.
//
// All times are seconds of the original file. Values are not safe for concurrent mutation.
package transcript

// Word is one spoken word with its place in the source.
type Word struct {
	Start       float64 `json:"start"`
	End         float64 `json:"end"`
	Text        string  `json:"text"` // without surrounding white space
	Probability float64 `json:"probability"`
}

// Segment is a stretch of speech as the model cut it, usually a sentence or a clause.
type Segment struct {
	ID    int     `json:"id"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Text  string  `json:"text"` // without surrounding white space
	// AvgLogprob is the mean natural-log probability of the segment's tokens.
	AvgLogprob float64 `json:"avg_logprob"`
	// NoSpeechProb is the model's probability, in 0..1, that the window holds no speech.
	NoSpeechProb float64 `json:"no_speech_prob"`
	// CompressionRatio is the length of the text over its zlib-compressed length: above 2.4 it is likely a loop.
	CompressionRatio float64 `json:"compression_ratio"`
	Speaker          string  `json:"speaker,omitempty"`
	// Edited says that a person has changed the text.
	Edited bool   `json:"edited,omitempty"`
	Words  []Word `json:"words,omitempty"`
}

// Choice is a parameter of the plan with the reason it was chosen.
type Choice struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Reason string `json:"reason"`
}

// Timings are seconds spent in each stage. Stages overlap, so they do not add up to Total.
type Timings struct {
	QueueWait  float64 `json:"queue_wait"`
	Probe      float64 `json:"probe"`
	Plan       float64 `json:"plan"`
	Prepare    float64 `json:"prepare"`
	Split      float64 `json:"split"`
	ModelLoad  float64 `json:"model_load"`
	Transcribe float64 `json:"transcribe"`
	Diarize    float64 `json:"diarize,omitempty"`
	Merge      float64 `json:"merge"`
	Store      float64 `json:"store"`
	Total      float64 `json:"total_duration"`
}

// Transcript is the result of a job.
type Transcript struct {
	Text string `json:"text"`
	// Language is an ISO 639-1 code; LanguageProb its probability in 0..1, 1 where the user named it.
	Language     string    `json:"language"`
	LanguageProb float64   `json:"language_probability"`
	Duration     float64   `json:"duration"` // seconds that decoded, not what the header claims
	Segments     []Segment `json:"segments"`
	Model        string    `json:"model"`
	Device       string    `json:"device"`
	Task         string    `json:"task"`
	Timings      Timings   `json:"timings"`
	ColdStart    bool      `json:"cold_start"`   // whether this job waited for its model to load
	Chunks       int       `json:"chunks_count"` // chunks the audio was split into
	ChunksReused int       `json:"chunks_reused"`
	// ChunksElsewhere is how many of them other machines decoded than the one that had the job.
	ChunksElsewhere int      `json:"chunks_elsewhere,omitempty"`
	Plan            []Choice `json:"plan"`
	Warnings        []string `json:"warnings,omitempty"`
	// Incomplete says that something that was asked for is not there, such as who speaks when, and a later try may have it. Warnings
	// tell what and why.
	Incomplete bool `json:"incomplete,omitempty"`
	// Waveform is for players to draw.
	Waveform *Waveform `json:"waveform,omitempty"`
}

// Waveform is the course of a recording's level. Peaks[i] is the highest amplitude from i·Step to (i+1)·Step seconds, where 255
// is full scale, after the recording was brought to its level; JSON has them as base64.
type Waveform struct {
	Step  float64 `json:"step"`
	Peaks []byte  `json:"peaks"`
}
