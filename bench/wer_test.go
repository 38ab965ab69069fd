package bench_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"steno/bench"
)

func TestWER(t *testing.T) {
	for _, tt := range []struct {
		name, ref, hyp string
		want           bench.Errors
	}{
		{"equal", "a b c", "a b c", bench.Errors{Words: 3}},
		{"substituted", "a b c", "a x c", bench.Errors{Subs: 1, Words: 3}},
		{"deleted at the end", "a b c", "a b", bench.Errors{Dels: 1, Words: 3}},
		{"deleted at the start", "a b c", "b c", bench.Errors{Dels: 1, Words: 3}},
		{"inserted", "a b c", "a b b c", bench.Errors{Ins: 1, Words: 3}},
		{"one of each", "a b c d e f", "a x c e f g", bench.Errors{Subs: 1, Dels: 1, Ins: 1, Words: 6}},
		{"nothing written", "a b", "", bench.Errors{Dels: 2, Words: 2}},
		{"nothing said", "", "thank you", bench.Errors{Ins: 2}},
		{"neither", "", "", bench.Errors{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := bench.WER(strings.Fields(tt.ref), strings.Fields(tt.hyp)); got != tt.want {
				t.Errorf("WER(%q, %q) = %v, want %v", tt.ref, tt.hyp, got, tt.want)
			}
		})
	}
}

func TestRate(t *testing.T) {
	sum := bench.Errors{Subs: 1, Words: 1}.Add(bench.Errors{Dels: 1, Ins: 2, Words: 9})
	if got, want := sum.Rate(), 0.4; got != want {
		t.Errorf("rate of %v = %v, want %v", sum, got, want)
	}
	if got := (bench.Errors{Ins: 2}).Rate(); got != 2 {
		t.Errorf("rate of two insertions where nothing was said = %v, want 2", got)
	}
	if got, want := sum.String(), "40.00 % (4 of 10: 1 substituted, 1 deleted, 2 inserted)"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

// words draws texts of few different words, so that repetitions and crossings are common.
func words(t *rapid.T, label string) []string {
	return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 12).Draw(t, label)
}

// distance is the definition of the edit distance, with nothing clever.
func distance(ref, hyp []string, memo map[[2]int]int) int {
	if len(ref) == 0 || len(hyp) == 0 {
		return len(ref) + len(hyp)
	}
	key := [2]int{len(ref), len(hyp)}
	if d, ok := memo[key]; ok {
		return d
	}
	d := distance(ref[1:], hyp[1:], memo)
	if ref[0] != hyp[0] {
		d = 1 + min(d, distance(ref[1:], hyp, memo), distance(ref, hyp[1:], memo))
	}
	memo[key] = d
	return d
}

func TestAlignProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, hyp := words(t, "ref"), words(t, "hyp")
		edits := bench.Align(ref, hyp)

		var fromRef, fromHyp []string
		changes := 0
		for _, e := range edits {
			if e.Op != bench.Inserted {
				fromRef = append(fromRef, ref[e.Ref])
			}
			if e.Op != bench.Deleted {
				fromHyp = append(fromHyp, hyp[e.Hyp])
			}
			if e.Op != bench.Equal {
				changes++
			} else if ref[e.Ref] != hyp[e.Hyp] {
				t.Fatalf("%q and %q are called equal", ref[e.Ref], hyp[e.Hyp])
			}
		}
		if !slices.Equal(fromRef, ref) || !slices.Equal(fromHyp, hyp) {
			t.Fatalf("alignment spells %q and %q, not %q and %q", fromRef, fromHyp, ref, hyp)
		}
		if want := distance(ref, hyp, map[[2]int]int{}); changes != want {
			t.Fatalf("%d edits between %q and %q, want %d", changes, ref, hyp, want)
		}
		there, back := bench.WER(ref, hyp), bench.WER(hyp, ref)
		if there.Total() != back.Total() || there.Ins-there.Dels != len(hyp)-len(ref) {
			t.Fatalf("counts do not agree: %v there, %v back", there, back)
		}
	})
}

func TestCER(t *testing.T) {
	for _, tt := range []struct {
		name, ref, hyp string
		want           bench.Errors
	}{
		{"equal", "ab c", "ab c", bench.Errors{Words: 3}},
		{"a letter", "the cat sat", "the bat sat", bench.Errors{Subs: 1, Words: 9}},
		{"a word split in two costs nothing", "a part of it", "apart of it", bench.Errors{Words: 9}},
		{"a word too many", "we go", "we did go", bench.Errors{Ins: 3, Words: 4}},
		{"a word too few", "we did go", "we go", bench.Errors{Dels: 3, Words: 7}},
		{"characters, not bytes", "größe", "grüsse", bench.Errors{Subs: 2, Ins: 1, Words: 5}},
		{"nothing written", "ab", "", bench.Errors{Dels: 2, Words: 2}},
		{"neither", "", "", bench.Errors{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := bench.CER(strings.Fields(tt.ref), strings.Fields(tt.hyp)); got != tt.want {
				t.Errorf("CER(%q, %q) = %v, want %v", tt.ref, tt.hyp, got, tt.want)
			}
		})
	}
}

// Aligning between equal words may find more errors than aligning the whole, never fewer, and counts every character.
func TestCERProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) []string {
			return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "abc", "cab", "b"}), 0, 8).Draw(t, label)
		}
		ref, hyp := text("ref"), text("hyp")
		whole := bench.WER(strings.Split(strings.Join(ref, ""), ""), strings.Split(strings.Join(hyp, ""), ""))
		got := bench.CER(ref, hyp)
		if got.Words != whole.Words || got.Ins-got.Dels != whole.Ins-whole.Dels || got.Total() < whole.Total() {
			t.Fatalf("CER of %q and %q is %v, of the whole %v", ref, hyp, got, whole)
		}
	})
}
