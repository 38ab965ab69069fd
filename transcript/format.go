package transcript

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Format is an output format.
type Format string

// The formats that are written.
const (
	TXT  Format = "txt"
	SRT  Format = "srt"
	VTT  Format = "vtt"
	JSON Format = "json"
	DOCX Format = "docx"
)

// Formats lists them all.
func Formats() []Format { return []Format{TXT, SRT, VTT, JSON, DOCX} }

// ParseFormats reads a list of formats with commas between; "all" stands for every one. Doubles are dropped.
func ParseFormats(list string) ([]Format, error) {
	if list == "all" {
		return Formats(), nil
	}
	var out []Format
	for name := range strings.SplitSeq(list, ",") {
		f := Format(strings.ToLower(strings.TrimSpace(name)))
		if f == "text" {
			f = TXT
		}
		if !slices.Contains(Formats(), f) {
			return nil, fmt.Errorf("format %q is not known: choose from txt, srt, vtt, json, docx", name)
		}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out, nil
}

// Extension is the file name's ending, without the dot.
func (f Format) Extension() string { return string(f) }

// ContentType is the media type for HTTP.
func (f Format) ContentType() string {
	switch f {
	case SRT:
		return "application/x-subrip; charset=utf-8"
	case VTT:
		return "text/vtt; charset=utf-8"
	case JSON:
		return "application/json"
	case DOCX:
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	default:
		return "text/plain; charset=utf-8"
	}
}

// Options are what a writer needs besides the transcript.
type Options struct {
	// Title heads a document; usually the recording's file name.
	Title string
}

// Write writes t in format f.
func Write(w io.Writer, f Format, t Transcript, o Options) error {
	var err error
	switch f {
	case TXT:
		err = writeText(w, t)
	case SRT:
		err = writeSRT(w, t)
	case VTT:
		err = writeVTT(w, t)
	case JSON:
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(t)
	case DOCX:
		err = writeDOCX(w, t, o)
	default:
		return fmt.Errorf("format %q is not known: choose from txt, srt, vtt, json, docx", f)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f, err)
	}
	return nil
}

const (
	// paragraphPause starts a new paragraph, in seconds: longer than a breath between sentences.
	paragraphPause = 2.0
	// paragraphChars is after how many bytes the next end of a sentence starts one, so that a monologue can be read.
	paragraphChars = 600
)

// paragraphs groups segments for reading: by speaker, by pauses, and by length at the end of a sentence.
func paragraphs(segs []Segment) [][]Segment {
	var out [][]Segment
	size := 0
	for i, s := range segs {
		if i > 0 {
			prev := segs[i-1]
			long := size > paragraphChars && endsSentence(prev.Text)
			if s.Speaker == prev.Speaker && s.Start-prev.End < paragraphPause && !long {
				out[len(out)-1] = append(out[len(out)-1], s)
				size += len(s.Text)
				continue
			}
		}
		out = append(out, []Segment{s})
		size = len(s.Text)
	}
	return out
}

func endsSentence(s string) bool {
	return strings.HasSuffix(strings.TrimRight(s, `"'”’»)`), ".") || strings.ContainsAny(lastRune(strings.TrimRight(s, `"'”’»)`)), "!?…。！？")
}

func lastRune(s string) string {
	r := []rune(s)
	if len(r) == 0 {
		return ""
	}
	return string(r[len(r)-1])
}

func writeText(w io.Writer, t Transcript) error {
	var b strings.Builder
	for i, p := range paragraphs(t.Segments) {
		if i > 0 {
			b.WriteByte('\n')
		}
		if p[0].Speaker != "" {
			b.WriteString(p[0].Speaker + ": ")
		}
		b.WriteString(clean(Text(p)) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clean drops control characters, which no text format can hold and no speaker says.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < 0x20, r == 0x7f, r >= 0xfffe && r <= 0xffff, r >= 0xd800 && r <= 0xdfff:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
