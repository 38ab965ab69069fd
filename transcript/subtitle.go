package transcript

import (
	"fmt"
	"io"
	"strings"
)

func writeSRT(w io.Writer, t Transcript) error {
	var b strings.Builder
	for i, c := range cuesOf(t.Segments, true) {
		// An arrow in the text would start a new cue for a reader.
		text := strings.ReplaceAll(strings.Join(c.lines, "\n"), "-->", "→")
		fmt.Fprintf(&b, "%d\n%s --> %s\n%s\n\n", i+1, stamp(c.start, ","), stamp(c.end, ","), text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeVTT(w io.Writer, t Transcript) error {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	var b strings.Builder
	b.WriteString("WEBVTT\n")
	for _, c := range cuesOf(t.Segments, false) {
		text := escape.Replace(strings.Join(c.lines, "\n"))
		if c.speaker != "" {
			name := escape.Replace(c.speaker)
			if strings.HasSuffix(name, "--") {
				name += " " // readers drop it; without it, the tag's end would make an arrow
			}
			text = "<v " + name + ">" + text
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
