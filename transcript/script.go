package transcript

import (
	"strings"
	"unicode"
)

const (
	sentenceEnds = ".!?…。！？．｡؟۔।॥။។"
	clauseEnds   = ",;:،؛、，；："
	// closers end what stands before them: they do not begin a line (JIS X 4051, GB/T 15834), and a sentence that one follows ends
	// after it.
	closers = `"'”’»)]}）」』】〉》〕］｝`
	openers = `“‘«([{（「『【〈《〔［｛`
	// small are kana and signs that belong to what stands before them.
	small = "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮーゝゞヽヾ々・"
	// leading are the Thai and Lao vowels that are written before their consonant, and the signs of Khmer and Myanmar that
	// join the consonant behind them.
	leading = "เแโใไເແໂໃໄ\u17d2\u1039"
	joiner  = '\u200d'
)

// Text joins segments to running text: with a space between them, save where a script is written without.
func Text(segments []Segment) string {
	var b strings.Builder
	for _, s := range segments {
		if s.Text == "" {
			continue
		}
		if b.Len() > 0 && spaced(b.String(), s.Text) {
			b.WriteByte(' ')
		}
		b.WriteString(s.Text)
	}
	return b.String()
}

// spaced reports whether a space belongs between two texts.
func spaced(before, after string) bool {
	return !spaceless(lastRune(before)) || !spaceless(firstRune(after))
}

// spaceless reports whether r belongs to a script written without spaces between words: Chinese, Japanese, Thai, Lao,
// Khmer, Myanmar, or their punctuation.
func spaceless(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) ||
		r >= 0x3000 && r <= 0x303f || r >= 0xff00 && r <= 0xffef || r == 'ー' || r == '・'
}

// runeWidth is how many columns a character takes: two where the script is full-width, none for marks that sit on others.
func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0xff61 && r <= 0xffdc:
		return 1 // the half-width forms
	case r >= 0x3000 && r <= 0x303f, r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff,
		unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul), r == 'ー', r == '・':
		return 2
	}
	return 1
}

// Cut is s without what goes beyond a number of columns; … stands for that.
func Cut(s string, columns int) string {
	if width(s) <= columns {
		return s
	}
	room := columns - 1 // for the …
	for i, r := range s {
		if room -= runeWidth(r); room < 0 {
			if columns < 1 {
				return ""
			}
			return s[:i] + "…"
		}
	}
	return s
}

func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// breakable reports whether a line may end between two characters of a word: beside one of a spaceless script, but not
// before a mark, a closing bracket or a stop, nor after an opening one. Where Thai words end only a dictionary knows; this keeps
// their characters whole.
func breakable(before, after rune) bool {
	switch {
	case !spaceless(before) && !spaceless(after), runeWidth(after) == 0, before == joiner, unicode.Is(unicode.Mc, after):
		return false
	case strings.ContainsRune(leading+openers, before), strings.ContainsRune(closers+small+sentenceEnds+clauseEnds, after):
		return false
	}
	return true
}

// endsSentence looks through closing quotes and brackets.
func endsSentence(s string) bool { return endsWith(s, sentenceEnds) }

func endsClause(s string) bool { return endsWith(s, clauseEnds) }

func endsWith(s, marks string) bool {
	return strings.ContainsRune(marks, lastRune(strings.TrimRight(s, closers)))
}

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return ' '
}

func lastRune(s string) rune {
	r := []rune(s[max(0, len(s)-4):])
	if len(r) == 0 {
		return ' '
	}
	return r[len(r)-1]
}

// TurnsDirection tells whether r makes the text after it run the other way, until something ends it.
func TurnsDirection(r rune) bool { return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }

// clean makes s one line of text: line ends become spaces, other control characters go, for no format holds them and nobody
// says them, and spaces do not follow one another. What turns the direction of all text after it around goes too: a cue that is
// cut would leave it open, and a name could show another ending than it has. Marks of direction, which turn nothing, stay.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= '\t' && r <= '\r', r == 0x85, r == 0x2028, r == 0x2029:
			return ' '
		case unicode.IsControl(r), TurnsDirection(r), r == 0xfeff, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	var b strings.Builder
	for word := range strings.SplitSeq(s, " ") { // not Fields: a no-break space stays
		if word == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	return b.String()
}
