package bench_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"steno/bench"
)

// sampled makes a profile of waiting in which the stack of functions, the innermost first, waited for some nanoseconds.
func sampled(nanoseconds int64, stack ...string) *profile.Profile {
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}}}
	s := &profile.Sample{Value: []int64{1, nanoseconds}}
	for i, name := range stack {
		id := uint64(i + 1)
		f := &profile.Function{ID: id, Name: name}
		l := &profile.Location{ID: id, Line: []profile.Line{{Function: f}}}
		p.Function, p.Location, s.Location = append(p.Function, f), append(p.Location, l), append(s.Location, l)
	}
	p.Sample = []*profile.Sample{s}
	return p
}

func TestReadProfile(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := sampled(5e8, "runtime.chanrecv1", "steno/queue.(*Worker).take", "main.main").Write(&b); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	p, err := bench.ReadProfile(bytes.NewReader(data), "delay")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Functions) != 1 || p.Functions[0] != (bench.Share{Name: "steno/queue.(*Worker).take", Value: 0.5}) {
		t.Errorf("functions %+v, want the one of ours that waited", p.Functions)
	}
	if len(p.Parts) != 1 || p.Parts[0] != (bench.Share{Name: "steno/queue", Value: 0.5}) || p.Total != 0.5 || p.Unit != "s" {
		t.Errorf("parts %+v of %v %s", p.Parts, p.Total, p.Unit)
	}
	if _, err := bench.ReadProfile(bytes.NewReader(data), "cpu"); err == nil || !strings.Contains(err.Error(), "no cpu") {
		t.Errorf("a profile of waiting read as one of the CPU: %v", err)
	}
	if _, err := bench.ReadProfile(strings.NewReader("no profile"), "cpu"); err == nil {
		t.Error("a text was read as a profile")
	}
}

func TestProfiledRunSaysWhereNothingWasSeen(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	r := bench.ProfiledRun{
		Audio: 10, Wall: 2, Engine: map[string]float64{"vad": 0.1, "decode": 1}, Tokens: 7,
		Profiles: []bench.NamedProfile{{Name: "Mutexes", File: "mutex.pprof"}},
	}
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5.0 times real time", "decode 1.00 s, vad 0.10 s; 7 tokens", "Nothing was seen."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
}
