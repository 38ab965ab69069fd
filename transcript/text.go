package transcript

import (
	"io"
	"strings"
)

const (
	// paragraphPause starts a new paragraph, in seconds: longer than a breath between sentences.
	paragraphPause = 2.0
	// paragraphWidth is after how many columns the next end of a sentence starts one, so that a monologue can be read; the
	// end of any segment does so after twice as many, for some models leave the stops out.
	paragraphWidth = 600
)

// paragraphs groups segments for reading: by speaker, by pauses, and by length at the end of a sentence.
func paragraphs(segs []Segment) [][]Segment {
	var out [][]Segment
	size := 0
	for i, s := range segs {
		if i > 0 {
			prev := segs[i-1]
			long := size > paragraphWidth && endsSentence(prev.Text) || size > 2*paragraphWidth
			if s.Speaker == prev.Speaker && s.Start-prev.End < paragraphPause && !long {
				out[len(out)-1] = append(out[len(out)-1], s)
				size += width(s.Text)
				continue
			}
		}
		out = append(out, []Segment{s})
		size = width(s.Text)
	}
	return out
}

// Line is one segment to read along: its times from the start of the recording, the speaker where it is known, and the text.
func Line(s Segment) string {
	text := clean(s.Text)
	if speaker := clean(s.Speaker); speaker != "" {
		text = speaker + ": " + text
	}
	return "[" + stamp(s.Start, ".") + " --> " + stamp(s.End, ".") + "] " + text
}

func writeText(w io.Writer, t Transcript) error {
	var b strings.Builder
	for _, p := range paragraphs(t.Segments) {
		text := clean(Text(p))
		if text == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		if speaker := clean(p[0].Speaker); speaker != "" {
			b.WriteString(speaker + ": ")
		}
		b.WriteString(text + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
