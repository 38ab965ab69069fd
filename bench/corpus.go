package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"steno/transcript"
)

// NoSpeech is the language under which clips that hold no speech are counted.
const NoSpeech = "none"

// Transcriber writes down what is said in the file at path. lang is an ISO 639-1 code or "auto".
type Transcriber func(ctx context.Context, path, lang string) (transcript.Transcript, error)

// CorpusOptions says how RunCorpus goes over a corpus. The zero value takes every clip and names its language.
type CorpusOptions struct {
	Filter
	// Auto leaves the language of every clip to be detected. Default: the language of the manifest is named, and only clips
	// without speech are left to detection.
	Auto bool
	// Done, where set, is called after each clip, in order.
	Done func(ClipResult)
}

// ClipResult is what came of one clip.
type ClipResult struct {
	File       string   `json:"file"`
	Language   string   `json:"language"` // of the manifest, or NoSpeech
	Detected   string   `json:"detected"` // what the transcript says
	Tier       string   `json:"tier"`
	Categories []string `json:"categories"`
	Duration   float64  `json:"duration_s"`
	Seconds    float64  `json:"seconds"` // time that the transcription took
	// Errors is nil where the words are unknown. A clip that failed counts as written with no word.
	Errors     *Errors `json:"errors"`
	Reference  string  `json:"reference"`
	Hypothesis string  `json:"hypothesis"`
	Failure    string  `json:"failure,omitempty"`
}

// RunCorpus transcribes the clips of the corpus in dir that opts choose, one after the other in the order of the manifest,
// and compares each with its reference. A clip that fails is counted and the run goes on; the end of ctx ends it with an error.
func RunCorpus(ctx context.Context, dir string, opts CorpusOptions, transcribe Transcriber) (CorpusReport, error) {
	clips, err := ReadManifest(dir)
	if err != nil {
		return CorpusReport{}, err
	}
	var results []ClipResult
	for _, clip := range clips {
		if !opts.match(clip) {
			continue
		}
		result, err := runClip(ctx, dir, clip, opts.Auto, transcribe)
		if err != nil {
			return CorpusReport{}, err
		}
		if opts.Done != nil {
			opts.Done(result)
		}
		results = append(results, result)
	}
	if len(results) == 0 {
		return CorpusReport{}, errors.New("run corpus: no clip matches the filter")
	}
	return newCorpusReport(results), nil
}

func runClip(ctx context.Context, dir string, clip Clip, auto bool, transcribe Transcriber) (ClipResult, error) {
	r := ClipResult{
		File: clip.File, Language: clip.Language, Tier: clip.Tier, Categories: clip.Categories, Duration: clip.Duration,
	}
	lang := clip.Language
	if lang == "" {
		r.Language = NoSpeech
	}
	if lang == "" || auto {
		lang = "auto"
	}
	begin := time.Now()
	t, err := transcribe(ctx, filepath.Join(dir, filepath.FromSlash(clip.File)), lang)
	r.Seconds = time.Since(begin).Seconds()
	if ctx.Err() != nil {
		return r, fmt.Errorf("transcribe clip %s: %w", clip.File, context.Cause(ctx))
	}
	if err != nil {
		r.Failure = err.Error()
	} else {
		r.Detected, r.Hypothesis = t.Language, t.Text
	}
	text, known := clip.Text()
	if !known {
		return r, nil
	}
	r.Reference = text
	rules := r.Language
	if rules == NoSpeech {
		rules = r.Detected
	}
	counts := WER(Normalize(rules, text), Normalize(rules, r.Hypothesis))
	r.Errors = &counts
	return r, nil
}
