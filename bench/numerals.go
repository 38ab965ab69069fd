package bench

import (
	"math/big"
	"strings"
	"sync"
)

// A numeral is what a word contributes to a number: a digit, a multiplier, a sign, a unit.
type numeral struct {
	kind   kind
	value  *big.Int // for digits, tens and multipliers
	suffix string   // "th" of an ordinal, "s" of a plural
	sign   string   // what to write before or after the digits
}

type kind int

const (
	other      kind = iota // not a numeral
	zero                   // zero, oh
	unit                   // one to nineteen
	tens                   // twenty to ninety
	multiplier             // hundred and above
	leading                // minus, plus: a sign before the number they precede
	currency               // dollars: a sign before the number they follow
	percent                // percent, per cent
	special                // and, double, triple, point
)

// numerals holds the words that numbers are said with. It is made once and never written after.
var numerals = sync.OnceValue(func() map[string]numeral {
	words := map[string]numeral{"o": {kind: zero}, "oh": {kind: zero}, "zero": {kind: zero}, "zeroth": ordinal(unit, 0, "th")}
	for i, name := range strings.Fields("one two three four five six seven eight nine ten eleven twelve thirteen fourteen " +
		"fifteen sixteen seventeen eighteen nineteen") {
		value := int64(i + 1)
		words[name] = ordinal(unit, value, "")
		words[plural(name)] = ordinal(unit, value, "s")
		words[unitOrdinal(name)] = ordinal(unit, value, unitSuffix(value))
	}
	for i, name := range strings.Fields("twenty thirty forty fifty sixty seventy eighty ninety") {
		value := int64(10 * (i + 2))
		words[name] = ordinal(tens, value, "")
		words[strings.TrimSuffix(name, "y")+"ies"] = ordinal(tens, value, "s")
		words[strings.TrimSuffix(name, "y")+"ieth"] = ordinal(tens, value, "th")
	}
	words["hundred"] = ordinal(multiplier, 100, "")
	words["hundreds"] = ordinal(multiplier, 100, "s")
	words["hundredth"] = ordinal(multiplier, 100, "th")
	power := big.NewInt(1)
	for _, name := range strings.Fields("thousand million billion trillion quadrillion quintillion sextillion septillion " +
		"octillion nonillion decillion") {
		power = new(big.Int).Mul(power, big.NewInt(1000))
		for _, suffix := range []string{"", "s", "th"} {
			words[name+suffix] = numeral{kind: multiplier, value: power, suffix: suffix}
		}
	}
	for word, sign := range map[string]string{"minus": "-", "negative": "-", "plus": "+", "positive": "+"} {
		words[word] = numeral{kind: leading, sign: sign}
	}
	for word, sign := range map[string]string{"pound": "£", "euro": "€", "dollar": "$", "cent": "¢"} {
		words[word] = numeral{kind: currency, sign: sign}
		words[word+"s"] = numeral{kind: currency, sign: sign}
	}
	words["percent"] = numeral{kind: percent}
	words["per"] = numeral{kind: percent}
	for _, word := range []string{"and", "double", "triple", "point"} {
		words[word] = numeral{kind: special}
	}
	return words
})

func ordinal(k kind, value int64, suffix string) numeral {
	return numeral{kind: k, value: big.NewInt(value), suffix: suffix}
}

func plural(name string) string {
	if name == "six" {
		return "sixes"
	}
	return name + "s"
}

// unitOrdinal forms ordinals by Whisper's rule, which misses "ninth": that stays a word on both sides.
func unitOrdinal(name string) string {
	switch name {
	case "one":
		return "first"
	case "two":
		return "second"
	case "three":
		return "third"
	case "five":
		return "fifth"
	case "twelve":
		return "twelfth"
	case "eight":
		return "eighth"
	}
	return name + "th"
}

func unitSuffix(value int64) string {
	switch value {
	case 1:
		return "st"
	case 2:
		return "nd"
	case 3:
		return "rd"
	}
	return "th"
}
