package audio

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"steno/internal/testmedia"
)

// keeping are the tools with a scratch folder of the test's own.
func keeping(t testing.TB) Tools {
	t.Helper()
	tl := tools(t)
	tl.Scratch = t.TempDir()
	return tl
}

// held are the open descriptors of this process for files in a folder, named or not, and the names there.
func held(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, names...)
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(links) == 0 {
		t.Fatal("no descriptors to look at", err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			found = append(found, target)
		}
	}
	return found
}

// apart is the largest difference between two lists of chunks, in steps of 16 bits.
func apart(t testing.TB, got, want []Chunk) int {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d chunks, want %d, and some", len(got), len(want))
	}
	most := 0
	for i := range got {
		if got[i].Span != want[i].Span || len(got[i].PCM) != len(want[i].PCM) {
			t.Fatalf("chunk %d is %v, want %v", i, got[i].Span, want[i].Span)
		}
		for k := range got[i].PCM {
			d := int(got[i].PCM[k]) - int(want[i].PCM[k])
			most = max(most, d, -d)
		}
	}
	return most
}

// speech is 24 s of a voice, silences and a voice again, at a level in dB, as ffmpeg's arguments before the output.
func speech(t testing.TB, level string) []string {
	t.Helper()
	path := testmedia.Synthetic(t)[1].Path
	return []string{"-i", path, "-i", path, "-filter_complex", "[0]apad=whole_dur=14[a];[1]apad=whole_dur=10[b];" +
		"[a][b]concat=n=2:v=0:a=1,volume=" + level + "dB:precision=float"}
}

// TestKeptAudioIsThatOfASecondDecode compares what the stream gives from disk with what ffmpeg gives, which rounds once less.
func TestKeptAudioIsThatOfASecondDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, level string
		encoding          []string
		want              Want
		most              int
	}{
		{"wav", "a.wav", "0", nil, Want{}, 1},
		{"mp3", "a.mp3", "0", []string{"-ar", "44100", "-ac", "2", "-c:a", "libmp3lame", "-b:a", "96k"}, Want{}, 1},
		{"flac", "a.flac", "0", []string{"-ar", "48000", "-c:a", "flac"}, Want{}, 1},
		{"opus", "a.opus", "0", []string{"-ar", "48000", "-c:a", "libopus", "-b:a", "32k"}, Want{}, 1},
		{"raised by all of 30 dB", "a.flac", "-48", []string{"-sample_fmt", "s32"}, Want{}, 1},
		{"lowered from above full scale", "a.wav", "14", []string{"-c:a", "pcm_f32le"}, Want{}, 1},
		{"clipped", "a.wav", "6", []string{"-c:a", "pcm_f32le"}, Want{Loudness: "off"}, 2}, // in steps of what was above full scale
		{"short chunks", "a.wav", "0", nil, Want{ChunkSeconds: 5}, 1},
		{"silence kept", "a.wav", "0", nil, Want{ChunkSeconds: 5, Silence: "keep"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := media(t, c.file, append(speech(t, c.level), c.encoding...)...)
			tl := keeping(t)
			kept, got, err := all(t.Context(), tl, path, c.want)
			if err != nil {
				t.Fatal(err)
			}
			tl.MaxScratch = -1
			decoded, want, err := all(t.Context(), tl, path, c.want)
			if err != nil {
				t.Fatal(err)
			}
			if kept.decoder != nil || decoded.decoder == nil {
				t.Error("want one stream from disk and one from a second decode")
			}
			if most := apart(t, got, want); most > c.most {
				t.Errorf("samples are up to %d apart, want %d at most", most, c.most)
			}
		})
	}
}

// Audio of 16 bits that is not to be changed is not changed.
func TestKeptAudioIsExact(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"loud":  "anoisesrc=r=16000:d=20:a=0.9:seed=1",
		"quiet": "anoisesrc=r=16000:d=20:a=0.01:seed=1",
		"both":  "aevalsrc=(random(0)-0.5)*pow(10\\,-mod(t\\,4)):s=16000:d=20",
	} {
		path := media(t, "a.wav", "-f", "lavfi", "-i", source, "-c:a", "pcm_s16le")
		s, chunks, err := all(t.Context(), keeping(t), path, Want{Loudness: "off", Silence: "keep"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "s16le", "-").Output()
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, c := range chunks {
			for _, v := range c.PCM {
				got = append(got, byte(v), byte(uint16(v)>>8))
			}
		}
		if s.decoder != nil || !slices.Equal(got, raw) {
			t.Errorf("%s: %d bytes that differ from the file's %d, want the same", name, len(got), len(raw))
		}
	}
}

// Whatever is kept and wherever it is read, a sample is off by no more than half a step of its block.
func TestSpoolKeepsEveryLevel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		s := newSpool(Tools{Scratch: dir})
		defer s.close()
		var pcm, peaks []float32
		for range rapid.IntRange(1, 500).Draw(t, "blocks") {
			pcm, peaks = append(pcm, make([]float32, block)...), append(peaks, 0)
			scale := float32(math.Pow(10, rapid.Float64Range(-40, 1).Draw(t, "level")))
			for i := range pcm[len(pcm)-block:] {
				v := scale * (float32(i*7919%1000)/500 - 1)
				pcm[len(pcm)-block+i] = v
				peaks[len(peaks)-1] = max(peaks[len(peaks)-1], v, -v)
			}
			s.add(pcm[len(pcm)-block:], peaks[len(peaks)-1])
		}
		if !s.whole() {
			t.Fatal("not kept")
		}
		at := rapid.IntRange(0, len(pcm)-1).Draw(t, "from")
		got := make([]int16, rapid.IntRange(1, len(pcm)-at).Draw(t, "samples"))
		gain := float32(math.Pow(10, rapid.Float64Range(-2, 1.5).Draw(t, "gain")))
		if err := s.read(got, int64(at), gain); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			want := 32768 * float64(pcm[at+i]) * float64(gain)
			off := 0.5 + 0.501*float64(peaks[(at+i)/block])*float64(gain)*32768/math.MaxInt16
			if want = max(math.MinInt16, min(want, math.MaxInt16)); math.Abs(float64(v)-want) > off {
				t.Fatalf("sample %d is %d, want %.2f, at most %.2f off", at+i, v, want, off)
			}
		}
	})
}

// Nothing fails for want of a place to keep audio.
func TestAudioThatCannotBeKeptIsDecodedAgain(t *testing.T) {
	t.Parallel()
	path := media(t, "a.wav", speech(t, "0")...)
	_, want, err := all(t.Context(), keeping(t), path, Want{ChunkSeconds: 5})
	if err != nil {
		t.Fatal(err)
	}
	const samples = 24 * Rate
	const size = samples/block*4 + 2*samples
	for name, c := range map[string]struct {
		scratch string
		most    int64
		decoded bool
	}{
		"no folder":           {filepath.Join(t.TempDir(), "absent"), 0, true},
		"a file for a folder": {path, 0, true},
		"nothing kept":        {t.TempDir(), -1, true},
		"bound after 1 s":     {t.TempDir(), 33000, true},
		"bound at the end":    {t.TempDir(), size - 1, true},
		"bound that suffices": {t.TempDir(), size, false},
	} {
		tl := tools(t)
		tl.Scratch, tl.MaxScratch = c.scratch, c.most
		s, got, err := all(t.Context(), tl, path, Want{ChunkSeconds: 5})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (s.decoder != nil) != c.decoded {
			t.Errorf("%s: decoded again: %t, want %t", name, s.decoder != nil, c.decoded)
		}
		if most := apart(t, got, want); most > 1 {
			t.Errorf("%s: samples are up to %d apart", name, most)
		}
		if left := held(t, c.scratch); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}

func TestSpoolGivesUp(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := full.Write([]byte{1}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a full disk says %v", err)
	}
	for name, change := range map[string]func(*spool){
		"when the disk is full":       func(s *spool) { s.f.Close(); s.f = full },
		"before the disk is full":     func(s *spool) { s.spare = math.MaxUint64 },
		"when the bound is reached":   func(s *spool) { s.limit = 3*recordSize - 1 },
		"when it cannot be looked at": func(s *spool) { s.f.Close() },
	} {
		dir := t.TempDir()
		s := newSpool(Tools{Scratch: dir})
		if s.f == nil || len(held(t, dir)) != 1 {
			t.Fatalf("no spool in %s: %q", dir, held(t, dir))
		}
		change(s)
		for range 3 {
			s.add(make([]float32, block), 0)
		}
		if s.whole() {
			t.Errorf("%s: everything is kept", name)
		}
		s.add(make([]float32, block), 0)
		if left := held(t, dir); len(left) > 0 || len(s.buf) > 0 {
			t.Errorf("%s: left %q, %d bytes", name, left, len(s.buf))
		}
	}
}

// A disk may lose what it took.
func TestAudioThatWasLostIsDecodedAgain(t *testing.T) {
	t.Parallel()
	path := media(t, "a.wav", speech(t, "0")...)
	_, want, err := all(t.Context(), keeping(t), path, Want{ChunkSeconds: 5})
	if err != nil {
		t.Fatal(err)
	}
	tl := keeping(t)
	s, split := prepared(t, t.Context(), tl, path, Want{ChunkSeconds: 5})
	defer s.Close()
	var got []Chunk
	for range split.Len() {
		c, err := split.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, c); len(got) == 1 {
			if err := s.kept.f.Truncate(3 * Rate); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := held(t, tl.Scratch); s.decoder == nil || len(left) > 0 {
		t.Errorf("no second decode, or left %q", left)
	}
	if most := apart(t, got, want); most > 1 {
		t.Errorf("samples are up to %d apart", most)
	}
}
