package decode

import (
	"slices"
	"strings"
	"unicode/utf8"

	"steno/transcript"
)

// piece is a segment in the making. Times are seconds from the window's start.
type piece struct {
	start, end float64
	open       bool // the model ended without an end timestamp
	text       string
	tokens     int
	logprob    float64 // summed over tokens
	parts      []Token
}

func (p piece) avgLogprob() float64 {
	if p.tokens == 0 {
		return 0
	}
	return p.logprob / float64(p.tokens)
}

// parse cuts the tokens of a window of the given length in seconds into pieces at its timestamps.
func parse(tokens []Token, length float64) []piece {
	var (
		pieces []piece
		text   strings.Builder
		cur    piece
	)
	closeAt := func(t float64, open bool) {
		if cur.tokens > 0 {
			cur.end, cur.open, cur.text = min(max(t, cur.start), length), open, text.String()
			pieces = append(pieces, cur)
		}
		text.Reset()
		cur = piece{start: min(t, length)}
	}
	for _, t := range tokens {
		switch t.Kind {
		case Timestamp:
			closeAt(t.Time, false)
		case Text:
			text.WriteString(t.Text)
			cur.tokens++
			cur.logprob += t.Logprob
			cur.parts = append(cur.parts, t)
		}
	}
	closeAt(length, true)
	return pieces
}

// words joins the tokens of a piece to words: a token that starts with a space starts a word. Scripts without spaces give
// one word per whole character run that the tokens allow. Of each word it gives the attention, too: the most that any of its
// tokens has.
func words(p piece) (ws []transcript.Word, heard [][]float32) {
	var probs []float64
	var text string
	var rests []float32
	flush := func() {
		clean := strings.TrimSpace(strings.ToValidUTF8(text, ""))
		if clean != "" {
			sum := 0.0
			for _, v := range probs {
				sum += v
			}
			ws = append(ws, transcript.Word{Text: clean, Probability: sum / float64(len(probs))})
			heard = append(heard, rests)
		}
		text, probs, rests = "", nil, nil
	}
	for _, t := range p.parts {
		if strings.HasPrefix(t.Text, " ") || (text != "" && utf8.ValidString(text) && spaceless(text)) {
			flush()
		}
		text += t.Text
		probs = append(probs, t.Prob)
		rests = most(rests, t.Attention)
	}
	flush()
	return ws, heard
}

// most gives the larger of each two values, and is a where b is empty. Neither is changed.
func most(a, b []float32) []float32 {
	if len(a) == 0 {
		return b
	}
	a = slices.Clone(a)
	for i := range min(len(a), len(b)) {
		a[i] = max(a[i], b[i])
	}
	return a
}

// spaceless reports whether text ends in a script that is written without spaces between words.
func spaceless(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(text)
	switch {
	case r >= 0x3040 && r <= 0x30ff, r >= 0x3400 && r <= 0x9fff, r >= 0x0e00 && r <= 0x0e7f, r >= 0x20000 && r <= 0x2ffff:
		return true
	}
	return false
}
