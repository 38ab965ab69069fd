package transcript

import (
	"sort"
	"strings"
)

// unit is what is not broken: a word, or a character of a script without spaces. A subtitle is a row of units.
type unit struct {
	text       string
	wide       int  // columns
	space      bool // a space stands before it
	start, end float64
	speaker    string
	fresh      bool // it begins a subtitle whatever stands before it

	sentenceEnd, clauseEnd, segmentEnd bool
}

// unitsOf takes segments apart.
func unitsOf(segs []Segment) []unit {
	var us []unit
	for _, s := range segs {
		row, speaker := tokens(clean(s.Text)), clean(s.Speaker)
		if len(row) == 0 {
			continue
		}
		setTimes(row, s)
		for i := range row {
			row[i].speaker = speaker
		}
		row[len(row)-1].segmentEnd = true
		if len(us) > 0 {
			last := us[len(us)-1]
			row[0].space = spaced(last.text, row[0].text)
			row[0].fresh = speaker != last.speaker
		}
		us = append(us, row...)
	}
	for i := 1; i < len(us); i++ {
		us[i].fresh = us[i].fresh || us[i].start-us[i-1].end >= maxGap
	}
	return us
}

// tokens breaks clean text to units without times.
func tokens(text string) []unit {
	var us []unit
	for word := range strings.SplitSeq(text, " ") {
		for i, piece := range pieces(word) {
			us = append(us, unit{
				text: piece, wide: width(piece), space: i == 0 && len(us) > 0,
				sentenceEnd: endsSentence(piece), clauseEnd: endsClause(piece),
			})
		}
	}
	return us
}

// pieces breaks a word where its script allows it, and one that is longer than a line at the line's end.
func pieces(word string) []string {
	var out []string
	begin, wide := 0, 0
	before := rune(0)
	for at, r := range word {
		n := runeWidth(r)
		if at > begin && (breakable(before, r) || n > 0 && wide+n > lineWidth) {
			out = append(out, word[begin:at])
			begin, wide = at, 0
		}
		wide += n
		before = r
	}
	if begin < len(word) {
		out = append(out, word[begin:])
	}
	return out
}

// setTimes gives each unit its time: its word's where words were timed and say what the text says, else its share of the
// segment by width.
func setTimes(us []unit, s Segment) {
	spoken := []Word{{Start: s.Start, End: s.End, Text: s.Text}}
	if len(s.Words) > 0 && letters(s.Words...) == letters(spoken...) {
		spoken = s.Words
	}
	laid := lay(spoken)
	column := 0
	for i := range us {
		us[i].start = laid.startAt(column)
		column += us[i].wide
		us[i].end = max(us[i].start, laid.endAt(column))
	}
}

// letters are the words without spaces.
func letters(words ...Word) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(strings.ReplaceAll(clean(w.Text), " ", ""))
	}
	return b.String()
}

// laidWord is a word with the columns that it takes in a text without spaces.
type laidWord struct {
	from, to   int
	start, end float64
}

type laidWords []laidWord

func lay(words []Word) laidWords {
	laid := make(laidWords, len(words))
	column, last := 0, 0.0
	for i, w := range words {
		from := column
		column += width(letters(w))
		start := max(last, w.Start)
		last = max(start, w.End)
		laid[i] = laidWord{from, column, start, last}
	}
	return laid
}

// startAt is when the character at a column begins.
func (ws laidWords) startAt(column int) float64 {
	i := sort.Search(len(ws), func(i int) bool { return ws[i].to > column })
	return ws[min(i, len(ws)-1)].at(column)
}

// endAt is when the character before a column ends.
func (ws laidWords) endAt(column int) float64 {
	i := sort.Search(len(ws), func(i int) bool { return ws[i].to >= column })
	return ws[min(i, len(ws)-1)].at(column)
}

func (w laidWord) at(column int) float64 {
	if w.to == w.from {
		return w.start
	}
	return w.start + (w.end-w.start)*float64(column-w.from)/float64(w.to-w.from)
}
