package bench

import (
	"math/big"
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	andAHalf      = regexp.MustCompile(`\band\s+a\s+half\b`)
	letterDigit   = regexp.MustCompile(`([a-z])([0-9])`)
	digitLetter   = regexp.MustCompile(`([0-9])([a-z])`)
	spacedSuffix  = regexp.MustCompile(`([0-9])\s+(st|nd|rd|th|s)([^\p{L}\p{N}_]|$)`)
	numeric       = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	amountAndCent = regexp.MustCompile(`([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b`)
	centsOnly     = regexp.MustCompile(`[€£$]0.([0-9]{1,2})\b`)
)

// standardNumbers writes spelled-out numbers in digits: "two hundred and five dollars" becomes "$205".
func standardNumbers(s string) string {
	s = writeHalves(s)
	s = letterDigit.ReplaceAllString(s, "$1 $2")
	s = digitLetter.ReplaceAllString(s, "$1 $2")
	s = spacedSuffix.ReplaceAllString(s, "$1$2$3")

	w := numberWriter{words: numerals()}
	words := strings.Fields(s)
	for i := 0; i < len(words); i++ {
		var prev, next string
		if i > 0 {
			prev = words[i-1]
		}
		if i+1 < len(words) {
			next = words[i+1]
		}
		if w.add(prev, words[i], next) {
			i++
		}
	}
	w.flush()

	s = strings.Join(w.out, " ")
	s = amountAndCent.ReplaceAllStringFunc(s, func(match string) string {
		m := amountAndCent.FindStringSubmatch(match)
		return m[1] + m[2] + "." + strings.Repeat("0", 2-len(m[3])) + m[3]
	})
	s = centsOnly.ReplaceAllStringFunc(s, func(match string) string {
		cents := centsOnly.FindStringSubmatch(match)[1]
		return "¢" + strings.TrimPrefix(cents, strings.Repeat("0", len(cents)-1))
	})
	return replaceWord(replaceWord(s, "1", "one", true), "1s", "ones", true)
}

// writeHalves turns "and a half" after a number into "point five".
func writeHalves(s string) string {
	words := numerals()
	var out []string
	parts := andAHalf.Split(s, -1)
	for i, part := range parts {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			continue
		}
		out = append(out, part)
		if i == len(parts)-1 {
			break
		}
		half := "and a half"
		if n := words[fields[len(fields)-1]]; n.suffix == "" {
			switch n.kind {
			case zero, unit, tens, multiplier:
				half = "point five"
			}
		}
		out = append(out, half)
	}
	return strings.Join(out, " ")
}

// A numberWriter goes through the words of a text and writes each run of number words as one number.
type numberWriter struct {
	words  map[string]numeral
	out    []string
	prefix string  // sign that waits for its number
	value  *amount // number under way; nil between numbers
}

// An amount is a number under way: a quantity that can still be added to, or digits as they were said, such as "1.5" and "007".
type amount struct {
	quantity *big.Int
	digits   string // where quantity is nil
}

func (a *amount) String() string {
	if a.quantity != nil {
		return a.quantity.String()
	}
	return a.digits
}

// said is the digits of a, and nothing for none or a bare 0: Whisper's normaliser writes "0 point 5" as ".5".
func (a *amount) said() string {
	if a == nil || a.quantity != nil && a.quantity.Sign() == 0 {
		return ""
	}
	return a.String()
}

func (w *numberWriter) emit(s string) {
	w.out = append(w.out, w.prefix+s)
	w.prefix, w.value = "", nil
}

func (w *numberWriter) flush() {
	if w.value != nil {
		w.emit(w.value.String())
	}
}

func (w *numberWriter) flushAnd(word string) {
	w.flush()
	w.emit(word)
}

// add takes the word cur with its neighbours, which are empty at the ends of the text, and reports whether it took next too.
func (w *numberWriter) add(prev, cur, next string) (took bool) {
	sign := ""
	if r, size := utf8.DecodeRuneInString(cur); strings.ContainsRune("$¢€£", r) {
		sign = cur[:size]
	}
	if numeric.MatchString(cur[len(sign):]) {
		w.figure(sign, cur[len(sign):])
		return false
	}
	n := w.words[cur]
	switch n.kind {
	case zero:
		w.value = &amount{digits: w.value.said() + "0"}
	case unit, tens:
		w.extend(w.words[prev], n.value)
		w.end(n.suffix)
	case multiplier:
		w.multiply(n.value)
		w.end(n.suffix)
	case leading:
		w.flush()
		if !w.continues(next) {
			w.emit(cur)
			break
		}
		w.prefix = n.sign
	case currency:
		if w.value == nil {
			w.emit(cur)
			break
		}
		w.prefix = n.sign
		w.flush()
	case percent:
		return w.percent(cur, next)
	case special:
		return w.special(prev, cur, next)
	default:
		w.flushAnd(cur)
	}
	return false
}

// end writes the number under way if its last word is an ordinal or a plural: nothing can follow these.
func (w *numberWriter) end(suffix string) {
	if suffix != "" {
		w.emit(w.value.String() + suffix)
	}
}

// continues reports whether a number may begin or go on with the word next.
func (w *numberWriter) continues(next string) bool {
	return w.words[next].kind != other || numeric.MatchString(next)
}

// figure takes digits as they stand in the text.
func (w *numberWriter) figure(sign, digits string) {
	if w.value != nil && strings.HasSuffix(w.value.digits, ".") {
		w.value.digits += sign + digits
		return
	}
	w.flush()
	if sign != "" {
		w.prefix = sign
	}
	w.value = &amount{digits: digits}
	if whole := wholeNumber(digits, big.NewInt(1)); whole != nil {
		w.value = &amount{quantity: whole}
	}
}

// extend adds a unit or tens to the number under way, or appends its digits where it cannot be a sum: "nineteen eighty" is 1980.
func (w *numberWriter) extend(prev numeral, value *big.Int) {
	small := value.Cmp(big.NewInt(10)) < 0
	after := func(k kind) bool { return prev.kind == k && prev.suffix == "" }
	switch {
	case w.value == nil:
		w.value = &amount{quantity: value}
	case w.value.quantity == nil && after(tens) && small:
		w.value = &amount{digits: strings.TrimSuffix(w.value.digits, "0") + value.String()}
	case w.value.quantity == nil || after(unit):
		w.value = &amount{digits: w.value.String() + value.String()}
	default:
		place := big.NewInt(100)
		if small {
			place.SetInt64(10)
		}
		if new(big.Int).Mod(w.value.quantity, place).Sign() != 0 {
			w.value = &amount{digits: w.value.String() + value.String()}
			break
		}
		w.value = &amount{quantity: new(big.Int).Add(w.value.quantity, value)}
	}
}

// multiply applies a multiplier to what stands under a thousand: in "two thousand five hundred" to the five.
func (w *numberWriter) multiply(by *big.Int) {
	switch {
	case w.value == nil:
		w.value = &amount{quantity: by}
	case w.value.quantity == nil:
		whole := wholeNumber(w.value.digits, by)
		if whole == nil {
			w.flush()
			whole = by
		}
		w.value = &amount{quantity: whole}
	default:
		low := new(big.Int).Mod(w.value.quantity, big.NewInt(1000))
		high := new(big.Int).Sub(w.value.quantity, low)
		w.value = &amount{quantity: high.Add(high, low.Mul(low, by))}
	}
}

func (w *numberWriter) percent(cur, next string) (took bool) {
	switch {
	case w.value == nil:
		w.emit(cur)
	case cur == "percent":
		w.emit(w.value.String() + "%")
	case next == "cent":
		w.emit(w.value.String() + "%")
		return true
	default:
		w.flushAnd(cur)
	}
	return false
}

// special takes the words that belong to a number only where one goes on after them.
func (w *numberWriter) special(prev, cur, next string) (took bool) {
	n := w.words[next]
	digit := n.kind == zero || n.kind == unit && n.suffix == ""
	switch {
	case !w.continues(next):
		w.flushAnd(cur)
	case cur == "and":
		if p := w.words[prev]; p.kind != multiplier || p.suffix != "" {
			w.flushAnd(cur)
		}
	case cur == "point":
		if digit || n.kind == tens && n.suffix == "" || numeric.MatchString(next) {
			w.value = &amount{digits: w.value.said() + "."}
		}
	case digit:
		said := "0"
		if n.value != nil {
			said = n.value.String()
		}
		times := map[string]int{"double": 2, "triple": 3}[cur]
		w.value = &amount{digits: w.value.said() + strings.Repeat(said, times)}
		return true
	default:
		w.flushAnd(cur)
	}
	return false
}

// wholeNumber is digits times by where that is a whole number, and nil where it is not or digits are no decimal number.
func wholeNumber(digits string, by *big.Int) *big.Int {
	if digits == "." || strings.Count(digits, ".") > 1 || strings.Trim(digits, "0123456789.") != "" {
		return nil
	}
	product, ok := new(big.Rat).SetString(digits)
	if !ok {
		return nil
	}
	if product.Mul(product, new(big.Rat).SetInt(by)); !product.IsInt() {
		return nil
	}
	return new(big.Int).Set(product.Num())
}
