package transcript

import (
	"archive/zip"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// A docx file is a zip of XML parts (ECMA-376). These fixed ones and the document are all that a word processor needs; the
// modules that write more are either under a licence that users cannot take or many times this file.
const (
	wordNS    = `xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"`
	docxTypes = xml.Header + `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Default Extension="xml" ContentType="application/xml"/>` +
		`<Override PartName="/word/document.xml" ` +
		`ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>` +
		`<Override PartName="/word/styles.xml" ` +
		`ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/>` +
		`<Override PartName="/docProps/core.xml" ContentType="application/vnd.openxmlformats-package.core-properties+xml"/></Types>`
	docxRels = xml.Header + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Target="word/document.xml" ` +
		`Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/>` +
		`<Relationship Id="rId2" Target="docProps/core.xml" ` +
		`Type="http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"/></Relationships>`
	docxDocRels = xml.Header + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Target="styles.xml" ` +
		`Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles"/></Relationships>`
	docxStyles = xml.Header + `<w:styles ` + wordNS + `>` +
		`<w:docDefaults><w:rPrDefault><w:rPr><w:sz w:val="22"/><w:szCs w:val="22"/></w:rPr></w:rPrDefault></w:docDefaults>` +
		`<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/>` +
		`<w:pPr><w:spacing w:after="120"/></w:pPr></w:style>` +
		`<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/><w:basedOn w:val="Normal"/>` +
		`<w:rPr><w:b/><w:bCs/><w:sz w:val="36"/><w:szCs w:val="36"/></w:rPr></w:style>` +
		`<w:style w:type="character" w:customStyle="1" w:styleId="Time"><w:name w:val="Time"/>` +
		`<w:rPr><w:color w:val="808080"/><w:sz w:val="18"/><w:szCs w:val="18"/></w:rPr></w:style></w:styles>`
)

const (
	runTime = `<w:rStyle w:val="Time"/>`
	runBold = `<w:b/><w:bCs/>`
)

// writeDOCX writes a title, a table of facts, and a paragraph per stretch of speech with its time and speaker.
func writeDOCX(w io.Writer, t Transcript, o Options) error {
	title := clean(o.Title)
	var d strings.Builder
	d.WriteString(xml.Header + `<w:document ` + wordNS + `><w:body>`)
	if title != "" {
		d.WriteString(`<w:p><w:pPr><w:pStyle w:val="Title"/>` + bidi(title) + `</w:pPr>` + docxRun(title, "") + `</w:p>`)
	}
	d.WriteString(docxTable(facts(t, title)) + `<w:p/>`)
	for _, p := range paragraphs(t.Segments) {
		text := clean(Text(p))
		if text == "" {
			continue
		}
		d.WriteString(`<w:p><w:pPr>` + bidi(text) + `</w:pPr>` + docxRun(clock(p[0].Start)+"  ", runTime))
		if speaker := clean(p[0].Speaker); speaker != "" {
			d.WriteString(docxRun(speaker+": ", runBold))
		}
		d.WriteString(docxRun(text, "") + `</w:p>`)
	}
	d.WriteString(`<w:sectPr/></w:body></w:document>`)
	return zipParts(w, [][2]string{
		{"[Content_Types].xml", docxTypes}, {"_rels/.rels", docxRels}, {"docProps/core.xml", docxCore(title)},
		{"word/_rels/document.xml.rels", docxDocRels}, {"word/styles.xml", docxStyles}, {"word/document.xml", d.String()},
	})
}

// facts are the rows of the table: those that are known.
func facts(t Transcript, title string) [][2]string {
	all := [][2]string{
		{"File", title}, {"Duration", clock(t.Duration)}, {"Language", clean(t.Language)}, {"Model", clean(t.Model)},
	}
	if t.Language != "" && t.LanguageProb > 0 && t.LanguageProb < 1 {
		all[2][1] += fmt.Sprintf(" (%.0f %%)", 100*t.LanguageProb)
	}
	var known [][2]string
	for _, row := range all {
		if row[1] != "" {
			known = append(known, row)
		}
	}
	return known
}

func docxTable(rows [][2]string) string {
	var b strings.Builder
	b.WriteString(`<w:tbl><w:tblPr><w:tblW w:w="0" w:type="auto"/></w:tblPr>` +
		`<w:tblGrid><w:gridCol w:w="1700"/><w:gridCol w:w="7300"/></w:tblGrid>`)
	for _, row := range rows {
		b.WriteString(`<w:tr>`)
		for i, props := range []string{runBold, ""} {
			fmt.Fprintf(&b, `<w:tc><w:tcPr><w:tcW w:w="%d" w:type="dxa"/></w:tcPr>`, []int{1700, 7300}[i])
			b.WriteString(`<w:p><w:pPr><w:spacing w:after="0"/></w:pPr>` + docxRun(row[i], props) + `</w:p></w:tc>`)
		}
		b.WriteString(`</w:tr>`)
	}
	return b.String() + `</w:tbl>`
}

func docxCore(title string) string {
	return xml.Header + `<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" ` +
		`xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>` + escapeXML(title) + `</dc:title>` +
		`<dc:creator>steno</dc:creator></cp:coreProperties>`
}

func zipParts(w io.Writer, parts [][2]string) error {
	z := zip.NewWriter(w)
	for _, part := range parts {
		// A fixed time makes equal transcripts equal files; zip knows none before 1980.
		f, err := z.CreateHeader(&zip.FileHeader{
			Name: part[0], Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC),
		})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(f, part[1]); err != nil {
			return err
		}
	}
	return z.Close()
}

// docxRun is a run of clean text with its properties.
func docxRun(text, props string) string {
	if rightToLeft(text) {
		props += `<w:rtl/>`
	}
	if props != "" {
		props = `<w:rPr>` + props + `</w:rPr>`
	}
	return `<w:r>` + props + `<w:t xml:space="preserve">` + escapeXML(text) + `</w:t></w:r>`
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder does not fail
	return b.String()
}

// bidi makes a paragraph run from the right where its text does.
func bidi(text string) string {
	if rightToLeft(text) {
		return `<w:bidi/>`
	}
	return ""
}

// rightToLeft reports whether the first letter of text is Hebrew, Arabic or a relative.
func rightToLeft(text string) bool {
	for _, r := range text {
		if unicode.IsLetter(r) {
			return unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko)
		}
	}
	return false
}

// clock is hours:minutes:seconds, for people.
func clock(seconds float64) string {
	s := int64(seconds)
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
