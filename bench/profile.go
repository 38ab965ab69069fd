package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Share is what one function or part of a program costs.
type Share struct {
	Name string
	// From is the nearest function of this project that called it; empty where that is itself or is not known.
	From  string
	Value float64 // in the unit of the profile
}

// Profile is what a run of Go and C spent in one currency, by function and by part, dearest first. See ReadProfile.
type Profile struct {
	Unit  string // s, MiB
	Total float64
	// Functions are by what ran or allocated itself, callees left out; of profiles of waiting by who waited.
	Functions []Share
	Parts     []Share
}

// currencies are the values of Go's profiles that are read, with their unit and what one of it is in the profile.
var currencies = map[string]struct {
	unit string
	one  float64
}{
	"cpu":         {"s", 1e9},
	"alloc_space": {"MiB", 1 << 20},
	"delay":       {"s", 1e9},
}

// ReadProfile reads what runtime/pprof wrote in this process or on this machine. value names what is counted: cpu, alloc_space,
// or delay for profiles of blocking and of mutexes. Addresses of C code get the names that the files of the program and its
// libraries have for them.
func ReadProfile(r io.Reader, value string) (Profile, error) {
	p, err := profile.Parse(r)
	if err != nil {
		return Profile{}, fmt.Errorf("read profile: %w", err)
	}
	at := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == value })
	currency, known := currencies[value]
	if at < 0 || !known {
		return Profile{}, fmt.Errorf("read profile: it has no %s", value)
	}
	names := symbols{}
	for _, l := range p.Location {
		names.name(p, l)
	}
	out := Profile{Unit: currency.unit}
	functions, parts := map[Share]float64{}, map[string]float64{}
	for _, s := range p.Sample {
		v := float64(s.Value[at]) / currency.one
		stack := functionsOf(s)
		if v == 0 || len(stack) == 0 {
			continue
		}
		self := stack[0]
		from := nearest(stack)
		if value == "delay" && from != nil { // the function itself is always one of the runtime's or sync's
			self, from = from, nil
		}
		key := Share{Name: self.Name}
		if from != nil && from != self {
			key.From = from.Name
		}
		out.Total += v
		functions[key] += v
		parts[part(self)] += v
	}
	for key, v := range functions {
		key.Value = v
		out.Functions = append(out.Functions, key)
	}
	for name, v := range parts {
		out.Parts = append(out.Parts, Share{Name: name, Value: v})
	}
	for _, list := range [][]Share{out.Functions, out.Parts} {
		slices.SortFunc(list, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Value, a.Value), strings.Compare(a.Name, b.Name)) })
	}
	return out, nil
}

// functionsOf are the functions of a sample from the one that ran to the outermost, with those that were compiled into others.
func functionsOf(s *profile.Sample) []*profile.Function {
	var all []*profile.Function
	for _, l := range s.Location {
		for _, line := range l.Line {
			if line.Function != nil {
				all = append(all, line.Function)
			}
		}
	}
	return all
}

// nearest is the innermost function of this project, in Go; nil where there is none.
func nearest(stack []*profile.Function) *profile.Function {
	for _, f := range stack {
		if strings.HasPrefix(f.Name, "steno/") && !strings.Contains(f.Name, "._Cfunc_") || strings.HasPrefix(f.Name, "main.") {
			return f
		}
	}
	return nil
}

// ProfiledRun is a run with its profiles, as WriteMarkdown tells it.
type ProfiledRun struct {
	Audio, Wall float64 // seconds
	Own         float64 // CPU seconds of this process
	Children    float64 // CPU seconds of ffmpeg and ffprobe
	// Engine are the engine threads' seconds by phase, Stages the jobs' by stage; stages overlap.
	Engine, Stages map[string]float64
	Tokens         float64
	Profiles       []NamedProfile
}

// NamedProfile is a profile with what it is about.
type NamedProfile struct {
	Name, File, About string
	Profile
}

// topFunctions is how many functions are listed of each profile.
const topFunctions = 20

// WriteMarkdown writes what the run took, and the dearest functions and parts of each profile.
func (r ProfiledRun) WriteMarkdown(w io.Writer) error {
	p := printer{w: w}
	p.line("%s of audio in %s: %.1f times real time, %.2f CPU seconds, and %.2f of ffmpeg and ffprobe.\n",
		seconds(r.Audio), seconds(r.Wall), r.Audio/r.Wall, r.Own, r.Children)
	p.line("Stages, which overlap: %s.\n", phases(r.Stages))
	p.line("The engine's threads: %s; %.0f tokens.", phases(r.Engine), r.Tokens)
	for _, n := range r.Profiles {
		p.line("\n## %s\n\n%s `go tool pprof %s` shows more.\n", n.Name, n.About, n.File)
		if len(n.Functions) == 0 {
			p.line("Nothing was seen.")
			continue
		}
		p.head("share", n.Unit, "part")
		for _, s := range n.top(n.Parts) {
			p.line("| %s | %s | %s |", share(s.Value/n.Total), number(s.Value), s.Name)
		}
		p.line("")
		p.head("share", n.Unit, "function", "called from")
		for _, s := range n.top(n.Functions) {
			p.line("| %s | %s | %s | %s |", share(s.Value/n.Total), number(s.Value), s.Name, s.From)
		}
	}
	return p.err
}

// top is the head of a list, without what is below a thousandth of all.
func (n NamedProfile) top(list []Share) []Share {
	list = list[:min(len(list), topFunctions)]
	for len(list) > 1 && list[len(list)-1].Value < n.Total/1000 {
		list = list[:len(list)-1]
	}
	return list
}

// phases lists seconds by name, the longest first.
func phases(s map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(s), func(a, b string) int {
		return cmp.Or(cmp.Compare(s[b], s[a]), strings.Compare(a, b))
	})
	var cells []string
	for _, name := range names {
		cells = append(cells, fmt.Sprintf("%s %.2f s", name, s[name]))
	}
	return strings.Join(cells, ", ")
}
