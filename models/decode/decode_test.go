package decode

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"steno/models"
	"steno/transcript"
)

// script is a model that says what the test wrote, and remembers what it was asked.
type script struct {
	outputs []Output
	asked   []Window
	speech  func(n int) []float32
	err     error
}

func (s *script) Run(_ context.Context, w Window) (Output, error) {
	s.asked = append(s.asked, w)
	if s.err != nil {
		return Output{}, s.err
	}
	if len(s.outputs) == 0 {
		return Output{Tokens: []Token{{Kind: End}}}, nil
	}
	out := s.outputs[0]
	s.outputs = s.outputs[1:]
	return out, nil
}

func (s *script) Detect(context.Context, []float32, int) (string, float64, error) {
	return "de", 0.9, nil
}

func (s *script) Speech(samples []float32) ([]float32, error) {
	n := (len(samples) + VADFrame - 1) / VADFrame
	if s.speech != nil {
		return s.speech(n), nil
	}
	p := make([]float32, n)
	for i := range p {
		p[i] = 0.99
	}
	return p, nil
}

// said makes an output: numbers are timestamps, strings are tokens of text.
func said(parts ...any) Output {
	var o Output
	for _, p := range parts {
		switch v := p.(type) {
		case float64:
			o.Tokens = append(o.Tokens, Token{Kind: Timestamp, Time: v})
		case string:
			for _, w := range strings.SplitAfter(v, " ") {
				o.Tokens = append(o.Tokens, Token{Text: w, Prob: 0.9, Logprob: -0.1})
			}
		}
	}
	o.Tokens = append(o.Tokens, Token{Kind: End})
	return o
}

func seconds(s float64) []int16 { return make([]int16, int(s*rate)) }

func chunk(t *testing.T, m Model, r models.Request) models.Result {
	t.Helper()
	if r.Language == "" {
		r.Language = "en"
	}
	r.Threads = 1
	res, err := Chunk(t.Context(), m, r, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func texts(segs []transcript.Segment) string {
	var ts []string
	for _, s := range segs {
		ts = append(ts, s.Text)
	}
	return strings.Join(ts, "|")
}

func TestOnePassWhereOneIsEnough(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " one two", 4.0, 4.0, " three four", 9.8)}}
	res := chunk(t, m, models.Request{PCM: seconds(10)})
	if got, want := texts(res.Segments), "one two|three four"; got != want {
		t.Errorf("segments %q, want %q", got, want)
	}
	if res.Stats.Passes != 1 {
		t.Errorf("%d passes, want 1", res.Stats.Passes)
	}
	if got := m.asked[0].AudioCtx; got < 500+contextPad || got > 500+contextPad+contextStep || m.asked[0].Fallback {
		t.Errorf("first pass asked for context %d, fallback %v: want just over 500 and none", got, m.asked[0].Fallback)
	}
}

func TestSpeechAfterTheLastTimestampIsPickedUp(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " one two", 4.0), said(0.0, " three four", 5.9)}}
	res := chunk(t, m, models.Request{PCM: seconds(10)})
	if got, want := texts(res.Segments), "one two|three four"; got != want {
		t.Fatalf("segments %q, want %q", got, want)
	}
	if s := res.Segments[1].Start; s != 4.0 {
		t.Errorf("second segment starts at %v, want 4", s)
	}
	if res.Stats.Seeks != 1 {
		t.Errorf("%d seeks, want 1", res.Stats.Seeks)
	}
}

func TestLeapedOverSpeechIsPickedUp(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " one two", 4.0, 9.0, " five six", 14.8), said(0.0, " three four", 3.4)}, speech: voiced(0, 3.8, 5, 8.5, 9.2, 15)}
	res := chunk(t, m, models.Request{PCM: seconds(15)})
	if got, want := texts(res.Segments), "one two|three four|five six"; got != want {
		t.Fatalf("segments %q, want %q", got, want)
	}
	for i, s := range res.Segments {
		if want := []float64{0, 5, 9.2}[i]; s.ID != i || math.Abs(s.Start-want) > 0.04 {
			t.Errorf("segment %d has ID %d and starts at %.2f, want %d and %.2f", i, s.ID, s.Start, i, want)
		}
	}
	// What is not heard again is left; a pause between two timestamps is none of it.
	m = &script{outputs: []Output{said(0.0, " one two", 4.0, 9.0, " five six", 14.8)}, speech: voiced(0, 3.8, 5, 8.5, 9.2, 15)}
	if res := chunk(t, m, models.Request{PCM: seconds(15)}); texts(res.Segments) != "one two|five six" || len(m.asked) != 3 {
		t.Errorf("segments %q in %d runs, want one two|five six in 3", texts(res.Segments), len(m.asked))
	}
	m = &script{outputs: []Output{said(0.0, " one two", 4.0, 9.0, " five six", 14.8)}, speech: voiced(0, 4.8, 8.5, 15)}
	if chunk(t, m, models.Request{PCM: seconds(15)}); len(m.asked) != 1 {
		t.Errorf("%d runs, want 1: nobody speaks between the timestamps", len(m.asked))
	}
}

func TestDoubtfulDecodeIsRepeatedAtFullLength(t *testing.T) {
	loop := " I said it again and again my friend."
	cases := map[string]Output{
		"loop":       said(0.0, loop+loop+loop, 9.8),
		"nothing":    said(),
		"no end":     {Tokens: []Token{{Text: " word", Logprob: -0.1}}},
		"unsure":     {Tokens: []Token{{Text: " a", Logprob: -3}, {Text: " b", Logprob: -3}, {Text: " c", Logprob: -3}, {Text: " d", Logprob: -3}, {Kind: End}}},
		"gibberish":  said(0.0, strings.Repeat(" q w e r t z u i o p a s d f", 20), 9.8),
		"said twice": said(0.0, " we went to the old house. Then we went to the old house again", 9.8),
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			m := &script{outputs: []Output{bad, said(0.0, " right", 9.8)}}
			res := chunk(t, m, models.Request{PCM: seconds(10)})
			if got := texts(res.Segments); got != "right" {
				t.Errorf("segments %q, want %q", got, "right")
			}
			if res.Stats.FullSize != 1 || m.asked[1].AudioCtx != 0 || !m.asked[1].Fallback {
				t.Errorf("second pass %+v: want the full context with fallback", m.asked[1])
			}
		})
	}
}

func TestNoSpeechIsNotDecoded(t *testing.T) {
	// Music holds speech at 0.9 now and then, but is never sure.
	m := &script{speech: func(n int) []float32 { return append(make([]float32, n-1), 0.92) }}
	res := chunk(t, m, models.Request{PCM: seconds(10)})
	if len(m.asked) != 0 || len(res.Segments) != 0 || res.Stats.NoSpeech != 1 {
		t.Errorf("%d passes, %d segments, no-speech %d: want 0, 0, 1", len(m.asked), len(res.Segments), res.Stats.NoSpeech)
	}
}

func TestWindowsAreTrimmedToSpeech(t *testing.T) {
	m := &script{
		outputs: []Output{said(0.0, " word", 1.0)},
		speech: func(n int) []float32 { // one second of speech in the middle
			p := make([]float32, n)
			for i := n / 2; i < n/2+31; i++ {
				p[i] = 0.99
			}
			return p
		},
	}
	res := chunk(t, m, models.Request{PCM: seconds(10)})
	if got := float64(len(m.asked[0].Samples)) / rate; math.Abs(got-1.4) > 0.1 {
		t.Errorf("window of %.2f s, want one second with its padding", got)
	}
	if s := res.Segments[0].Start; math.Abs(s-5) > 0.05 {
		t.Errorf("segment starts at %.2f s, want 5: where speech starts, without its padding", s)
	}
}

func TestLongChunkTakesSeveralWindows(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " a", 28.0), said(0.0, " b", 29.9), said(0.0, " c", 11.9)}}
	res := chunk(t, m, models.Request{PCM: seconds(70)})
	if got := texts(res.Segments); got != "a|b|c" {
		t.Fatalf("segments %q, want a|b|c", got)
	}
	if s := res.Segments[1].Start; s != 28 {
		t.Errorf("second window starts at %v, want 28: the first one's last timestamp", s)
	}
}

func TestOpenSentenceReachesTheEnd(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " a b", 4.0, 4.0, " c d e")}}
	res := chunk(t, m, models.Request{PCM: seconds(10)})
	if n := len(res.Segments); n != 2 || res.Segments[1].End != 10 || res.Stats.Passes != 1 {
		t.Errorf("%d segments, %d passes, end %v: want 2, 1, 10", n, res.Stats.Passes, res.Segments[n-1].End)
	}
}

func TestGuardsDropWhatNobodySaid(t *testing.T) {
	unsure := Output{Tokens: []Token{
		{Kind: Timestamp}, {Text: " you", Logprob: -1.4}, {Kind: Timestamp, Time: 1}, {Kind: End},
	}}
	m := &script{outputs: []Output{unsure, unsure}}
	res := chunk(t, m, models.Request{PCM: seconds(1)})
	if len(res.Segments) != 0 || res.Stats.Dropped != 1 {
		t.Errorf("segments %q, dropped %d: want none, 1", texts(res.Segments), res.Stats.Dropped)
	}
}

func TestDetect(t *testing.T) {
	m := &script{}
	res := chunk(t, m, models.Request{PCM: seconds(3), Language: "auto", DetectOnly: true})
	if res.Language != "de" || res.LanguageProb != 0.9 || len(m.asked) != 0 {
		t.Errorf("language %s (%v), %d passes: want de (0.9), none", res.Language, res.LanguageProb, len(m.asked))
	}
	m.outputs = []Output{said(0.0, " ja", 3.0)}
	chunk(t, m, models.Request{PCM: seconds(3), Language: "auto"})
	if m.asked[0].Language != "de" {
		t.Errorf("decoded as %q, want the detected language", m.asked[0].Language)
	}
}

func TestErrorsAreWrapped(t *testing.T) {
	boom := errors.New("boom")
	_, err := Chunk(t.Context(), &script{err: boom}, models.Request{PCM: seconds(3), Language: "en"}, Options{}, nil)
	if !errors.Is(err, boom) {
		t.Errorf("error %v does not wrap the model's", err)
	}
}

func TestFullContextOption(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " a", 3.0)}}
	if _, err := Chunk(t.Context(), m, models.Request{PCM: seconds(3), Language: "en"}, Options{FullContext: true}, nil); err != nil {
		t.Fatal(err)
	}
	if m.asked[0].AudioCtx != 0 || !m.asked[0].Fallback {
		t.Errorf("asked %+v, want the full context with fallback at once", m.asked[0])
	}
}

func TestWords(t *testing.T) {
	p := piece{start: 1, end: 3, parts: []Token{
		{Text: " Hel", Attention: []float32{4, 0, 0}, Prob: 1}, {Text: "lo", Attention: []float32{1, 3, 0}, Prob: 0.5}, {Text: ",", Prob: 1},
		{Text: " wor", Attention: []float32{0, 0, 2}, Prob: 1}, {Text: "ld", Attention: []float32{0, 0, 5}, Prob: 1},
	}}
	ws, heard := words(p)
	if len(ws) != 2 || ws[0].Text != "Hello," || ws[1].Text != "world" {
		t.Fatalf("words %+v, want Hello, and world", ws)
	}
	if !slices.Equal(heard[0], []float32{4, 3, 0}) || !slices.Equal(heard[1], []float32{0, 0, 5}) {
		t.Errorf("attention %v, want the most of each word's tokens", heard)
	}
	if !slices.Equal(p.parts[0].Attention, []float32{4, 0, 0}) {
		t.Errorf("the first token's attention is now %v", p.parts[0].Attention)
	}
	// "日本" whose second character is split over two tokens.
	cjk := piece{end: 2, parts: []Token{{Text: "日"}, {Text: "\xe6\x9c"}, {Text: "\xac"}}}
	if ws, _ := words(cjk); len(ws) != 2 || ws[1].Text != "本" {
		t.Errorf("words %+v, want 日 and 本", ws)
	}
}

// TestAnyScript feeds arbitrary outputs: times must stay in the chunk and in order of their windows, and it must end.
func TestAnyScript(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Float64Range(0.1, 75).Draw(t, "length")
		m := &script{}
		for range rapid.IntRange(0, 8).Draw(t, "outputs") {
			var parts []any
			for range rapid.IntRange(0, 6).Draw(t, "parts") {
				parts = append(parts, rapid.OneOf(
					rapid.Map(rapid.Float64Range(0, 30), func(f float64) any { return f }),
					rapid.Map(rapid.SampledFrom([]string{" a", " b c", "日本", "\xff"}), func(s string) any { return s }),
				).Draw(t, "part"))
			}
			m.outputs = append(m.outputs, said(parts...))
		}
		seed := rapid.SliceOfN(rapid.Float32Range(0, 1), 1, 40).Draw(t, "speech")
		m.speech = func(n int) []float32 {
			p := make([]float32, n)
			for i := range p {
				p[i] = seed[i*len(seed)/n]
			}
			return p
		}
		res, err := Chunk(context.Background(), m, models.Request{PCM: seconds(length), Language: "en", Words: true}, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range res.Segments {
			if s.Start < 0 || s.End > length+0.001 || s.Start > s.End {
				t.Fatalf("segment %v–%v outside the chunk of %v s", s.Start, s.End, length)
			}
			for _, w := range s.Words {
				if w.Start < s.Start-1e-9 || w.End > s.End+1e-9 || w.Start > w.End {
					t.Fatalf("word %+v outside its segment %v–%v", w, s.Start, s.End)
				}
			}
		}
	})
}

func TestCompressionRatio(t *testing.T) {
	if r := CompressionRatio(strings.Repeat("the same thing ", 20)); r < maxCompression {
		t.Errorf("a loop packs to %v, want above %v", r, maxCompression)
	}
	if r := CompressionRatio("Ask not what your country can do for you, ask what you can do for your country."); r > maxCompression {
		t.Errorf("a sentence packs to %v, want below %v", r, maxCompression)
	}
	if CompressionRatio("") != 0 {
		t.Error("empty text has a ratio")
	}
}
