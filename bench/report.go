package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Total adds up clips: those with known words in Errors, all of them in the seconds.
type Total struct {
	Clips   int     `json:"clips"`
	Failed  int     `json:"failed"`
	Audio   float64 `json:"audio_s"`
	Seconds float64 `json:"seconds"`
	Errors  Errors  `json:"errors"`
	Rate    float64 `json:"wer"` // 1 is as many errors as words
	// Detected counts the clips whose language was found rightly.
	Detected int `json:"language_right"`
}

// CorpusReport is what came of a corpus. The rates are of sums, so that each word weighs the same.
type CorpusReport struct {
	// Speech is the total over clips with speech. Rates of languages counted in characters weigh in as if these were words.
	Speech     Total            `json:"speech"`
	NoSpeech   Total            `json:"no_speech"` // its insertions are words written where nobody speaks
	ByLanguage map[string]Total `json:"by_language"`
	ByCategory map[string]Total `json:"by_category"`
	Clips      []ClipResult     `json:"clips"`
}

func newCorpusReport(results []ClipResult) CorpusReport {
	report := CorpusReport{ByLanguage: map[string]Total{}, ByCategory: map[string]Total{}, Clips: results}
	for _, r := range results {
		if r.Language == NoSpeech {
			report.NoSpeech = report.NoSpeech.add(r)
		} else {
			report.Speech = report.Speech.add(r)
		}
		report.ByLanguage[r.Language] = report.ByLanguage[r.Language].add(r)
		for _, category := range r.Categories {
			report.ByCategory[category] = report.ByCategory[category].add(r)
		}
	}
	return report
}

func (t Total) add(r ClipResult) Total {
	t.Clips++
	t.Audio += r.Duration
	t.Seconds += r.Seconds
	if r.Failure != "" {
		t.Failed++
	}
	if r.Detected == r.Language {
		t.Detected++
	}
	if r.Errors != nil {
		t.Errors = t.Errors.Add(*r.Errors)
		t.Rate = t.Errors.Rate()
	}
	return t
}

// WriteJSON writes the whole report, with the texts of every clip.
func (r CorpusReport) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write corpus report: %w", err)
	}
	return nil
}

// WriteMarkdown writes the totals and the clips, worst first, as tables.
func (r CorpusReport) WriteMarkdown(w io.Writer) error {
	p := printer{w: w}
	p.head("language", "clips", "language right", "words", "errors", "substituted", "deleted", "inserted", "WER", "times real time")
	for _, language := range slices.Sorted(maps.Keys(r.ByLanguage)) {
		p.total(language, r.ByLanguage[language])
	}
	if r.Speech.Clips > 0 && len(r.ByLanguage) > 1 {
		p.total("**all speech**", r.Speech)
	}
	p.line("")
	p.head("category", "clips", "language right", "words", "errors", "substituted", "deleted", "inserted", "WER", "times real time")
	for _, category := range slices.Sorted(maps.Keys(r.ByCategory)) {
		p.total(category, r.ByCategory[category])
	}
	p.line("")
	p.head("clip", "language", "detected", "words", "errors", "WER", "failure")
	worst := slices.SortedStableFunc(slices.Values(r.Clips), func(a, b ClipResult) int {
		return cmp.Compare(b.Errors.orNone().Total(), a.Errors.orNone().Total())
	})
	for _, c := range worst {
		counts, rate := fmt.Sprintf("%d | %d", c.Errors.orNone().Words, c.Errors.orNone().Total()), percentage(c.Errors)
		if c.Errors == nil {
			counts = "– | –"
		}
		p.line("| %s | %s | %s | %s | %s | %s |", c.File, c.Language, c.Detected, counts, rate, c.Failure)
	}
	return p.err
}

func (e *Errors) orNone() Errors {
	if e == nil {
		return Errors{}
	}
	return *e
}

// percentage is the rate of e, and a dash where there are no words to have a rate of.
func percentage(e *Errors) string {
	if e == nil || e.Words == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f %%", 100*e.Rate())
}

// A printer keeps the first error of a row of writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) head(columns ...string) {
	names, rule := "|", "|"
	for _, c := range columns {
		names += " " + c + " |"
		rule += " --- |"
	}
	p.line("%s\n%s", names, rule)
}

func (p *printer) total(name string, t Total) {
	clips := fmt.Sprint(t.Clips)
	if t.Failed > 0 {
		clips += fmt.Sprintf(" (%d failed)", t.Failed)
	}
	speed := "–"
	if t.Seconds > 0 {
		speed = fmt.Sprintf("%.1f", t.Audio/t.Seconds)
	}
	e := t.Errors
	p.line("| %s | %s | %d | %d | %d | %d | %d | %d | %s | %s |",
		name, clips, t.Detected, e.Words, e.Total(), e.Subs, e.Dels, e.Ins, percentage(&e), speed)
}
