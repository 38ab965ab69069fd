package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"steno/bench"
	"steno/transcript"
)

var update = flag.Bool("update", false, "write golden files anew")

const manifest = `[
 {"file": "a.wav", "language": "en", "duration_s": 10, "tier": "core", "categories": ["read", "noisy"],
  "reference": "In 1984 it's 5 dollars", "reference_spoken": "In nineteen eighty four it is five dollars"},
 {"file": "sub/b.mp3", "language": "en", "duration_s": 20, "tier": "extra", "categories": ["read"],
  "reference": "buckle my two new shoes", "reference_spoken": null},
 {"file": "ja.ogg", "language": "ja", "duration_s": 5, "tier": "core", "categories": ["read"], "reference": "今日は晴れ。"},
 {"file": "meeting.wav", "language": "en", "duration_s": 30, "tier": "extra", "categories": ["no-transcript"], "reference": null},
 {"file": "music.wav", "language": null, "duration_s": 60, "tier": "core", "categories": ["music"], "reference": ""},
 {"file": "silence.wav", "language": null, "duration_s": 20, "tier": "extra", "categories": ["silence"], "reference": ""}
]`

// script answers for each file of the manifest above; a file that is missing fails.
var script = map[string]transcript.Transcript{
	"a.wav":       {Language: "en", Text: "In 1984 it is five dollars."},
	"ja.ogg":      {Language: "ja", Text: "今日は 雨れ"},
	"meeting.wav": {Language: "en", Text: "Whatever."},
	"music.wav":   {Language: "en", Text: "Thank you."},
	"silence.wav": {},
}

func corpus(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// scripted is a Transcriber that answers from the script and notes what it was asked.
func scripted(t *testing.T, dir string, asked map[string]string) bench.Transcriber {
	return func(_ context.Context, path, lang string) (transcript.Transcript, error) {
		file, err := filepath.Rel(dir, path)
		if err != nil {
			t.Errorf("asked for %s, which is not in the corpus", path)
		}
		asked[filepath.ToSlash(file)] = lang
		answer, ok := script[file]
		if !ok {
			return transcript.Transcript{}, errors.New("no such device")
		}
		return answer, nil
	}
}

func TestRunCorpus(t *testing.T) {
	dir, asked := corpus(t), map[string]string{}
	var done []string
	opts := bench.CorpusOptions{Done: func(r bench.ClipResult) { done = append(done, r.File) }}
	report, err := bench.RunCorpus(t.Context(), dir, opts, scripted(t, dir, asked))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a.wav", "sub/b.mp3", "ja.ogg", "meeting.wav", "music.wav", "silence.wav"}; !slices.Equal(done, want) {
		t.Errorf("clips done: %q, want %q", done, want)
	}
	for file, want := range map[string]string{"a.wav": "en", "ja.ogg": "ja", "music.wav": "auto", "silence.wav": "auto"} {
		if asked[file] != want {
			t.Errorf("%s was transcribed with language %q, want %q", file, asked[file], want)
		}
	}
	for i := range report.Clips {
		report.Clips[i].Seconds = 0
	}
	for _, tt := range []struct {
		what      string
		got, want bench.Errors
	}{
		{"English: the failed clip loses all its words", report.ByLanguage["en"].Errors, bench.Errors{Dels: 5, Words: 10}},
		{"Japanese: counted in characters", report.ByLanguage["ja"].Errors, bench.Errors{Subs: 1, Words: 5}},
		{"read", report.ByCategory["read"].Errors, bench.Errors{Subs: 1, Dels: 5, Words: 15}},
		{"noisy", report.ByCategory["noisy"].Errors, bench.Errors{Words: 5}},
		{"no speech", report.NoSpeech.Errors, bench.Errors{Ins: 2}},
		{"all speech", report.Speech.Errors, bench.Errors{Subs: 1, Dels: 5, Words: 15}},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, tt.got, tt.want)
		}
	}
	if got := report.ByLanguage["en"]; got.Clips != 3 || got.Failed != 1 || got.Audio != 60 || got.Detected != 2 {
		t.Errorf("English total: %+v", got)
	}
	if got := report.Clips[3].Errors; got != nil {
		t.Errorf("a clip without a reference has the errors %v", got)
	}
	if got := report.Clips[1].Failure; got != "no such device" {
		t.Errorf("failure of b.mp3 is %q", got)
	}
}

func TestRunCorpusFilters(t *testing.T) {
	dir := corpus(t)
	for _, tt := range []struct {
		name   string
		filter bench.Filter
		want   []string
	}{
		{"language", bench.Filter{Languages: []string{"ja"}}, []string{"ja.ogg"}},
		{"two languages", bench.Filter{Languages: []string{"ja", "none"}}, []string{"ja.ogg", "music.wav", "silence.wav"}},
		{"tier", bench.Filter{Tiers: []string{"core"}}, []string{"a.wav", "ja.ogg", "music.wav"}},
		{"category", bench.Filter{Categories: []string{"noisy", "music"}}, []string{"a.wav", "music.wav"}},
		{"file", bench.Filter{Files: []string{"sub/b.mp3"}}, []string{"sub/b.mp3"}},
		{"all must hold", bench.Filter{Languages: []string{"en"}, Tiers: []string{"core"}}, []string{"a.wav"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := map[string]string{}
			_, err := bench.RunCorpus(t.Context(), dir, bench.CorpusOptions{Filter: tt.filter, Auto: true}, scripted(t, dir, asked))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range tt.want {
				if asked[file] != "auto" {
					t.Errorf("%s was asked for with %q, want auto", file, asked[file])
				}
			}
			if len(asked) != len(tt.want) {
				t.Errorf("asked for %v, want %v", asked, tt.want)
			}
		})
	}
	_, err := bench.RunCorpus(t.Context(), dir, bench.CorpusOptions{Filter: bench.Filter{Languages: []string{"xx"}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "no clip matches") {
		t.Errorf("with nothing to do: %v", err)
	}
}

func TestRunCorpusStops(t *testing.T) {
	dir := corpus(t)
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	_, err := bench.RunCorpus(ctx, dir, bench.CorpusOptions{}, func(ctx context.Context, _, _ string) (transcript.Transcript, error) {
		calls++
		cancel(stop)
		return transcript.Transcript{}, ctx.Err()
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("after %d calls: %v; want the cause after one", calls, err)
	}
}

func TestReadManifest(t *testing.T) {
	for _, tt := range []struct{ name, json, want string }{
		{"broken", `[{`, "unexpected end"},
		{"a path out of the folder", `[{"file": "../x.wav"}]`, "not within the folder"},
		{"an absolute path", `[{"file": "/x.wav"}]`, "not within the folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(tt.json), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := bench.ReadManifest(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := bench.ReadManifest(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a manifest: %v", err)
	}
}

func TestWriteReport(t *testing.T) {
	dir := corpus(t)
	report, err := bench.RunCorpus(t.Context(), dir, bench.CorpusOptions{}, scripted(t, dir, map[string]string{}))
	if err != nil {
		t.Fatal(err)
	}
	fixTimes(&report)

	var markdown, asJSON bytes.Buffer
	if err := errors.Join(report.WriteMarkdown(&markdown), report.WriteJSON(&asJSON)); err != nil {
		t.Fatal(err)
	}
	sameAsFile(t, "report.md", markdown.String())
	var back bench.CorpusReport
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Speech != report.Speech || len(back.Clips) != len(report.Clips) {
		t.Errorf("JSON reads back as %+v", back.Speech)
	}
}

// fixTimes sets the times that were measured, so that the report can be compared.
func fixTimes(r *bench.CorpusReport) {
	r.Speech.Seconds, r.NoSpeech.Seconds = 10, 0
	for _, totals := range []map[string]bench.Total{r.ByLanguage, r.ByCategory} {
		for name, total := range totals {
			total.Seconds = total.Audio / 8
			totals[name] = total
		}
	}
}
