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

// A docx file is a zip of XML parts (ECMA-376). Three fixed ones and the document are all that a word processor needs; the
// modules that write more are either under a licence that users cannot take or many times this file.
const (
	docxTypes = xml.Header + `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Default Extension="xml" ContentType="application/xml"/>` +
		`<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>` +
		`<Override PartName="/word/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/></Types>`
	docxRels = xml.Header + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>`
	docxDocRels = xml.Header + `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` +
		`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>`
	docxStyles = xml.Header + `<w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">` +
		`<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/><w:pPr><w:spacing w:after="120"/></w:pPr></w:style>` +
		`<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/><w:basedOn w:val="Normal"/><w:rPr><w:b/><w:sz w:val="32"/></w:rPr></w:style>` +
		`<w:style w:type="character" w:styleId="Time"><w:name w:val="Time"/><w:rPr><w:color w:val="808080"/><w:sz w:val="18"/></w:rPr></w:style></w:styles>`
)

// writeDOCX writes a title, a line of facts, and a paragraph per stretch of speech with its time and speaker.
func writeDOCX(w io.Writer, t Transcript, o Options) error {
	var d strings.Builder
	d.WriteString(xml.Header + `<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>`)
	if o.Title != "" {
		d.WriteString(`<w:p><w:pPr><w:pStyle w:val="Title"/></w:pPr>` + docxRun(o.Title, "") + `</w:p>`)
	}
	facts := fmt.Sprintf("%s · %s · %s", clock(t.Duration), t.Language, t.Model)
	d.WriteString(`<w:p>` + docxRun(facts, `<w:rStyle w:val="Time"/>`) + `</w:p>`)
	for _, p := range paragraphs(t.Segments) {
		text := Text(p)
		d.WriteString(`<w:p>`)
		if rightToLeft(text) {
			d.WriteString(`<w:pPr><w:bidi/></w:pPr>`)
		}
		d.WriteString(docxRun(clock(p[0].Start)+"  ", `<w:rStyle w:val="Time"/>`))
		if p[0].Speaker != "" {
			d.WriteString(docxRun(p[0].Speaker+": ", `<w:b/>`))
		}
		d.WriteString(docxRun(text, "") + `</w:p>`)
	}
	d.WriteString(`<w:sectPr/></w:body></w:document>`)
	z := zip.NewWriter(w)
	for _, part := range []struct{ name, data string }{
		{"[Content_Types].xml", docxTypes}, {"_rels/.rels", docxRels}, {"word/_rels/document.xml.rels", docxDocRels},
		{"word/styles.xml", docxStyles}, {"word/document.xml", d.String()},
	} {
		// A fixed time makes equal transcripts equal files; zip knows none before 1980.
		f, err := z.CreateHeader(&zip.FileHeader{Name: part.name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(f, part.data); err != nil {
			return err
		}
	}
	return z.Close()
}

// docxRun is a run of text with its properties.
func docxRun(text, props string) string {
	if rightToLeft(text) {
		props += `<w:rtl/>`
	}
	if props != "" {
		props = `<w:rPr>` + props + `</w:rPr>`
	}
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(clean(text))) // a strings.Builder does not fail
	return `<w:r>` + props + `<w:t xml:space="preserve">` + b.String() + `</w:t></w:r>`
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
