package transcript

import (
	"math"
	"slices"
	"strings"
)

// Limits of subtitles, after the broadcasters' guides (BBC, Netflix): what a viewer can read without missing the picture.
const (
	lineWidth = 42 // columns a line; a full-width character takes two
	maxLines  = 2
	readSpeed = 17.0 // columns a second that are read with ease
	minCue    = 1.0  // seconds; shorter ones flash by
	maxCue    = 7.0  // seconds
	cueGap    = 0.04 // seconds between two cues: a frame, so that a change is seen
	maxGap    = 1.0  // seconds of silence that a cue may run across
	leadIn    = 0.3  // seconds that a cue may come early when there is no room after it
	shortest  = 0.2  // seconds that every cue stays, though the next one is late for it
)

// cue is one subtitle.
type cue struct {
	// Seconds. The end is later than the start, and but for speech that overlaps not later than the next cue's start.
	start, end float64
	spoken     float64 // when the speech ends
	speaker    string
	lines      []string
}

// cuesOf cuts segments to subtitles. With labels, a turn begins with the speaker's name in brackets.
func cuesOf(segs []Segment, labels bool) []cue {
	us := unitsOf(segs)
	if labels {
		us = label(us)
	}
	var out []cue
	for _, row := range split(us) {
		out = append(out, cue{start: row[0].start, end: row[len(row)-1].end, speaker: row[0].speaker, lines: wrap(row)})
	}
	retime(out)
	return out
}

// label puts the speaker's name before each turn.
func label(us []unit) []unit {
	var out []unit
	speaker := ""
	for _, u := range us {
		if u.speaker != speaker && u.speaker != "" {
			name := tokens("[" + u.speaker + "]")
			for i := range name {
				name[i].start, name[i].end, name[i].speaker = u.start, u.start, u.speaker
			}
			name[0].fresh, u.fresh, u.space = true, false, true
			out = append(out, name...)
		}
		speaker = u.speaker
		out = append(out, u)
	}
	return out
}

// split groups units to cues so that the sum of what each break costs is least.
func split(us []unit) [][]unit {
	best := make([]float64, len(us)+1) // of the first i units
	from := make([]int, len(us)+1)     // where the last cue of them begins
	for to := 1; to <= len(us); to++ {
		best[to] = math.Inf(1)
		for i := to - 1; i >= 0 && (i == to-1 || !us[i+1].fresh) && fits(us[i:to]); i-- {
			if c := best[i] + cost(us, i, to); c < best[to] {
				best[to], from[to] = c, i
			}
		}
	}
	var out [][]unit
	for to := len(us); to > 0; to = from[to] {
		out = append(out, us[from[to]:to])
	}
	slices.Reverse(out)
	return out
}

// fits reports whether units may be one cue. A single one always may, and a short text may last long: it is not clear then
// when it was said.
func fits(us []unit) bool {
	if len(us) == 1 {
		return true
	}
	wide := lineWide(us)
	if us[len(us)-1].end-us[0].start > maxCue && wide > lineWidth/2 {
		return false
	}
	return wide <= lineWidth || wide <= maxLines*lineWidth+1 && cut(us) > 0
}

// cost is what a cue of us[from:to] takes from the reader. The numbers weigh against each other; only their order was tuned,
// on English and Japanese talks: break at the end of a sentence, then of a clause, then at a breath, then anywhere; neither
// flash nor leave a word alone.
func cost(us []unit, from, to int) float64 {
	const each, inner, orphan = 5.0, 6.0, 0.4
	c := each
	for _, u := range us[from : to-1] {
		if u.sentenceEnd {
			c += inner
		}
	}
	if wide := lineWide(us[from:to]); wide < lineWidth/3 {
		c += orphan * float64(lineWidth/3-wide)
	}
	room := math.Inf(1)
	if to < len(us) {
		room = us[to].start - us[from].start
		c += breakCost(us[to-1], us[to])
	}
	if room < minCue {
		c += 30 * (minCue - max(0, room))
	}
	return c
}

func breakCost(before, after unit) float64 {
	gap := min(0.5, max(0, after.start-before.end))
	switch {
	case after.fresh || before.sentenceEnd:
		return 0
	case before.clauseEnd:
		return 6 - 6*gap
	case before.segmentEnd:
		return 8 - 8*gap
	case after.space:
		return 14 - 14*gap
	}
	return 20 - 14*gap
}

// wrap sets a cue in one line, or in two.
func wrap(us []unit) []string {
	if lineWide(us) <= lineWidth {
		return []string{line(us)}
	}
	at := cut(us)
	if at == 0 {
		return []string{line(us)}
	}
	return []string{line(us[:at]), line(us[at:])}
}

// cut is where the second line begins so that both are about equal, the lower one rather the longer, and the break at the end of
// a clause where one is near. It is 0 where nothing fits.
func cut(us []unit) int {
	best, at := math.MaxInt, 0
	upper, lower := 0, lineWide(us)
	for i := 1; i < len(us); i++ {
		n := us[i-1].wide
		if i > 1 && us[i-1].space {
			n++
		}
		upper, lower = upper+n, lower-n
		rest := lower
		if us[i].space {
			rest--
		}
		if upper > lineWidth || rest > lineWidth {
			continue
		}
		price := max(upper-rest, rest-upper)
		if upper > rest {
			price += 2
		}
		if us[i-1].sentenceEnd || us[i-1].clauseEnd {
			price -= 12
		}
		if !us[i].space {
			price += 4
		}
		if price < best {
			best, at = price, i
		}
	}
	return at
}

func lineWide(us []unit) int {
	n := 0
	for i, u := range us {
		n += u.wide
		if i > 0 && u.space {
			n++
		}
	}
	return n
}

func line(us []unit) string {
	var b strings.Builder
	for i, u := range us {
		if i > 0 && u.space {
			b.WriteByte(' ')
		}
		b.WriteString(u.text)
	}
	return b.String()
}

// retime lets each cue stay until it can be read, if the next one leaves it the time, and sees that none flashes by or runs
// into the next. Only while two speakers speak at once two cues stand at once.
func retime(cues []cue) {
	latest := map[string]int{} // each speaker's last cue so far
	for i := range cues {
		c := &cues[i]
		c.spoken = c.end
		last := 0.0
		for _, k := range latest {
			if !cues[k].over(*c) {
				last = max(last, cues[k].end)
			}
		}
		c.start = max(c.start, last)
		next, own := following(cues, i)
		read := max(minCue, float64(width(strings.Join(c.lines, "")))/readSpeed)
		c.end = min(max(c.spoken, c.start+read), c.start+maxCue, next-cueGap)
		if c.spoken > next {
			c.end = max(c.end, min(c.spoken, c.start+maxCue, own-cueGap))
		}
		if lacks := minCue - (c.end - c.start); lacks > 0 {
			c.start = max(last, c.start-min(lacks, leadIn))
		}
		c.end = max(c.end, c.start+shortest)
		if i > 0 && c.start-cues[i-1].end < cueGap && !cues[i-1].over(*c) {
			cues[i-1].end = max(cues[i-1].start+shortest, c.start-cueGap)
		}
		latest[c.speaker] = i
	}
}

// over reports whether somebody else begins to speak, in other, before c has ended.
func (c cue) over(other cue) bool { return c.speaker != other.speaker && c.spoken > other.start }

// following is when the next cue after i begins, and when the next one of the same speaker does, as far as it matters.
func following(cues []cue, i int) (next, own float64) {
	next = math.Inf(1)
	for _, c := range cues[i+1:] {
		next = min(next, c.start)
		if c.speaker == cues[i].speaker {
			return next, c.start
		}
		if c.start > cues[i].start+2*maxCue {
			break
		}
	}
	return next, math.Inf(1)
}
