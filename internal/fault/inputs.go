package fault

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// What must come of a hostile or odd file.
const (
	asSpeech  = "done"    // a transcript
	asSilence = "silence" // a transcript without a word
	asRefused = "refused" // an error of class INPUT, at the upload or of the job
	asEither  = "either"  // one of the two: a file that is cut may be long enough, or say itself that it is not
)

// input is a file that a user may send.
type input struct {
	name string
	data []byte
	want string
}

// inputs makes the files of F9, with ffmpeg where a format is needed. Those that name others name the canary's. Bombs hold twelve
// minutes; the node takes one.
func inputs(ctx context.Context, folder string, c *canary) ([]input, error) {
	m := maker{ctx: ctx, folder: folder}
	tone := []string{"-f", "lavfi", "-i", "aevalsrc='0.4*sin(330*2*PI*t)*gt(mod(t,2),0.4)':s=44100:d=12"}
	enc := func(name string, source []string, args ...string) []byte {
		return m.ffmpeg(name, append(append([]string{}, source...), args...)...)
	}
	formats := map[string][]byte{
		"a.wav": enc("a.wav", tone), "a.mp3": enc("a.mp3", tone), "a.flac": enc("a.flac", tone), "a.m4a": enc("a.m4a", tone),
		"fast.m4a": enc("fast.m4a", tone, "-movflags", "faststart"), "a.ogg": enc("a.ogg", tone, "-c:a", "libvorbis"),
		"a.webm": enc("a.webm", tone, "-c:a", "libopus"), "a.mkv": enc("a.mkv", tone, "-c:a", "aac"),
	}
	all := []input{
		{"empty.wav", nil, asRefused}, {"byte.mp3", []byte{0xff}, asRefused}, {"header.wav", formats["a.wav"][:44], asRefused},
		{"silent.wav", wav(make([]int16, 10*rate)), asSilence}, {"offset.wav", wav(level(10*rate, 8000)), asSilence},
		{"blip.wav", wav(square(rate / 20)), asEither}, {"clipped.wav", wav(square(10 * rate)), asSpeech},
		{"8khz.wav", enc("8.wav", tone, "-ar", "8000"), asSpeech}, {"192khz.wav", enc("192.wav", tone, "-ar", "192000"), asSpeech},
		{"surround.flac", enc("7.flac", tone, "-af", "pan=7.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0|c6=c0|c7=c0"), asSpeech},
		{"channels.wav", patched(formats["a.wav"], 22, 0, 0), asRefused},
		{"endless.wav", patched(patched(formats["a.wav"], 4, 255, 255, 255, 255), 40, 255, 255, 255, 255), asEither},
		{"video.mp4", m.ffmpeg("v.mp4", "-f", "lavfi", "-i", "testsrc=d=2:s=64x64", "-c:v", "mpeg4"), asRefused},
		{"picture.png", m.ffmpeg("p.png", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-frames:v", "1"), asRefused},
		{"cover.mp3", enc("c.mp3", tone, "-f", "lavfi", "-i", "testsrc=d=1:s=64x64:r=1", "-map", "0", "-map", "1", "-frames:v", "1",
			"-c:v", "mjpeg", "-disposition:v", "attached_pic"), asSpeech},
		{"nan.wav", floats(10*rate, math.NaN()), asEither}, {"inf.wav", floats(10*rate, math.Inf(1)), asEither},
		{"archive.m4a", append([]byte("PK\x03\x04"), make([]byte, 400)...), asRefused},
		{"paper.wav", []byte("%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"), asRefused},
		{"page.mp3", []byte("<!doctype html><title>404</title><p>Not found"), asRefused},
		{"words.ogg", []byte(strings.Repeat("just some words\n", 100)), asRefused},
		{"program.wav", append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 4000)...), asRefused},
		{"subtitles.mp4", []byte("1\n00:00:00,000 --> 00:00:05,000\nwords\n"), asRefused},
		{"packed.flac", append([]byte{0x1f, 0x8b, 8, 0}, make([]byte, 600)...), asRefused},
		{"zeros.mp3", make([]byte, 100_000), asRefused},
	}
	for name, data := range formats {
		want := asRefused
		if name == "a.wav" || name == "a.mp3" || name == "a.ogg" || name == "a.webm" || name == "a.mkv" { // it may not show
			want = asEither
		}
		all = append(all, input{"cut-" + name, data[:len(data)*6/10], want})
	}
	names := strings.NewReplacer("{file}", c.path, "{url}", c.url)
	for i, text := range []string{
		"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n{file}\n#EXT-X-ENDLIST\n",
		"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n{url}\n#EXT-X-ENDLIST\n",
		"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\nself.mp3\n#EXT-X-ENDLIST\n",
		"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
		"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXT-X-KEY:METHOD=AES-128,URI=\"{file}\"\n#EXTINF:20,\n{url}\n",
		"ffconcat version 1.0\nfile '{file}'\n",
		"ffconcat version 1.0\nfile '../canary.mp3'\n",
		"ffconcat version 1.0\nfile 'subfile,,start,0,end,0,,:{file}'\n",
		`<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation>` +
			`<BaseURL>{file}</BaseURL></Representation></AdaptationSet></Period></MPD>`,
		"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=control:{url}\n",
		`<asx version="3.0"><entry><ref href="{url}"/></entry></asx>`, `<smil><body><audio src="{file}"/></body></smil>`,
		"[playlist]\nFile1={file}\nNumberOfEntries=1\n", "concat:{file}|{file}", "{url}\n",
	} {
		name := fmt.Sprintf("list%d%s", i, []string{".mp3", ".mp4", ".wav", ".m3u8", ".ogg"}[i%5])
		all = append(all, input{name, []byte(names.Replace(text)), asRefused})
	}
	silence := []string{"-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono:d=720"}
	for name, args := range map[string][]string{
		"bomb.flac": {"-c:a", "flac"}, "bomb.opus": {"-c:a", "libopus", "-b:a", "6k"}, "bomb.m4a": {"-c:a", "aac", "-b:a", "8k"},
		"bomb.mp3": {"-b:a", "8k"}, "bomb.mkv": {"-c:a", "flac"}, "bomb.ogg": {"-c:a", "libvorbis"},
		"bomb.webm": {"-c:a", "libopus", "-b:a", "6k"},
	} {
		all = append(all, input{name, enc(name, silence, args...), asRefused})
	}
	flac := m.read("bomb.flac")
	all = append(all, // the same, with a length of none, and of a second
		input{"bomb-unsaid.flac", patched(flac, 21, flac[21]&0xf0, 0, 0, 0, 0), asRefused},
		input{"bomb-short.flac", patched(flac, 21, flac[21]&0xf0, 0, 0, 0x1f, 0x40), asRefused},
		input{"bomb-streamed.webm", m.pipe("bomb.webm", "webm"), asRefused},
		input{"bomb-streamed.mkv", m.pipe("bomb.mkv", "matroska"), asRefused},
		input{"bomb-pieces.mp4", m.ffmpeg("bomb.mp4", "-i", filepath.Join(folder, "bomb.m4a"), "-c", "copy",
			"-movflags", "frag_keyframe+empty_moov"), asRefused},
	)
	return all, m.err
}

// maker runs ffmpeg and keeps the first error.
type maker struct {
	ctx    context.Context
	folder string
	err    error
}

func (m *maker) ffmpeg(name string, args ...string) []byte {
	if m.err == nil {
		m.err = command(m.ctx, "ffmpeg", append(append([]string{"-y", "-v", "error"}, args...), filepath.Join(m.folder, name))...)
	}
	return m.read(name)
}

// pipe copies a file to one that cannot say how long it is.
func (m *maker) pipe(name, format string) []byte {
	out := filepath.Join(m.folder, "piped-"+name)
	if m.err == nil {
		m.err = command(m.ctx, "sh", "-c", `ffmpeg -v error -i "$0" -c copy -f "$1" - | cat >"$2"`,
			filepath.Join(m.folder, name), format, out)
	}
	return m.read("piped-" + name)
}

func (m *maker) read(name string) []byte {
	if m.err != nil {
		return make([]byte, 64) // nobody uses it
	}
	var data []byte
	data, m.err = os.ReadFile(filepath.Join(m.folder, name))
	return data
}

// patched is a copy with other bytes at an offset.
func patched(data []byte, at int, with ...byte) []byte {
	c := append([]byte{}, data...)
	copy(c[at:], with)
	return c
}

func level(n int, value int16) []int16 {
	s := make([]int16, n)
	for i := range s {
		s[i] = value
	}
	return s
}

// square is as loud as can be.
func square(n int) []int16 {
	s := make([]int16, n)
	for i := range s {
		s[i] = math.MaxInt16
		if i/40%2 == 1 {
			s[i] = math.MinInt16
		}
	}
	return s
}

// floats is a WAV file of 32-bit floats of which each tenth is value and the others a tone.
func floats(n int, value float64) []byte {
	data := wav(make([]int16, 2*n)) // room for four bytes each
	binary.LittleEndian.PutUint16(data[20:], 3)
	binary.LittleEndian.PutUint32(data[28:], 4*rate)
	binary.LittleEndian.PutUint16(data[32:], 4)
	binary.LittleEndian.PutUint16(data[34:], 32)
	for i := range n {
		v := 0.3 * math.Sin(float64(i)/10)
		if i%10 == 0 {
			v = value
		}
		binary.LittleEndian.PutUint32(data[44+4*i:], math.Float32bits(float32(v)))
	}
	return data
}
