package audio

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"steno/job"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("steno/internal/proc.spawn"))
}

func tools(t testing.TB) Tools {
	t.Helper()
	tl, err := FindTools()
	if err != nil {
		t.Fatal(err)
	}
	return tl
}

// media makes a file with ffmpeg; args are what stands between the program's name and the output.
func media(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "ffmpeg", append(append([]string{"-nostdin", "-v", "error"}, args...), "-y", "file:"+path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v: %s", name, err, out)
	}
	return path
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// beeps is a graph of 0.5 s tones at the given seconds in digital silence of the given length.
func beeps(length float64, at ...float64) []string {
	expr := "0"
	for _, a := range at {
		expr += "+between(t\\," + ftoa(a) + "\\," + ftoa(a+0.5) + ")"
	}
	return []string{"-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*700*t)*(" + expr + "):s=44100:d=" + ftoa(length)}
}

func ftoa(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// all runs a file through the whole package.
func all(ctx context.Context, t Tools, path string, want Want) (*Stream, []Chunk, error) {
	return within(ctx, t, path, want, time.Hour)
}

// within is all with a limit on the audio's length.
func within(ctx context.Context, t Tools, path string, want Want, limit time.Duration) (*Stream, []Chunk, error) {
	info, err := Probe(ctx, t, path)
	if err != nil {
		return nil, nil, err
	}
	plan, err := NewPlan(info, want, Resources{Slots: 2, MaxDuration: limit})
	if err != nil {
		return nil, nil, err
	}
	s, err := Prepare(ctx, t, path, info, plan)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	split := Split(plan, s)
	var chunks []Chunk
	for {
		c, err := split.Next(ctx)
		if errors.Is(err, io.EOF) {
			return s, chunks, nil
		}
		if err != nil {
			return nil, nil, err
		}
		chunks = append(chunks, c)
	}
}

// TestMarkersKeepTheirPlace lays tones at known times into every codec and looks for them in the chunks, through silence
// that was left out.
func TestMarkersKeepTheirPlace(t *testing.T) {
	at := []float64{0.7, 4, 13.25, 44.1, 61}
	for name, codec := range map[string][]string{
		"a.wav":  {"-c:a", "pcm_s16le"},
		"a.flac": {"-c:a", "flac"},
		"a.mp3":  {"-c:a", "libmp3lame", "-b:a", "128k"},
		"a.m4a":  {"-c:a", "aac", "-b:a", "128k"},
		"a.ogg":  {"-c:a", "libvorbis"},
		"a.opus": {"-c:a", "libopus", "-ar", "48000"},
		"a.webm": {"-c:a", "libopus", "-ar", "48000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := media(t, name, append(beeps(70, at...), codec...)...)
			s, chunks, err := all(t.Context(), tools(t), path, Want{ChunkSeconds: 5})
			if err != nil {
				t.Fatal(err)
			}
			if d := Seconds(s.Timeline().Total); math.Abs(d-70) > 0.1 {
				t.Errorf("duration %.3f s, want 70", d)
			}
			var found []float64
			loud := false
			for _, c := range chunks {
				for i, v := range c.PCM {
					switch hit := math.Abs(float64(v)) > 1500; {
					case hit && !loud:
						found = append(found, Seconds(c.Span.Start+int64(i)))
						loud = true
					case loud && i+Rate/50 < len(c.PCM) && quiet(c.PCM[i:i+Rate/50]):
						loud = false
					}
				}
				loud = false
			}
			if len(found) != len(at) {
				t.Fatalf("tones at %v, want %v", found, at)
			}
			for i := range at {
				if math.Abs(found[i]-at[i]) > 0.02 {
					t.Errorf("tone at %.3f s, want %.3f", found[i], at[i])
				}
			}
			for _, c := range chunks {
				if c.Span.Start > 16*Rate && c.Span.End < 42*Rate {
					t.Errorf("chunk %v lies in silence", c.Span)
				}
			}
		})
	}
}

// TestHolesKeepTheirLength takes bytes out of a file whose timestamps say so: what follows keeps its place, whichever filters
// run.
func TestHolesKeepTheirLength(t *testing.T) {
	encoding := []string{"-c:a", "libopus", "-ar", "48000", "-cluster_time_limit", "200"}
	whole, err := os.ReadFile(media(t, "a.webm", append(beeps(20, 1, 15), encoding...)...))
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "b.webm", slices.Delete(whole, len(whole)/5, len(whole)/2))
	for _, loudness := range []Loudness{Off, Linear, Classic} {
		s, chunks, err := all(t.Context(), tools(t), path, Want{ChunkSeconds: 60, Loudness: string(loudness)})
		if err != nil {
			t.Errorf("loudness %s: %v", loudness, err)
			continue
		}
		if total := Seconds(s.Timeline().Total); math.Abs(total-20) > 0.1 || len(chunks) != 1 {
			t.Errorf("loudness %s: %d chunks of %.2f s, want one of 20 s", loudness, len(chunks), total)
		}
		pcm := chunks[0].PCM
		loud := slices.IndexFunc(pcm[10*Rate:], func(v int16) bool { return v > 1500 })
		if at := 10 + Seconds(int64(loud)); math.Abs(at-15) > 0.03 {
			t.Errorf("loudness %s: the tone after the hole is at %.2f s, want 15 s", loudness, at)
		}
	}
}

func quiet(pcm []int16) bool {
	for _, v := range pcm {
		if v > 1500 || v < -1500 {
			return false
		}
	}
	return true
}

func TestBadFilesHaveOneClearError(t *testing.T) {
	ctx, tl := t.Context(), tools(t)
	tone := []string{"-f", "lavfi", "-i", "sine=440:d=20"}
	cut := func(path string, part float64) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return write(t, filepath.Base(path), b[:int(float64(len(b))*part)])
	}
	neighbour := media(t, "secret.mp3", tone...)
	cases := []struct{ name, path, code string }{
		{"absent", filepath.Join(t.TempDir(), "nothing.mp3"), "FILE_NOT_FOUND"},
		{"directory", t.TempDir(), "FILE_NOT_FOUND"},
		{"empty", write(t, "a.mp3", nil), "FILE_EMPTY"},
		{"one byte", write(t, "a.mp3", []byte{0xff}), "NOT_MEDIA"},
		{"text", write(t, "a.wav", []byte("just some words")), "NOT_MEDIA"},
		{"web page", write(t, "a.mp3", []byte("<!doctype html><title>404</title>")), "NOT_MEDIA"},
		{"zip", write(t, "a.m4a", append([]byte("PK\x03\x04"), make([]byte, 400)...)), "NOT_MEDIA"},
		{"header only", cut(media(t, "a.m4a", tone...), 0.01), "TRUNCATED"},
		{"truncated m4a", cut(media(t, "b.m4a", append(tone, "-movflags", "faststart")...), 0.6), "TRUNCATED"},
		{"truncated flac", cut(media(t, "a.flac", tone...), 0.6), "TRUNCATED"},
		{"video only", media(t, "a.mp4", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-c:v", "mpeg4"), "NO_AUDIO_STREAM"},
		{"picture", media(t, "a.png", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-frames:v", "1"), "FORMAT_NOT_ALLOWED"},
		{"hls", write(t, "a.mp3", []byte("#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n"+neighbour+"\n#EXT-X-ENDLIST\n")), "FORMAT_NOT_ALLOWED"},
		{"concat", write(t, "a.mp3", []byte("ffconcat version 1.0\nfile '"+neighbour+"'\n")), "FORMAT_NOT_ALLOWED"},
		{"dash", write(t, "a.mp4", []byte("<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\" "+
			"type=\"static\"><Period><AdaptationSet><Representation><BaseURL>"+neighbour+"</BaseURL></Representation></AdaptationSet></Period></MPD>")), "FORMAT_NOT_ALLOWED"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := all(ctx, tl, c.path, Want{})
			var je *job.Error
			if !errors.As(err, &je) || je.Class != job.Input {
				t.Fatalf("error %v, want one of class INPUT", err)
			}
			if je.Code != c.code && (c.code != "FORMAT_NOT_ALLOWED" || je.Code != "NOT_MEDIA") {
				t.Errorf("code %s (%v), want %s", je.Code, err, c.code)
			}
			if strings.ContainsAny(je.Message, "\n") || c.name != "absent" && c.name != "directory" && strings.Contains(je.Message, filepath.Dir(c.path)) {
				t.Errorf("message of several lines, or with a path of ours: %q", je.Message)
			}
		})
	}
}

func TestTruncatedFileIsTakenWhenAllowed(t *testing.T) {
	path := media(t, "a.m4a", "-f", "lavfi", "-i", "sine=440:d=20", "-movflags", "faststart")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	short := write(t, "b.m4a", b[:len(b)*6/10])
	s, chunks, err := all(t.Context(), tools(t), short, Want{AllowTruncated: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Measurement().Warnings) == 0 || len(chunks) == 0 {
		t.Errorf("%d chunks, warnings %q: want the part that is there, and a word about the rest", len(chunks), s.Measurement().Warnings)
	}
}

func TestSilentFileHasNoChunks(t *testing.T) {
	for _, d := range []string{"5", "65"} {
		path := media(t, "a.flac", "-f", "lavfi", "-i", "anullsrc=r=44100:d="+d)
		s, chunks, err := all(t.Context(), tools(t), path, Want{})
		if err != nil || len(chunks) != 0 || len(s.Timeline().Speech) != 0 {
			t.Errorf("%s s of silence: %d chunks, %v; want none", d, len(chunks), err)
		}
	}
}

// A recording that a sound card has lifted off zero has the silences that it has without that.
func TestOffsetIsNoSound(t *testing.T) {
	for _, d := range []string{"0.25", "-0.02"} {
		path := media(t, "a.flac", "-f", "lavfi", "-i", "aevalsrc="+d+":s=16000:d=10")
		if _, chunks, err := all(t.Context(), tools(t), path, Want{}); err != nil || len(chunks) != 0 {
			t.Errorf("silence at %s: %d chunks, %v; want none", d, len(chunks), err)
		}
		speech := []string{"-f", "lavfi", "-i", "aevalsrc='0.3*sin(300*2*PI*t)*gt(mod(t,10),6)':s=16000:d=30"}
		plain, _, err := all(t.Context(), tools(t), media(t, "b.flac", speech...), Want{})
		if err != nil {
			t.Fatal(err)
		}
		lifted, _, err := all(t.Context(), tools(t), media(t, "c.flac", append(speech, "-af", "dcshift="+d)...), Want{})
		if err != nil {
			t.Fatal(err)
		}
		want, got := plain.Timeline().Pauses, lifted.Timeline().Pauses
		if len(want) != 3 || len(got) != len(want) {
			t.Fatalf("at %s: pauses %v, without it %v", d, got, want)
		}
		for i := range want {
			if a, b := got[i].Start-want[i].Start, got[i].End-want[i].End; max(a, -a, b, -b) > 2*block {
				t.Errorf("at %s: pauses %v, without it %v", d, got[i], want[i])
			}
		}
	}
}

func TestOddNamesAreJustNames(t *testing.T) {
	src := media(t, "a.wav", beeps(2, 0.5)...)
	b, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"-version.wav", "it's a:file, [with] \\ odd;name%d.wav", "имя 录音.wav", "http:.wav"} {
		if _, chunks, err := all(t.Context(), tools(t), write(t, name, b), Want{}); err != nil || len(chunks) != 1 {
			t.Errorf("%q: %d chunks, %v; want one", name, len(chunks), err)
		}
	}
}

func TestLoudnessIsCorrectedBelowThePeak(t *testing.T) {
	for _, c := range []struct {
		amplitude string
		loudness  string
		min, max  float64 // peak of the result in dBFS
	}{
		{"0.01", "", -14, -1}, // raised
		{"0.9", "", -20, -10}, // lowered to -16 LUFS
		{"0.01", "off", -41, -39},
	} {
		path := media(t, "a.wav", "-f", "lavfi", "-i", "aevalsrc="+c.amplitude+"*sin(2*PI*700*t):s=16000:d=6")
		_, chunks, err := all(t.Context(), tools(t), path, Want{Loudness: c.loudness})
		if err != nil {
			t.Fatal(err)
		}
		peak := 0.0
		for _, v := range chunks[0].PCM {
			peak = max(peak, math.Abs(float64(v)))
		}
		if db := 20 * math.Log10(peak/32768); db < c.min || db > c.max {
			t.Errorf("amplitude %s, loudness %q: peak at %.1f dBFS, want %v to %v", c.amplitude, c.loudness, db, c.min, c.max)
		}
	}
}

func TestCancelEndsTheDecoder(t *testing.T) {
	path := media(t, "a.wav", "-f", "lavfi", "-i", "sine=440:d=120:r=16000")
	ctx, cancel := context.WithCancel(t.Context())
	tl := tools(t)
	tl.MaxScratch = -1
	info, err := Probe(ctx, tl, path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(info, Want{}, Resources{Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Prepare(ctx, tl, path, info, plan)
	if err != nil {
		t.Fatal(err)
	}
	split := Split(plan, s)
	if _, err := split.Next(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = split.Next(ctx)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the cancellation", err)
	}
	start := time.Now()
	if s.Close(); time.Since(start) > 3*time.Second {
		t.Errorf("close took %v", time.Since(start))
	}
}

func TestDurationLimit(t *testing.T) {
	path := media(t, "a.mp3", "-f", "lavfi", "-i", "anullsrc=r=44100:d=30")
	info, err := Probe(t.Context(), tools(t), path)
	if err != nil {
		t.Fatal(err)
	}
	info.Exact = false // as of a file that does not say
	plan, err := NewPlan(info, Want{}, Resources{MaxDuration: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Prepare(t.Context(), tools(t), path, info, plan)
	var je *job.Error
	if !errors.As(err, &je) || je.Code != "DURATION_LIMIT" {
		t.Errorf("error %v, want DURATION_LIMIT", err)
	}
}

// TestSplitCoversExactly is the classic trap floor(duration/chunk) and all its relatives: whatever the lengths, the pieces are the
// speech, in order, none too long, and no tail is lost.
func TestSplitCoversExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := int64(rapid.IntRange(minChunk, 120).Draw(t, "limit")) * Rate
		total := int64(rapid.IntRange(1, 400*Rate).Draw(t, "total"))
		blocks := int((total + block - 1) / block)
		env := make(envelope, blocks)
		for i := 0; i < blocks; {
			run := rapid.IntRange(1, 3000).Draw(t, "run")
			db := rapid.Byte().Draw(t, "level")
			for range run {
				if i < blocks {
					env[i] = db
					i++
				}
			}
		}
		plan := Plan{ChunkSeconds: Seconds(limit), RemoveSilence: rapid.Bool().Draw(t, "remove"), MinSilence: 2}
		tl := newTimeline(env, total, plan, -50)
		var at int64
		spans := cuts(tl, env, limit)
		for _, want := range tl.Speech {
			if want.Start < at || want.End > total || want.Len() <= 0 {
				t.Fatalf("speech %v overlaps, is empty or leaves [0,%d)", want, total)
			}
			at = want.Start
			for at < want.End {
				if len(spans) == 0 || spans[0].Start != at {
					t.Fatalf("no piece starts at %d of %v", at, want)
				}
				if n := spans[0].Len(); n <= 0 || n > limit {
					t.Fatalf("piece of %d samples, limit %d", n, limit)
				}
				at = spans[0].End
				spans = spans[1:]
			}
			if at != want.End {
				t.Fatalf("pieces end at %d, speech at %d", at, want.End)
			}
		}
		if len(spans) != 0 {
			t.Fatalf("pieces outside speech: %v", spans)
		}
	})
}

func TestCutsFallInPauses(t *testing.T) {
	env := make(envelope, 4000) // 40 s of tone with a pause at 21 s
	for i := range env {
		env[i] = 180
		if i >= 2080 && i < 2120 {
			env[i] = 0
		}
	}
	tl := newTimeline(env, 40*Rate, Plan{ChunkSeconds: 30, RemoveSilence: true, MinSilence: 2}, -50)
	spans := cuts(tl, env, 30*Rate)
	if len(spans) != 2 || math.Abs(Seconds(spans[0].End)-21) > 0.1 {
		t.Errorf("cut at %v, want 21 s", spans)
	}
}

// A voice 40 dB below the others is no silence, but echo, clicks and the background are.
func TestFaintVoiceIsNoSilence(t *testing.T) {
	const loud, gone = -10, -120
	type part struct {
		seconds, db float64
	}
	for name, c := range map[string]struct {
		parts []part
		want  []float64 // start and end of what is transcribed, seconds
	}{
		"between silences":      {[]part{{30, loud}, {3, gone}, {3, -60}, {3, gone}, {30, loud}}, []float64{0, 30.2, 32.8, 36.2, 38.8, 69}},
		"close to the loud one": {[]part{{30, loud}, {0.5, gone}, {3, -60}, {5, gone}, {30, loud}}, []float64{0, 33.7, 38.3, 68.5}},
		"at once":               {[]part{{30, loud}, {3, -60}, {5, gone}, {30, loud}}, []float64{0, 33.2, 37.8, 68}},
		"at the file's end":     {[]part{{60, loud}, {5, gone}, {0.5, -60}}, []float64{0, 60.2, 64.8, 65.5}},
		"echo":                  {[]part{{30, loud}, {0.5, -60}, {5, gone}, {30, loud}}, []float64{0, 30.2, 35.3, 65.5}},
		"breath":                {[]part{{30, loud}, {5, gone}, {0.5, -60}, {30, loud}}, []float64{0, 30.2, 35.3, 65.5}},
		"click":                 {[]part{{30, loud}, {3, gone}, {0.1, -60}, {3, gone}, {30, loud}}, []float64{0, 30.2, 35.9, 66.1}},
		"too faint":             {[]part{{30, loud}, {3, gone}, {3, -80}, {3, gone}, {30, loud}}, []float64{0, 30.2, 38.8, 69}},
		"a room":                {[]part{{30, loud}, {3, -70}, {1, -58}, {3, -70}, {30, loud}}, []float64{0, 30.2, 36.8, 67}},
	} {
		var env envelope
		for _, p := range c.parts {
			for range int(p.seconds * 100) {
				env = append(env, level(float32(math.Pow(10, p.db/20))))
			}
		}
		tl := newTimeline(env, int64(len(env))*block, Plan{ChunkSeconds: 30, RemoveSilence: true, MinSilence: 2}, -50)
		var got []float64
		for _, s := range tl.Speech {
			got = append(got, Seconds(s.Start), Seconds(s.End))
		}
		if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) < 0.02 }) {
			t.Errorf("%s: speech at %.2f, want %.2f", name, got, c.want)
		}
	}
}

func TestPlanGivesReasons(t *testing.T) {
	p, err := NewPlan(Info{Duration: 4000, SampleRate: 44100, Channels: 2}, Want{Silence: "keep"}, Resources{Slots: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Choices {
		if c.Name == "" || c.Value == "" || c.Reason == "" {
			t.Errorf("choice without a reason: %+v", c)
		}
	}
	for _, w := range []Want{{ChunkSeconds: 1}, {ChunkSeconds: 1e6}, {Loudness: "loud"}, {Silence: "loud"}} {
		if _, err := NewPlan(Info{}, w, Resources{}); err == nil {
			t.Errorf("%+v was taken", w)
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add([]byte(`{"streams":[{"codec_type":"audio","codec_name":"mp3","sample_rate":"44100","channels":2,"duration":"1.5"}],"format":{"format_name":"mp3"}}`))
	f.Add([]byte(`{"streams":[{"codec_type":"video"}]}`))
	f.Add([]byte(`{"streams":[{"codec_type":"audio","duration":"-1e999"}],"format":{"duration":"N/A"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseProbe(b)
		if err == nil && (info.Duration < 0 || math.IsNaN(info.Duration) || math.IsInf(info.Duration, 0)) {
			t.Errorf("duration %v", info.Duration)
		}
		if err != nil {
			var je *job.Error
			if !errors.As(err, &je) || je.Code == "" || je.Message == "" {
				t.Errorf("error %#v", err)
			}
			return
		}
		if info.BitRate < 0 || info.SampleRate < 0 || info.Codec == "" || info.Exact && info.Duration == 0 {
			t.Errorf("%+v", info)
		}
		if _, err := NewPlan(info, Want{}, Resources{Slots: 1}); err != nil {
			t.Errorf("no plan for %+v: %v", info, err)
		}
	})
}
