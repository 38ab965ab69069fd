package transcript

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Turn is a stretch of the recording, in seconds, in which one speaker speaks. Turns of different speakers may overlap.
type Turn struct {
	Start   float64 `json:"start"`
	End     float64 `json:"end"`
	Speaker int     `json:"speaker"` // from 0
}

// SpeakerName is what the n-th speaker, from 1, is called until somebody names them.
func SpeakerName(n int) string { return fmt.Sprintf("Speaker %d", n) }

// What it costs to let another speaker go on, in seconds of speech in the wrong mouth: turns are known to a tenth of a second or
// two, and people mostly end their sentences.
const (
	changeAtPause    = 0.1 // after a sentence, or where it is silent for longPause
	changeAtClause   = 0.3
	changeWithin     = 0.6
	longPause        = 0.5
	farthest         = 2.0 // seconds from a turn from where on it does not matter how far it is
	strayCost        = 0.5 // for each second that a word is away from a speaker's turn
	shortestDuration = 0.05
)

// Speak gives segments their speakers, and takes those apart in which the speaker changes, between words. Of all ways to give
// each word one speaker it takes the one with the least speech outside that speaker's turns, where a change of speakers within a
// sentence costs as much as 0.6 s of that. Speakers are called by SpeakerName in the order in which they say something. Segments
// whose words have no times, or do not say what the text says, keep together. Without turns the segments stay as they are.
//
// It takes O(words · speakers²) time.
func Speak(segs []Segment, turns []Turn) []Segment {
	if len(turns) == 0 || len(segs) == 0 {
		return segs
	}
	said := utterances(segs)
	who := attribute(said, bySpeaker(turns))
	var out []Segment
	names := map[int]string{}
	for i, u := range said {
		if names[who[i]] == "" {
			names[who[i]] = SpeakerName(len(names) + 1)
		}
		name := names[who[i]]
		if i > 0 && u.segment == said[i-1].segment && who[i] == who[i-1] {
			continue // of the same piece
		}
		end := i + 1
		for end < len(said) && said[end].segment == u.segment && who[end] == who[i] {
			end++
		}
		s := cutOut(segs[u.segment], u.word, said[end-1].word+1)
		s.ID, s.Speaker = len(out), name
		out = append(out, s)
	}
	return out
}

// utterance is a word, or a whole segment that cannot be taken apart.
type utterance struct {
	segment, word int // word is -1 for the whole
	start, end    float64
	change        float64 // the cost of another speaker after it
}

func utterances(segs []Segment) []utterance {
	var all []utterance
	for i, s := range segs {
		if len(s.Words) == 0 || letters(s.Words...) != letters(Word{Text: s.Text}) {
			all = append(all, utterance{i, -1, s.Start, s.End, changeAtPause})
			continue
		}
		for k, w := range s.Words {
			u := utterance{i, k, w.Start, w.End, changeWithin}
			switch {
			case endsSentence(w.Text), k+1 < len(s.Words) && s.Words[k+1].Start-w.End >= longPause:
				u.change = changeAtPause
			case endsClause(w.Text), k+1 == len(s.Words):
				u.change = changeAtClause
			}
			all = append(all, u)
		}
	}
	return all
}

// bySpeaker sorts turns to their speakers, and joins those of one speaker that overlap.
func bySpeaker(turns []Turn) [][]stretch {
	var all [][]stretch
	turns = slices.Clone(turns)
	sort.SliceStable(turns, func(i, j int) bool { return turns[i].Start < turns[j].Start })
	for _, t := range turns {
		for len(all) <= t.Speaker {
			all = append(all, nil)
		}
		of := &all[t.Speaker]
		if n := len(*of); n > 0 && t.Start <= (*of)[n-1].end {
			(*of)[n-1].end = max((*of)[n-1].end, t.End)
			continue
		}
		*of = append(*of, stretch{start: t.Start, end: t.End})
	}
	return all
}

// outside is what it costs to give a stretch of time to whoever has the turns: the seconds outside them, and more the farther off
// they are.
func outside(from, to float64, turns []stretch) float64 {
	to = max(to, from+shortestDuration)
	first := sort.Search(len(turns), func(i int) bool { return turns[i].end > from })
	covered, away := 0.0, farthest
	for _, t := range turns[max(0, first-1):] {
		if t.start >= to+farthest {
			break
		}
		covered += max(0, min(to, t.end)-max(from, t.start))
		away = min(away, max(0, t.start-to, from-t.end))
	}
	return to - from - covered + strayCost*away
}

// attribute finds the speakers of utterances at the least cost (Viterbi's algorithm).
func attribute(said []utterance, speakers [][]stretch) []int {
	n := len(speakers)
	cost, next := make([]float64, n), make([]float64, n)
	from := make([][]int, len(said))
	for i, u := range said {
		best := 0
		for s := range cost {
			if cost[s] < cost[best] {
				best = s
			}
		}
		from[i] = make([]int, n)
		for s := range next {
			from[i][s], next[s] = s, cost[s]
			if i > 0 && cost[best]+said[i-1].change < cost[s] {
				from[i][s], next[s] = best, cost[best]+said[i-1].change
			}
			next[s] += outside(u.start, u.end, speakers[s])
		}
		cost, next = next, cost
	}
	at, least := 0, math.Inf(1)
	for s, c := range cost {
		if c < least {
			at, least = s, c
		}
	}
	who := make([]int, len(said))
	for i := len(said) - 1; i >= 0; i-- {
		who[i] = at
		at = from[i][at]
	}
	return who
}

// cutOut is the part of a segment from one word to before another. Its outer ends stay the segment's.
func cutOut(s Segment, from, to int) Segment {
	if from < 0 || from == 0 && to == len(s.Words) {
		return s
	}
	text := s.Text
	begin, end := columnIn(text, letters(s.Words[:from]...)), columnIn(text, letters(s.Words[:to]...))
	if from > 0 {
		s.Start = s.Words[from].Start
	}
	if to < len(s.Words) {
		s.End = max(s.Start, s.Words[to-1].End)
	}
	s.Text = strings.TrimSpace(text[begin:end])
	s.Words = s.Words[from:to:to]
	return s
}

// columnIn is where in a text the letters of its beginning end, in bytes, what letters leaves out not counted.
func columnIn(text, beginning string) int {
	left := utf8.RuneCountInString(beginning)
	for at, r := range text {
		if letters(Word{Text: string(r)}) == "" {
			continue
		}
		if left == 0 {
			return at
		}
		left--
	}
	return len(text)
}
