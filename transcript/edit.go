package transcript

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of an edit, in characters.
const (
	MaxSegmentText = 2_000
	MaxSpeakerName = 100
)

// Edit is what a person changes in a transcript.
type Edit struct {
	// Segments are changed by their ids.
	Segments []SegmentEdit
	// Speakers gives names new ones throughout, all at once: two may change places. "" stands for segments without a speaker.
	Speakers map[string]string
}

// SegmentEdit changes one segment; what is nil stays.
type SegmentEdit struct {
	ID      int
	Text    *string // "" takes the segment out
	Speaker *string // goes before a new name in Edit.Speakers
}

// EditError says why an edit cannot be made.
type EditError struct{ Reason string }

func (e *EditError) Error() string { return e.Reason }

// Edited returns t with an edit made; t itself stays as it is. Words keep their times where a changed text still has them, and
// new ones share the time between. The error is an *EditError.
func (t Transcript) Edited(e Edit) (Transcript, error) {
	names, err := e.names()
	if err != nil {
		return Transcript{}, err
	}
	changes := make(map[int]SegmentEdit, len(e.Segments))
	for _, c := range e.Segments {
		if _, twice := changes[c.ID]; twice {
			return Transcript{}, &EditError{fmt.Sprintf("segment %d is changed twice: change it once", c.ID)}
		}
		changes[c.ID] = c
	}
	segments := make([]Segment, 0, len(t.Segments))
	for _, s := range t.Segments {
		if name, renamed := names[s.Speaker]; renamed {
			s.Speaker = name
		}
		if c, changed := changes[s.ID]; changed {
			delete(changes, s.ID)
			if s, err = s.edited(c); err != nil {
				return Transcript{}, err
			}
			if s.Text == "" {
				continue
			}
		}
		segments = append(segments, s)
	}
	for id := range changes {
		return Transcript{}, &EditError{fmt.Sprintf("there is no segment %d: load the newest version", id)}
	}
	t.Segments, t.Text = segments, Text(segments)
	return t, nil
}

func (e Edit) names() (map[string]string, error) {
	names := make(map[string]string, len(e.Speakers))
	for old, name := range e.Speakers {
		var err error
		if names[old], err = speakerName(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func speakerName(name string) (string, error) {
	name = clean(name)
	if utf8.RuneCountInString(name) > MaxSpeakerName {
		return "", &EditError{fmt.Sprintf("a speaker's name has more than %d characters: shorten it", MaxSpeakerName)}
	}
	return name, nil
}

func (s Segment) edited(c SegmentEdit) (_ Segment, err error) {
	if c.Speaker != nil {
		if s.Speaker, err = speakerName(*c.Speaker); err != nil {
			return Segment{}, err
		}
	}
	if c.Text == nil {
		return s, nil
	}
	text := clean(*c.Text)
	if utf8.RuneCountInString(text) > MaxSegmentText {
		return Segment{}, &EditError{fmt.Sprintf("segment %d has more than %d characters: shorten it", s.ID, MaxSegmentText)}
	}
	if text == s.Text {
		return s, nil
	}
	s.Words = retimed(s.Words, text)
	s.Text, s.Edited = text, true
	return s, nil
}

// retimed gives the words of a changed text times: those of the words that it still has, in the longest run of them that keeps
// its order, and to others a share, by their width, of the time between. It is nil where no word was timed.
func retimed(old []Word, text string) []Word {
	if len(old) == 0 {
		return nil
	}
	was := spread(old)
	is := tokens(text)
	words := make([]Word, len(is))
	at, gap := 0, 0 // how far was and is have been taken over
	settle := func(i, j int) {
		share(words[gap:j], is[gap:j], was, at, i)
	}
	for _, m := range common(was, is) {
		settle(m.old, m.now)
		words[m.now] = Word{was[m.old].Start, was[m.old].End, is[m.now].text, was[m.old].Probability}
		at, gap = m.old+1, m.now+1
	}
	settle(len(was), len(is))
	return words
}

// spread takes words apart to units, each with its part of the word's time.
func spread(words []Word) []Word {
	var out []Word
	for _, w := range words {
		row := tokens(clean(w.Text))
		setTimes(row, Segment{Start: w.Start, End: w.End, Text: w.Text})
		for _, u := range row {
			out = append(out, Word{round(u.start), round(u.end), u.text, w.Probability})
		}
	}
	return out
}

// share divides the time of was[from:to], or the pause there where that is empty, among new words. A person wrote them, so their
// probability is 1.
func share(words []Word, units []unit, was []Word, from, to int) {
	if len(words) == 0 {
		return
	}
	start, end := was[0].Start, was[len(was)-1].End
	if from < to {
		start, end = was[from].Start, was[to-1].End
	} else {
		if from > 0 {
			start = was[from-1].End
		}
		if to < len(was) {
			end = was[to].Start
		}
	}
	total, done := 0, 0
	for _, u := range units {
		total += u.wide
	}
	length := max(0, end-start)
	at := func() float64 { return round(start + length*float64(done)/float64(max(1, total))) }
	for i, u := range units {
		words[i] = Word{Start: at(), Text: u.text, Probability: 1}
		done += u.wide
		words[i].End = at()
	}
}

// match is a word that both texts have.
type match struct{ old, now int }

// common is a longest common subsequence, where case and punctuation do not count. O(len(was)·len(is)) time and space, after what
// both texts begin and end with.
func common(was []Word, is []unit) []match {
	a, b := make([]string, len(was)), make([]string, len(is))
	for i, w := range was {
		a[i] = plain(w.Text)
	}
	for i, u := range is {
		b[i] = plain(u.text)
	}
	var out []match
	first := 0
	for first < len(a) && first < len(b) && a[first] == b[first] {
		out = append(out, match{first, first})
		first++
	}
	tail := 0
	for tail < len(a)-first && tail < len(b)-first && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	out = append(out, longest(a[:len(a)-tail], b[:len(b)-tail], first)...)
	for i := tail; i > 0; i-- {
		out = append(out, match{len(a) - i, len(b) - i})
	}
	return out
}

// longest is the longest common subsequence of a and b from index first on.
func longest(a, b []string, first int) []match {
	n, m := len(a)-first, len(b)-first
	if n <= 0 || m <= 0 {
		return nil
	}
	best := make([][]uint16, n+1) // a text has at most MaxSegmentText words
	for i := range best {
		best[i] = make([]uint16, m+1)
	}
	for i, x := range slices.Backward(a[first:]) {
		for j, y := range slices.Backward(b[first:]) {
			if x == y {
				best[i][j] = best[i+1][j+1] + 1
			} else {
				best[i][j] = max(best[i+1][j], best[i][j+1])
			}
		}
	}
	var out []match
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case a[first+i] == b[first+j]:
			out = append(out, match{first + i, first + j})
			i, j = i+1, j+1
		case best[i+1][j] >= best[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}

// plain is a word without case and the punctuation around it, and the word itself where it is nothing else.
func plain(word string) string {
	core := strings.TrimFunc(word, func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) })
	if core == "" {
		return word
	}
	return strings.ToLower(core)
}
