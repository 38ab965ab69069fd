package transcript

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of subtitles, after the broadcasters' guides (BBC, Netflix): what a viewer can read without missing the picture.
const (
	lineWidth   = 42   // characters a line; a full-width one counts two
	maxLines    = 2    //
	readSpeed   = 17.0 // characters a second that are read with ease
	minCue      = 1.0  // seconds; shorter ones flash by
	maxCue      = 7.0  // seconds
	cueGap      = 0.04 // seconds between two cues: a frame, so that a change is seen
	cueCapacity = lineWidth * maxLines
)

// cue is one subtitle.
type cue struct {
	start, end float64
	speaker    string
	lines      []string
}

// unit is what is not broken: a word, or a character of a script without spaces.
type unit struct {
	text       string
	space      bool // a space stands before it
	start, end float64
}

// cues cuts a transcript to subtitles.
func cues(segs []Segment) []cue {
	var out []cue
	for _, s := range segs {
		for _, group := range split(units(s)) {
			c := cue{start: group[0].start, end: group[len(group)-1].end, speaker: clean(s.Speaker), lines: wrap(group)}
			out = append(out, c)
		}
	}
	for i := range out {
		// A short cue stays until it can be read, if the next one leaves it the time.
		want := max(minCue, float64(chars(out[i].lines))/readSpeed)
		end := max(out[i].end, min(out[i].start+want, out[i].start+maxCue))
		if i+1 < len(out) {
			end = min(end, max(out[i+1].start-cueGap, out[i].start))
		}
		out[i].end = max(end, out[i].start+0.001)
	}
	return out
}

func chars(lines []string) int {
	n := 0
	for _, l := range lines {
		n += width(l)
	}
	return n
}

// units takes a segment apart, with a time for each unit: its word's where words were timed, else its share of the segment by
// length.
func units(s Segment) []unit {
	var us []unit
	if len(s.Words) > 0 {
		for i, w := range s.Words {
			text := clean(w.Text)
			if text == "" {
				continue
			}
			space := i > 0 && !(spacelessEnd(s.Words[i-1].Text) && spacelessStart(text))
			us = append(us, unit{text, space, w.Start, w.End})
		}
		return us
	}
	text := clean(s.Text)
	total := max(1, width(text))
	at := 0
	for i, word := range strings.Fields(text) {
		for j, part := range pieces(word) {
			n := width(part)
			us = append(us, unit{
				text: part, space: i > 0 && j == 0,
				start: s.Start + (s.End-s.Start)*float64(at)/float64(total), end: s.Start + (s.End-s.Start)*float64(at+n)/float64(total),
			})
			at += n
		}
		at++
	}
	return us
}

// pieces breaks a run of a spaceless script into characters, closing punctuation kept with what it closes, and a word longer
// than a line into lines.
func pieces(word string) []string {
	var out []string
	cur := ""
	for _, r := range word {
		breakable := spaceless(r) && !strings.ContainsRune("。、！？，．」』）…ー", r)
		if cur != "" && (breakable || width(cur) >= lineWidth-1) {
			out = append(out, cur)
			cur = ""
		}
		cur += string(r)
	}
	return append(out, cur)
}

// split groups units to cues: as much as fits two lines and the longest time, broken at the end of a sentence or clause
// where there is one in the second half.
func split(us []unit) [][]unit {
	var out [][]unit
	for len(us) > 0 {
		n := 1
		for n < len(us) && fits(us[:n+1]) {
			n++
		}
		if n < len(us) {
			n = breakAt(us, n)
		}
		out = append(out, us[:n])
		us = us[n:]
	}
	return out
}

func fits(us []unit) bool {
	return len(wrapGreedy(us)) <= maxLines && us[len(us)-1].end-us[0].start <= maxCue
}

// breakAt is the best place to end a cue of at most n units.
func breakAt(us []unit, n int) int {
	for _, marks := range []string{".!?…。！？", ",;:，、；："} {
		for i := n; i > n/2; i-- {
			if strings.ContainsAny(lastRune(us[i-1].text), marks) {
				return i
			}
		}
	}
	if rest := us[n:]; fits(rest) {
		// Two even cues rather than a full one and a word that flashes by.
		return max(1, min(n, (len(us)+1)/2))
	}
	return n
}

// wrap sets a cue in one line, or in two of about equal width, the break at a clause where that is near.
func wrap(us []unit) []string {
	if one := line(us); width(one) <= lineWidth {
		return []string{one}
	}
	best, at := 1<<30, 0
	for i := 1; i < len(us); i++ {
		a, b := width(line(us[:i])), width(line(us[i:]))
		if a > lineWidth || b > lineWidth {
			continue
		}
		cost := abs(a - b)
		if strings.ContainsAny(lastRune(us[i-1].text), ".,;:!?…。、，！？") {
			cost -= 12
		}
		if cost < best {
			best, at = cost, i
		}
	}
	if at == 0 {
		return wrapGreedy(us)
	}
	return []string{line(us[:at]), line(us[at:])}
}

// wrapGreedy fills lines one after the other.
func wrapGreedy(us []unit) []string {
	var lines []string
	for len(us) > 0 {
		n := 1
		for n < len(us) && width(line(us[:n+1])) <= lineWidth {
			n++
		}
		lines = append(lines, line(us[:n]))
		us = us[n:]
	}
	return lines
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

// width counts characters, full-width ones twice.
func width(s string) int {
	n := utf8.RuneCountInString(s)
	for _, r := range s {
		if spaceless(r) && r >= 0x3000 || r >= 0xac00 && r <= 0xd7a3 {
			n++
		}
	}
	return n
}

func abs(n int) int { return max(n, -n) }

func writeSRT(w io.Writer, t Transcript) error {
	var b strings.Builder
	for i, c := range cues(t.Segments) {
		text := strings.Join(c.lines, "\n")
		if c.speaker != "" {
			text = "[" + c.speaker + "] " + text
		}
		// An arrow in the text would start a new cue for a reader.
		text = strings.ReplaceAll(text, "-->", "→")
		fmt.Fprintf(&b, "%d\n%s --> %s\n%s\n\n", i+1, stamp(c.start, ","), stamp(c.end, ","), text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeVTT(w io.Writer, t Transcript) error {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	var b strings.Builder
	b.WriteString("WEBVTT\n")
	for _, c := range cues(t.Segments) {
		text := escape.Replace(strings.Join(c.lines, "\n"))
		if c.speaker != "" {
			text = "<v " + escape.Replace(c.speaker) + ">" + text
		}
		fmt.Fprintf(&b, "\n%s --> %s\n%s\n", stamp(c.start, "."), stamp(c.end, "."), text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// stamp is hours:minutes:seconds with milliseconds after sep; hours may have more than two digits.
func stamp(seconds float64, sep string) string {
	ms := int64(seconds*1000 + 0.5)
	return fmt.Sprintf("%02d:%02d:%02d%s%03d", ms/3600000, ms/60000%60, ms/1000%60, sep, ms%1000)
}
