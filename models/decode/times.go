package decode

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Whisper's timestamps tell well where speech parts into sentences, but when that is often to a second only. The VAD tells to
// a frame when somebody speaks, but not what. So times within a pause move to the voice, and where a sentence ends shortly
// before or after a pause, it ends at the pause.

const (
	// boundaryReach is how far the end of a sentence may lie from the pause that it means: 0.5 s.
	boundaryReach = rate * 5 / 10
	// seekReach is the same for the end of the window before: so much voice before a pause was not worth another run.
	seekReach = leftOverSlack + minLeftOver - speechPad
	// touching is how near a start follows an end where both are one timestamp, or two next to each other, in seconds.
	touching = 0.1
)

// settle moves the times of a window's pieces to where the VAD hears the voice. The window starts at sample from; goesOn says
// that the next one starts at its last timestamp.
func (d *decoder) settle(pieces []piece, from int, goesOn bool) {
	at := func(t float64) int { return from + int(t*rate) }
	seconds := func(sample int) float64 { return float64(sample-from) / rate }
	var pauses []span
	for i := 1; i < len(d.voice); i++ {
		pauses = append(pauses, span{d.voice[i-1].end, d.voice[i].start})
	}
	for i := range pieces {
		p := &pieces[i]
		switch {
		case i > 0 && endsSentence(pieces[i-1].text) && p.start-pieces[i-1].end < touching:
			prev := &pieces[i-1]
			if q, ok := nearest(pauses, at(p.start), boundaryReach); ok && q.start > at(prev.start) && q.end < at(p.end) {
				prev.end, p.start = seconds(q.start), seconds(q.end)
			}
		case i == 0 && endsSentence(d.said()) && p.start < touching:
			if q, ok := nearest(pauses, at(p.start), seekReach); ok && q.end < at(p.end) {
				p.start = seconds(q.end)
			}
		}
	}
	if n := len(pieces); n > 0 && goesOn && endsSentence(pieces[n-1].text) {
		p := &pieces[n-1]
		if q, ok := nearest(pauses, at(p.end), boundaryReach); ok && q.start > at(p.start) && q.start < at(p.end) {
			p.end = seconds(q.start)
		}
	}
	for i := range pieces {
		p := &pieces[i]
		for _, v := range d.voice {
			if v.end > at(p.start) { // the first voice that is not over
				if v.start > at(p.start) && v.start < at(p.end) {
					p.start = seconds(v.start)
				}
				break
			}
		}
		for _, v := range slices.Backward(d.voice) {
			if v.start < at(p.end) { // the last voice that has begun
				if v.end < at(p.end) && v.end > at(p.start) {
					p.end = seconds(v.end)
				}
				break
			}
		}
	}
}

// nearest is the pause nearest to the sample t, at most reach away.
func nearest(pauses []span, t, reach int) (q span, ok bool) {
	for _, p := range pauses {
		if away := max(p.start-t, t-p.end, 0); away <= reach {
			q, ok, reach = p, true, away
		}
	}
	return q, ok
}

// said is the text of the last segment.
func (d *decoder) said() string {
	if len(d.result.Segments) == 0 {
		return ""
	}
	return d.result.Segments[len(d.result.Segments)-1].Text
}

// endsSentence tells whether text ends in punctuation, after which people pause.
func endsSentence(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(strings.TrimSpace(text))
	return unicode.IsPunct(r)
}
