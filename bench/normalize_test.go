package bench_test

import (
	_ "embed"
	"strings"
	"testing"
	"unicode"

	"steno/bench"
)

// golden holds texts and what Whisper's own normalisers make of them: language, text and units, parted by tabs. The expected
// units were written by whisper-normalizer 0.1.15, as the docs say; they are not ours to update.
//
//go:embed testdata/normalize.tsv
var golden string

func TestNormalizeAgreesWithWhisper(t *testing.T) {
	rows := 0
	for line := range strings.Lines(golden) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 3 {
			t.Fatalf("row %q has %d fields, want 3", line, len(fields))
		}
		rows++
		if got := strings.Join(bench.Normalize(fields[0], fields[1]), " "); got != fields[2] {
			t.Errorf("Normalize(%s, %q)\n got %q\nwant %q", fields[0], fields[1], got, fields[2])
		}
	}
	if rows < 70 {
		t.Errorf("%d rows in the table, want all of them", rows)
	}
}

func TestNormalizeMakesAlike(t *testing.T) {
	for _, tt := range []struct{ lang, a, b string }{
		{"en", "It's twenty-five dollars.", "it is $25"},
		{"en", "The archaeology of colour", "the archeology of color"},
		{"en", "Mister Smith", "Mr. Smith"},
		{"ja", "今日は いい天気", "今日はいい天気。"},
		{"ko", "안녕 하세요", "안녕하세요!"},
		{"fr", "Où est-il ?", "où est il"},
	} {
		a, b := bench.Normalize(tt.lang, tt.a), bench.Normalize(tt.lang, tt.b)
		if e := bench.WER(a, b); e.Total() != 0 {
			t.Errorf("%s: %q and %q differ: %q, %q", tt.lang, tt.a, tt.b, a, b)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for line := range strings.Lines(golden) {
		fields := strings.Split(line, "\t")
		f.Add(fields[0], fields[1])
	}
	f.Add("en", "\xff point double ¢ 9 hundredth")
	f.Fuzz(func(t *testing.T, lang, text string) {
		for _, unit := range bench.Normalize(lang, text) {
			if unit == "" || strings.ContainsFunc(unit, unicode.IsSpace) {
				t.Errorf("Normalize(%q, %q) has the unit %q", lang, text, unit)
			}
		}
	})
}
