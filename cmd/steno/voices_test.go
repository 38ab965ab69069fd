//go:build cgo

package main

import (
	"bytes"
	"context"
	le "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"steno/bench"
	"steno/internal/proc"
	"steno/internal/testmedia"
	"steno/models/voices"
	"steno/transcript"
)

// finder is the child that tells voices apart, with the real networks.
func finder(t *testing.T) *voices.Finder {
	t.Helper()
	f, err := (&voiceFinder{
		store: testMachine(t, nil).store, library: func() (string, error) { return testmedia.Voices(t, "libonnxruntime.so"), nil },
	}).files()
	if err != nil {
		t.Fatal(err)
	}
	f.Threads = 1
	return &voices.Finder{Command: []string{binary.path(t), voicesName}, Files: f, Sandbox: proc.NewSandbox(proc.Required, nil)}
}

// pcm16 decodes a file as the child gets it, and gives its length.
func pcm16(t *testing.T, path string) ([]byte, time.Duration) {
	t.Helper()
	var raw []byte
	for _, v := range samples(t, path) {
		raw = le.LittleEndian.AppendUint16(raw, uint16(int16(32767*v)))
	}
	return raw, time.Duration(len(raw)/2) * time.Second / voices.Rate
}

// rttm reads who speaks when, as NIST writes it: SPEAKER file channel start duration - - speaker.
func rttm(t *testing.T, path string) []bench.Turn {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var turns []bench.Turn
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] != "SPEAKER" {
			t.Fatalf("%s has the line %q", path, line)
		}
		start, err := strconv.ParseFloat(f[3], 64)
		length, err2 := strconv.ParseFloat(f[4], 64)
		if err != nil || err2 != nil {
			t.Fatalf("%s has the line %q", path, line)
		}
		turns = append(turns, bench.Turn{Start: start, End: start + length, Speaker: f[7]})
	}
	return turns
}

// tongues are voices of the corpus with enough to say: each of another speaker.
var tongues = map[string][]string{
	"newgate": {"dctts_LJ003-0007.wav", "dctts_LJ003-0040.wav"}, "kennedy": {"jfk.flac"}, "sonnet": {"sonnet_1.mp3"},
	"austen": {"sense_sensibility_0870.wav", "sense_sensibility_0890.wav", "sense_sensibility_0920.wav"}, "linda": {"lj_LJ050-0131.wav"},
	"english": {"fleurs_en_002.ogg"}, "german": {"fleurs_de_005.ogg"}, "spanish": {"fleurs_es_000.ogg"}, "french": {"fleurs_fr_000.ogg"},
	"portuguese": {"fleurs_pt_002.ogg"}, "russian": {"ru_medium.ogg"}, "librivox": {"librivox_es.mp3"}, "montreal": {"mfa_cold_corpus_24bit.wav"},
}

// score is what several recordings come to.
type score struct {
	strict, loose bench.Diarization // without and with a collar
	right, files  int               // recordings whose number of speakers was found
	audio, took   time.Duration
}

func (s *score) add(ref, found []bench.Turn, audio, took time.Duration) {
	strict, loose := bench.Diarize(ref, found, 0), bench.Diarize(ref, found, 0.25)
	sum := func(to *bench.Diarization, d bench.Diarization) {
		to.Speech, to.Missed, to.FalseAlarm, to.Confusion = to.Speech+d.Speech, to.Missed+d.Missed, to.FalseAlarm+d.FalseAlarm, to.Confusion+d.Confusion
	}
	sum(&s.strict, strict)
	sum(&s.loose, loose)
	if strict.Found == strict.Speakers {
		s.right++
	}
	s.files++
	s.audio, s.took = s.audio+audio, s.took+took
}

func (s *score) String() string {
	d := s.strict
	return fmt.Sprintf("DER %4.1f %% (%4.1f %% with a collar of 0.25 s): missed %.1f %%, false alarm %.1f %%, confusion %.1f %%; "+
		"speakers counted right in %d of %d; RTF %.3f", 100*d.DER(), 100*s.loose.DER(), 100*d.Missed/d.Speech, 100*d.FalseAlarm/d.Speech,
		100*d.Confusion/d.Speech, s.right, s.files, s.took.Seconds()/s.audio.Seconds())
}

// hear finds the turns of a file in the child. speakers is 0 where their number is to be found.
func (s *score) hear(t *testing.T, f *voices.Finder, path string, ref []bench.Turn, speakers int) {
	t.Helper()
	pcm, length := pcm16(t, path)
	start := time.Now()
	turns, err := f.Find(t.Context(), bytes.NewReader(pcm), length, speakers)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	var found []bench.Turn
	for _, u := range turns {
		if u.Start < 0 || u.End <= u.Start || u.End > length.Seconds()+0.001 || u.Speaker < 0 {
			t.Errorf("%s: turn %+v of %v", filepath.Base(path), u, length)
		}
		found = append(found, bench.Turn{Start: u.Start, End: u.End, Speaker: transcript.SpeakerName(u.Speaker + 1)})
	}
	s.add(ref, found, length, took)
}

// TestDiarizationErrorRate measures who speaks when on recordings of two speakers and on mixtures of two, three and four voices.
// MIXTURES says how many of each,
// of two minutes; docs/SPEAKERS.md has the figures of 10.
func TestDiarizationErrorRate(t *testing.T) {
	dir, ok := testmedia.Corpus()
	if !ok {
		t.Log("there is no corpus: TestTwoVoices does with the samples")
		return
	}
	f := finder(t)
	for name, most := range map[string]float64{"call_two_speakers.wav": 0.15, "dialogue_two_readers.flac": 0.15, "ami_dev01.wav": 0.5} {
		var s score
		s.hear(t, f, filepath.Join(dir, name), rttm(t, filepath.Join(dir, strings.TrimSuffix(name, filepath.Ext(name))+".rttm")), 0)
		t.Logf("%-25s %s", name, &s)
		if s.strict.DER() > most || s.right != 1 {
			t.Errorf("%s: more than %.0f %%, or not two speakers", name, 100*most)
		}
	}
	n, seconds := 1, 60.0
	if text := os.Getenv("MIXTURES"); text != "" {
		seconds = 120
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	names := make([]string, 0, len(tongues))
	for name := range tongues {
		names = append(names, name)
	}
	slices.Sort(names)
	for k := 2; k <= 4; k++ {
		var s, given score
		for seed := range n {
			var speakers [][]testmedia.Clip
			for i := range k {
				var of []testmedia.Clip
				for _, file := range tongues[names[(seed*(k+3)+i*(1+seed%3))%len(names)]] {
					of = append(of, testmedia.Clip{Path: filepath.Join(dir, file)})
				}
				speakers = append(speakers, of)
			}
			path, spoken, err := testmedia.Mix(t.Context(), t.TempDir(), speakers, uint64(seed), seconds)
			if err != nil {
				t.Fatal(err)
			}
			var ref []bench.Turn
			for _, p := range spoken {
				ref = append(ref, bench.Turn{Start: p.Start, End: p.End, Speaker: strconv.Itoa(p.Speaker)})
			}
			s.hear(t, f, path, ref, 0)
			if n > 1 {
				given.hear(t, f, path, ref, k)
			}
		}
		t.Logf("%d mixtures of %d voices   %s", n, k, &s)
		if n > 1 {
			t.Logf("  the number given       %s", &given)
		}
		if s.loose.DER() > 0.2 || s.strict.Confusion > 0.1*s.strict.Speech || 4*s.right < 3*s.files {
			t.Errorf("%d voices: more than 20 %% with a collar, more than 10 %% of confusion, or not three in four counted right", k)
		}
	}
}

// TestTwoVoices has a recording transcribed in which two people take turns, and holds every sentence to who says it.
func TestTwoVoices(t *testing.T) {
	clips := testmedia.Speech(t)[:6] // one of Kennedy's and five of another reader's
	order := []testmedia.Clip{clips[1], clips[0], clips[3], clips[0], clips[4]}
	who := []string{"Speaker 1", "Speaker 2", "Speaker 1", "Speaker 2", "Speaker 1"}
	path, places, err := testmedia.Timeline(t.Context(), t.TempDir(), order, []float64{0.3, 0.4, 0.4, 0.4, 0.4, 0.3}, "mp3")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary.path(t), "transcribe", path, "-m", "base", "-l", "en", "--diarize", "-f", "json",
		"--models", filepath.Dir(testmedia.Model(t, "base-q8_0")), "--data", t.TempDir())
	cmd.Env = stenoEnv(t)
	out, err := cmd.Output()
	var tr transcript.Transcript
	if err == nil {
		err = json.Unmarshal(out, &tr)
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make([]string, len(places))
	for _, s := range tr.Segments {
		i := slices.IndexFunc(places, func(p testmedia.Placement) bool { return (s.Start+s.End)/2 < p.End+0.2 })
		if i < 0 || s.Speaker != who[i] {
			t.Errorf("at %.1f s %s says %q", s.Start, s.Speaker, s.Text)
			continue
		}
		said[i] += " " + s.Text
	}
	for i, p := range places {
		if w := bench.WER(bench.Normalize("en", p.Text), bench.Normalize("en", said[i])); w.Rate() > 0.2 {
			t.Errorf("turn %d: %q became %q", i, p.Text, said[i])
		}
	}
	if len(tr.Warnings) > 0 || tr.Timings.Diarize <= 0 {
		t.Errorf("warnings %q, %+v", tr.Warnings, tr.Timings)
	}
}

// TestVoicesChild holds the child to its errors: each tells what to do, and none is a crash of the parent.
func TestVoicesChild(t *testing.T) {
	good := finder(t)
	silence := make([]byte, 20*2*voices.Rate)
	for name, c := range map[string]struct {
		change func(*voices.Finder)
		want   string
	}{
		"silence":               {func(*voices.Finder) {}, ""},
		"no library":            {func(f *voices.Finder) { f.Files.Library = "/nowhere/libonnxruntime.so" }, "load ONNX Runtime"},
		"other weights":         {func(f *voices.Finder) { f.Files.Embed.Path = f.Files.Segment.Path }, "has SHA-256"},
		"no weights":            {func(f *voices.Finder) { f.Files.Segment.Path = "/nowhere/seg.onnx" }, "no such file"},
		"another program":       {func(f *voices.Finder) { f.Command = []string{"/bin/false"} }, "exit status 1"},
		"one that says nothing": {func(f *voices.Finder) { f.Command = []string{"/bin/true"} }, "find speakers"},
	} {
		f := *good
		c.change(&f)
		turns, err := f.Find(t.Context(), bytes.NewReader(silence), 20*time.Second, 0)
		if len(turns) > 0 || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want an error that says %q", name, turns, err, c.want)
		}
	}
	broken := fmt.Errorf("the disk is gone")
	if _, err := good.Find(t.Context(), io.MultiReader(bytes.NewReader(silence), failing{broken}), time.Minute, 0); err == nil ||
		!strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("audio that cannot be read: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	r, w := io.Pipe() // audio that does not come
	defer w.Close()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	if _, err := good.Find(ctx, r, time.Minute, 0); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("a search that was given up: %v after %v", err, time.Since(start))
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
