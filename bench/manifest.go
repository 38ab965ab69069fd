package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Clip is a recording of a corpus: a row of its manifest.json.
type Clip struct {
	File       string   `json:"file"`       // relative to the corpus folder
	Language   string   `json:"language"`   // ISO 639-1; empty where nobody speaks
	Duration   float64  `json:"duration_s"` // seconds
	Categories []string `json:"categories"`
	Tier       string   `json:"tier"`
	// Reference is the text verbatim: nil where the words are unknown, empty where nobody speaks.
	Reference *string `json:"reference"`
	// Spoken is the same text as it is read aloud, where that differs.
	Spoken *string `json:"reference_spoken"`
	// Turns are who speaks when, where that is known.
	Turns []Turn `json:"turns"`
}

// Turn is a stretch of a clip in which one speaker speaks, in seconds.
type Turn struct {
	Start   float64 `json:"start"`
	End     float64 `json:"end"`
	Speaker string  `json:"speaker"`
	Channel int     `json:"channel"` // from 0
	Text    string  `json:"text"`
}

// Text is what is said in c; known is false where nobody wrote it down.
func (c Clip) Text() (text string, known bool) {
	switch {
	case c.Reference == nil:
		return "", false
	case c.Spoken != nil:
		return *c.Spoken, true
	}
	return *c.Reference, true
}

// ReadManifest reads the clips of the corpus in the folder dir.
func ReadManifest(dir string) ([]Clip, error) {
	path := filepath.Join(dir, "manifest.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read corpus manifest: %w", err)
	}
	var clips []Clip
	if err := json.Unmarshal(data, &clips); err != nil {
		return nil, fmt.Errorf("read corpus manifest %s: %w", path, err)
	}
	for _, c := range clips {
		if !filepath.IsLocal(c.File) {
			return nil, fmt.Errorf("read corpus manifest %s: file %q is not within the folder", path, c.File)
		}
	}
	return clips, nil
}

// Filter chooses clips of a corpus. An empty list chooses all.
type Filter struct {
	Languages  []string // ISO 639-1; "none" for clips without speech
	Categories []string // a clip with any of them
	Tiers      []string // "core" or "extra"
	Files      []string
}

func (f Filter) match(c Clip) bool {
	language := c.Language
	if language == "" {
		language = NoSpeech
	}
	chosen := func(list []string, have ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(have, func(s string) bool { return slices.Contains(list, s) })
	}
	return chosen(f.Languages, language) && chosen(f.Tiers, c.Tier) && chosen(f.Files, c.File) &&
		chosen(f.Categories, c.Categories...)
}
