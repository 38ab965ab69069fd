package bench

import (
	_ "embed"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

//go:embed spelling.txt
var spellingTable string

// americanSpelling maps British spellings to American ones. It is parsed once and never written after.
var americanSpelling = sync.OnceValue(func() map[string]string { return parseSpelling(spellingTable) })

func parseSpelling(table string) map[string]string {
	spelling := make(map[string]string)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] == "#" {
			continue
		}
		for _, ending := range fields[2:] {
			ending = strings.TrimPrefix(ending, "-")
			spelling[fields[0]+ending] = fields[1] + ending
		}
	}
	return spelling
}

// fillers are words that speakers do not mean and transcribers write or leave out as they like.
var fillers = []string{"hmm", "mm", "mhm", "mmm", "uh", "um"}

// A longForm writes a short form out. The order of the tables is part of the rules: an entry changes what later ones see.
type longForm struct{ short, long string }

// wholeWords are replaced where they stand as a word of their own.
var wholeWords = []longForm{
	{"won't", "will not"}, {"can't", "can not"}, {"let's", "let us"}, {"ain't", "aint"}, {"y'all", "you all"},
	{"wanna", "want to"}, {"kinda", "kind of"}, {"sorta", "sort of"}, {"dunno", "do not know"}, {"gotta", "got to"},
	{"gonna", "going to"}, {"i'ma", "i am going to"}, {"imma", "i am going to"}, {"woulda", "would have"},
	{"coulda", "could have"}, {"shoulda", "should have"}, {"cause", "because"}, {"ma'am", "madam"},
	{"mr", "mister "}, {"mrs", "missus "}, {"st", "saint "}, {"dr", "doctor "}, {"prof", "professor "}, {"capt", "captain "},
	{"gov", "governor "}, {"ald", "alderman "}, {"gen", "general "}, {"sen", "senator "}, {"rep", "representative "},
	{"pres", "president "}, {"rev", "reverend "}, {"hon", "honorable "}, {"asst", "assistant "}, {"assoc", "associate "},
	{"lt", "lieutenant "}, {"col", "colonel "}, {"jr", "junior "}, {"sr", "senior "}, {"esq", "esquire "},
}

// endings are replaced at the end of a word. The verbs after 'd and 's tell had from would, and has from is.
var endings = []longForm{
	{"'d been", " had been"}, {"'s been", " has been"}, {"'d gone", " had gone"}, {"'s gone", " has gone"},
	{"'d done", " had done"}, {"'s got", " has got"}, {"n't", " not"}, {"'re", " are"}, {"'s", " is"}, {"'d", " would"},
	{"'ll", " will"}, {"'t", " not"}, {"'ve", " have"}, {"'m", " am"},
}

var (
	spaceApostrophe = regexp.MustCompile(`[\s\p{Z}]+'`)
	digitComma      = regexp.MustCompile(`(\d),(\d)`)
	sentencePeriod  = regexp.MustCompile(`\.([^0-9]|$)`)
	straySign       = regexp.MustCompile(`[.$¢€£]([^0-9])`)
	strayPercent    = regexp.MustCompile(`([^0-9])%`)
)

// english applies the rules of Whisper's English normaliser, in its order, and returns the words.
func english(s string) []string {
	s = dropAsides(strings.ToLower(s))
	for _, filler := range fillers {
		s = replaceWord(s, filler, "", true)
	}
	s = spaceApostrophe.ReplaceAllString(s, "'")
	for _, form := range wholeWords {
		s = replaceWord(s, form.short, form.long, true)
	}
	for _, form := range endings {
		s = replaceWord(s, form.short, form.long, false)
	}
	s = digitComma.ReplaceAllString(s, "$1$2")
	s = sentencePeriod.ReplaceAllString(s, " $1")
	s = standardNumbers(plain(s, ".%$¢€£"))

	words := strings.Fields(s)
	for i, word := range words {
		if american, ok := americanSpelling()[word]; ok {
			words[i] = american
		}
	}
	s = straySign.ReplaceAllString(strings.Join(words, " "), " $1")
	return strings.Fields(strayPercent.ReplaceAllString(s, "$1 "))
}

// replaceWord replaces old where it ends at a word boundary and, if whole, begins at one too. The boundaries of regexp know
// only ASCII letters, and would find "st" in "ést".
func replaceWord(s, old, long string, whole bool) string {
	var b strings.Builder
	from := 0 // s[:from] is written
	for at := 0; ; {
		i := strings.Index(s[at:], old)
		if i < 0 {
			break
		}
		i += at
		end := i + len(old)
		before, _ := utf8.DecodeLastRuneInString(s[:i])
		after, _ := utf8.DecodeRuneInString(s[end:])
		if isWord(after) || whole && isWord(before) {
			at = i + 1
			continue
		}
		b.WriteString(s[from:i])
		b.WriteString(long)
		from, at = end, end
	}
	b.WriteString(s[from:])
	return b.String()
}

func isWord(r rune) bool {
	return r != utf8.RuneError && (r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r))
}
