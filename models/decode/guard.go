package decode

import (
	"bytes"
	"compress/zlib"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxCompression is OpenAI's compression_ratio_threshold: text that packs better than this repeats itself.
	maxCompression = 2.4
	// minLogprob is OpenAI's logprob_threshold.
	minLogprob = -1.0
	// maxTokensPerSecond is more than the fastest speech has (about 7 words, 10 tokens a second), plus a constant for windows
	// so short that a few tokens of punctuation weigh.
	maxTokensPerSecond, freeTokens = 14, 12
)

// doubtful names what is wrong with a decode, or is empty. n is the window's length in samples.
func doubtful(out Output, pieces []piece, n int) string {
	var text strings.Builder
	tokens, logprob := 0, 0.0
	for _, p := range pieces {
		text.WriteString(p.text)
		tokens += p.tokens
		logprob += p.logprob
	}
	switch {
	case tokens == 0:
		return "no text where speech was heard"
	case len(out.Tokens) > 0 && out.Tokens[len(out.Tokens)-1].Kind == Text:
		return "the decode did not end by itself"
	case CompressionRatio(text.String()) > maxCompression:
		return "the text repeats itself"
	case repeats(text.String()):
		return "the text says the same twice"
	case logprob/float64(tokens) < minLogprob:
		return "the model is unsure"
	case float64(tokens) > freeTokens+maxTokensPerSecond*float64(n)/rate:
		return "more text than can be spoken"
	}
	return ""
}

// repeatWords is the length of a word sequence that nobody says twice within 30 s, save in songs and prayers, where a second
// run of the model is the only price.
const repeatWords = 6

// repeats tells whether a sequence of repeatWords words occurs twice. The compression ratio alone misses a sentence that
// comes back two or three times.
func repeats(text string) bool {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	seen := make(map[string]bool)
	for i := 0; i+repeatWords <= len(words); i++ {
		key := strings.Join(words[i:i+repeatWords], " ")
		if seen[key] {
			return true
		}
		seen[key] = true
	}
	return false
}

// unsureTokens is the length up to which a piece that the model does not believe in itself is dropped: what Whisper makes
// up for a breath or a click is one or two words ("you", "Thank you."), and a real sentence is worth showing, doubtful or not.
const unsureTokens = 3

// guard drops what survived every fallback and is still no speech: a piece where the VAD heard none, a few words that the
// model is unsure of, and the third and later of equal pieces in a row.
func (d *decoder) guard(pieces []piece, from int) []piece {
	kept := pieces[:0]
	for _, p := range pieces {
		a, b := from+int(p.start*rate), from+int(p.end*rate)
		n := len(kept)
		loop := n >= 2 && kept[n-1].text == p.text && kept[n-2].text == p.text
		unsure := p.tokens <= unsureTokens && p.avgLogprob() < minLogprob
		if loop || unsure || d.speechIn(a-leftOverSlack, b+leftOverSlack) == 0 {
			d.result.Stats.Dropped++
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// CompressionRatio is the length of text in bytes over its length packed by zlib, as in OpenAI's whisper/utils.py.
func CompressionRatio(text string) float64 {
	if text == "" {
		return 0
	}
	var packed bytes.Buffer
	z := packers.Get().(*zlib.Writer)
	defer packers.Put(z)
	z.Reset(&packed)
	_, _ = z.Write([]byte(text)) // a bytes.Buffer does not fail
	_ = z.Close()
	return float64(len(text)) / float64(packed.Len())
}

// packers are kept: each has 1 MB of tables, which was half of all that a run allocated.
var packers = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}

// contextStep and contextPad size the encoder's context: a multiple of 64 positions keeps the matrix kernels on their fast
// path, and the pad of 0.64 s gives the decoder the little silence that it takes for an end. Pads of 0.32, 1.3 and 2.6 s did not
// do better (docs/adr/0003-one-pass.md).
const (
	contextStep = 64
	contextPad  = 32
	fullContext = 1500
	minContext  = 192
)

// contextFor is the number of encoder positions for n samples; 0 stands for the full 1500.
func contextFor(n int) int {
	c := (n+319)/320 + contextPad
	c = max(minContext, (c+contextStep-1)/contextStep*contextStep)
	if c >= fullContext {
		return 0
	}
	return c
}
