package bench

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

var (
	bracketed     = regexp.MustCompile(`[<\[][^>\]]*[>\]]`)
	parenthesised = regexp.MustCompile(`\(([^)]+?)\)`)
)

// unspaced are the languages whose error rate is counted in characters: white space does not part their words, or, in Korean,
// parts them by taste.
var unspaced = []string{"ja", "ko", "lo", "my", "km", "th", "yue", "zh"}

// Normalize returns the units of text that are compared: the words, or the characters for a language that has no spaces
// between words. lang is an ISO 639-1 code. English goes through the rules of Whisper's English normaliser, every other
// language through those of its basic one.
func Normalize(lang, text string) []string {
	if lang == "en" {
		return english(text)
	}
	words := strings.Fields(basic(text))
	if !slices.Contains(unspaced, lang) {
		return words
	}
	var characters []string
	for _, r := range strings.Join(words, "") {
		characters = append(characters, string(r))
	}
	return characters
}

// basic lowers the case, drops what stands in brackets, and turns marks, symbols and punctuation into spaces.
func basic(s string) string {
	s = dropAsides(strings.ToLower(s))
	s = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.M, unicode.S, unicode.P) {
			return ' '
		}
		return r
	}, norm.NFKC.String(s))
	return strings.ToLower(s)
}

// dropAsides removes what a transcriber adds and nobody says, such as [laughs] or (music).
func dropAsides(s string) string {
	return parenthesised.ReplaceAllString(bracketed.ReplaceAllString(s, ""), "")
}

// latin are the letters that compatibility decomposition leaves whole although they hold a mark or two letters.
var latin = strings.NewReplacer("œ", "oe", "Œ", "OE", "ø", "o", "Ø", "O", "æ", "ae", "Æ", "AE", "ß", "ss", "ẞ", "SS",
	"đ", "d", "Đ", "D", "ð", "d", "Ð", "D", "þ", "th", "Þ", "th", "ł", "l", "Ł", "L")

// plain drops the marks of letters and turns symbols and punctuation into spaces, but for the characters in keep.
func plain(s, keep string) string {
	return latin.Replace(strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(keep, r):
			return r
		case unicode.Is(unicode.Mn, r):
			return -1
		case unicode.In(r, unicode.M, unicode.S, unicode.P):
			return ' '
		}
		return r
	}, norm.NFKD.String(s)))
}
