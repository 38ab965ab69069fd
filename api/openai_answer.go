package api

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"steno/transcript"
)

// usage is what a request is billed by elsewhere; here it just says how long the audio is.
type usage struct {
	Type    string  `json:"type" enum:"duration"`
	Seconds float64 `json:"seconds"`
}

func usageOf(t transcript.Transcript) usage { return usage{"duration", math.Ceil(t.Duration)} }

// diarizedJSON is the response_format that asks for speakers.
const diarizedJSON = "diarized_json"

// verboseBody is response_format verbose_json; json is its text and usage alone, and diarized_json has segments of their own.
type verboseBody struct {
	Text     string           `json:"text"`
	Usage    usage            `json:"usage"`
	Task     string           `json:"task,omitempty"`
	Language string           `json:"language,omitempty" doc:"its English name" example:"english"`
	Duration float64          `json:"duration,omitempty"`
	Segments []verboseSegment `json:"segments,omitzero"`
	Words    []verboseWord    `json:"words,omitzero"`
}

type verboseSegment struct {
	ID               int     `json:"id"`
	Seek             int     `json:"seek"`
	Start            float64 `json:"start"`
	End              float64 `json:"end"`
	Text             string  `json:"text"`
	Tokens           []int   `json:"tokens" nullable:"false" doc:"always empty"`
	Temperature      float64 `json:"temperature"`
	AvgLogprob       float64 `json:"avg_logprob"`
	CompressionRatio float64 `json:"compression_ratio"`
	NoSpeechProb     float64 `json:"no_speech_prob"`
}

type verboseWord struct {
	Word  string  `json:"word"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
}

// diarizedBody is response_format diarized_json.
type diarizedBody struct {
	Text     string            `json:"text"`
	Usage    usage             `json:"usage"`
	Task     string            `json:"task"`
	Duration float64           `json:"duration"`
	Segments []diarizedSegment `json:"segments"`
}

type diarizedSegment struct {
	Type    string  `json:"type"`
	ID      string  `json:"id"`
	Start   float64 `json:"start"`
	End     float64 `json:"end"`
	Text    string  `json:"text"`
	Speaker string  `json:"speaker"` // "" where nobody could be told apart
}

// openaiAnswer writes a transcript in the form that was asked for.
func openaiAnswer(w http.ResponseWriter, want asked, t transcript.Transcript) error {
	switch want.format {
	case "json":
		return writeJSON(w, http.StatusOK, verboseBody{Text: t.Text, Usage: usageOf(t)})
	case "verbose_json":
		return writeJSON(w, http.StatusOK, verbose(t, want.words))
	case diarizedJSON:
		return writeJSON(w, http.StatusOK, diarized(t))
	case "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(t.Text + "\n")) // an error means that the client has gone
		return nil
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return transcript.Write(w, formats[want.format], t, transcript.Options{})
}

func verbose(t transcript.Transcript, words bool) verboseBody {
	b := verboseBody{
		Text: t.Text, Usage: usageOf(t), Task: t.Task, Language: languageName(t.Language), Duration: t.Duration,
		Segments: []verboseSegment{}, // also where nobody speaks: clients walk through it
	}
	if words {
		b.Words = []verboseWord{}
	}
	for _, s := range t.Segments {
		b.Segments = append(b.Segments, verboseSegment{
			ID: s.ID, Seek: int(s.Start * 100), Start: s.Start, End: s.End, Text: s.Text, Tokens: []int{},
			AvgLogprob: s.AvgLogprob, CompressionRatio: s.CompressionRatio, NoSpeechProb: s.NoSpeechProb,
		})
		for _, word := range s.Words {
			if words {
				b.Words = append(b.Words, verboseWord{word.Text, word.Start, word.End})
			}
		}
	}
	return b
}

func diarized(t transcript.Transcript) diarizedBody {
	b := diarizedBody{Text: t.Text, Usage: usageOf(t), Task: t.Task, Duration: t.Duration, Segments: []diarizedSegment{}}
	for _, s := range t.Segments {
		b.Segments = append(b.Segments, diarizedSegment{
			Type: "transcript.text.segment", ID: fmt.Sprintf("seg_%d", s.ID), Start: s.Start, End: s.End, Text: s.Text, Speaker: s.Speaker,
		})
	}
	return b
}

// otherNames are languages that Whisper, and so OpenAI's API, calls otherwise than the Unicode Consortium does.
var otherNames = map[string]string{"bn": "bengali", "my": "myanmar", "nn": "nynorsk", "no": "norwegian", "tl": "tagalog"}

// languageName is the English name of a code, in lower case as OpenAI's API has it.
func languageName(code string) string {
	if name, known := otherNames[code]; known {
		return name
	}
	tag, err := language.Parse(code)
	if err != nil {
		return code
	}
	return strings.ToLower(display.English.Languages().Name(tag))
}

type modelBody struct {
	ID      string `json:"id"`
	Object  string `json:"object" enum:"model"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type modelList struct {
	Object string      `json:"object" enum:"list"`
	Data   []modelBody `json:"data" nullable:"false"`
}

func modelOf(name string) modelBody { return modelBody{ID: name, Object: "model", OwnedBy: "steno"} }

// models lists the names that tasks may ask for.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) error {
	list := modelList{Object: "list", Data: []modelBody{}}
	for _, name := range s.cfg.Models() {
		list.Data = append(list.Data, modelOf(name))
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) model(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("model")
	if !slices.Contains(s.cfg.Models(), name) {
		return newProblem(http.StatusNotFound, "model_not_found", "there is no such model: see GET /v1/models")
	}
	return writeJSON(w, http.StatusOK, modelOf(name))
}
