package bench

import "fmt"

// Errors counts the differences between a reference and what was written for it. The zero value counts nothing.
type Errors struct {
	Subs  int `json:"substitutions"`
	Dels  int `json:"deletions"`
	Ins   int `json:"insertions"`
	Words int `json:"words"` // words of the reference
}

// Total is the number of edits that turn the reference into the hypothesis.
func (e Errors) Total() int { return e.Subs + e.Dels + e.Ins }

// Rate is the word error rate, 1 for as many errors as words. It is 0 where nothing was said and nothing written, and the
// number of insertions where nothing was said.
func (e Errors) Rate() float64 { return float64(e.Total()) / float64(max(e.Words, 1)) }

// Add returns the counts of both together: the rate of a sum weighs every word the same, as totals over files should.
func (e Errors) Add(o Errors) Errors {
	return Errors{Subs: e.Subs + o.Subs, Dels: e.Dels + o.Dels, Ins: e.Ins + o.Ins, Words: e.Words + o.Words}
}

func (e Errors) String() string {
	return fmt.Sprintf("%.2f %% (%d of %d: %d substituted, %d deleted, %d inserted)",
		100*e.Rate(), e.Total(), e.Words, e.Subs, e.Dels, e.Ins)
}

// WER counts the errors of hyp against ref, unit by unit: words, or characters, as Normalize returns them.
func WER(ref, hyp []string) Errors {
	e := Errors{Words: len(ref)}
	for _, edit := range Align(ref, hyp) {
		switch edit.Op {
		case Substituted:
			e.Subs++
		case Deleted:
			e.Dels++
		case Inserted:
			e.Ins++
		}
	}
	return e
}

// Op is what an Edit does.
type Op byte

// The operations that turn a reference into a hypothesis.
const (
	Equal Op = iota
	Substituted
	Deleted
	Inserted
)

// Edit is a step of an alignment. Ref and Hyp are the indexes of its words; for an insertion Ref is the word before which
// it stands, and for a deletion Hyp is.
type Edit struct {
	Op       Op
	Ref, Hyp int
}

// Align returns the fewest edits that turn ref into hyp, in order. Among alignments of the same length it always takes the
// same one. Beyond the equal words at both ends, it holds one byte for each pair of words.
func Align(ref, hyp []string) []Edit {
	edits := make([]Edit, 0, max(len(ref), len(hyp)))
	head := 0
	for head < min(len(ref), len(hyp)) && ref[head] == hyp[head] {
		edits = append(edits, Edit{Equal, head, head})
		head++
	}
	tail := 0
	for tail < min(len(ref), len(hyp))-head && ref[len(ref)-1-tail] == hyp[len(hyp)-1-tail] {
		tail++
	}
	for _, e := range alignMiddle(ref[head:len(ref)-tail], hyp[head:len(hyp)-tail]) {
		edits = append(edits, Edit{e.Op, e.Ref + head, e.Hyp + head})
	}
	for ; tail > 0; tail-- {
		edits = append(edits, Edit{Equal, len(ref) - tail, len(hyp) - tail})
	}
	return edits
}

// alignMiddle is the Wagner-Fischer algorithm from the end to the start, so that following ops from the start gives the
// edits in order.
func alignMiddle(ref, hyp []string) []Edit {
	width := len(hyp) + 1
	ops := make([]Op, (len(ref)+1)*width) // the first step of the best way from (i, j) to the end
	next := make([]int, width)            // the length of that way, for i+1
	cur := make([]int, width)
	for j := range width {
		next[j] = len(hyp) - j
		ops[len(ref)*width+j] = Inserted
	}
	for i := len(ref) - 1; i >= 0; i-- {
		row := ops[i*width : (i+1)*width]
		cur[len(hyp)], row[len(hyp)] = len(ref)-i, Deleted
		for j := len(hyp) - 1; j >= 0; j-- {
			best, op := next[j+1]+1, Substituted
			if ref[i] == hyp[j] {
				best, op = next[j+1], Equal
			}
			if d := next[j] + 1; d < best {
				best, op = d, Deleted
			}
			if d := cur[j+1] + 1; d < best {
				best, op = d, Inserted
			}
			cur[j], row[j] = best, op
		}
		cur, next = next, cur
	}
	var edits []Edit
	for i, j := 0, 0; i < len(ref) || j < len(hyp); {
		e := Edit{ops[i*width+j], i, j}
		edits = append(edits, e)
		if e.Op != Inserted {
			i++
		}
		if e.Op != Deleted {
			j++
		}
	}
	return edits
}

// CER counts the errors of hyp against ref in characters; Errors.Words counts characters then. Both are units as Normalize
// returns them, and spaces between them do not count: "apart" for "a part" is no error here, that is what WER is for.
// Characters are aligned between words that are equal in the alignment of words: the whole at once would take a byte for each
// pair of characters, 150 MB for a quarter of an hour, to find a few errors less.
func CER(ref, hyp []string) Errors {
	var e Errors
	edits := Align(ref, hyp)
	for from := 0; from < len(edits); {
		to := from + 1
		for to < len(edits) && (edits[to].Op == Equal) == (edits[from].Op == Equal) {
			to++
		}
		var said, written []string
		for _, edit := range edits[from:to] {
			if edit.Op != Inserted {
				said = appendCharacters(said, ref[edit.Ref])
			}
			if edit.Op != Deleted {
				written = appendCharacters(written, hyp[edit.Hyp])
			}
		}
		e = e.Add(WER(said, written))
		from = to
	}
	return e
}

func appendCharacters(to []string, word string) []string {
	for _, r := range word {
		to = append(to, string(r))
	}
	return to
}
