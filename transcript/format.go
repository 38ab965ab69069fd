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
		err = writeJSON(w, t)
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

// writeJSON writes empty lists as such: clients loop over them without a look.
func writeJSON(w io.Writer, t Transcript) error {
	if t.Segments == nil {
		t.Segments = []Segment{}
	}
	if t.Plan == nil {
		t.Plan = []Choice{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(t)
}
