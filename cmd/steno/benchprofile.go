package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"steno/bench"
	"steno/transcript"
)

// profiles are what a profiled run writes, beside that of the CPU.
var profiles = []struct{ name, title, value, about string }{
	{"allocs", "Allocations", "alloc_space", "Memory of Go that was allocated, freed or not; C's is not in it."},
	{"block", "Blocking", "delay", "Time in which goroutines waited for channels, locks and each other, the idle ones too."},
	{"mutex", "Mutexes", "delay", "Time in which goroutines waited for a lock that the function held."},
}

func (a *app) benchProfile() *cobra.Command {
	var jf jobFlags
	var out string
	cmd := &cobra.Command{
		Use: "profile FILE…", Short: "Show what a run spends its time, memory and waiting on",
		Long: "Transcribe files and profile it: CPU, allocations, blocking and mutexes, with the 20 dearest functions of each and\n" +
			"the engine's own times. The engine runs in this process and not in one of its own, so that Go and C are in one profile.\n" +
			"docs/PROFILING.md says how to read it.",
		Example: "  steno bench profile lecture.mp3\n  steno bench profile -m tiny.en --jobs 1 a.wav b.wav --out profiles",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := a.likeAnEngine(); err != nil {
				return err
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return fmt.Errorf("make the folder of profiles: %w", err)
			}
			t := &transcriber{
				a: a, params: jf.params(a.cfg.Model), out: outputFlags{json: true}, formats: []transcript.Format{transcript.TXT},
			}
			if err := t.params.Validate(); err != nil {
				return err
			}
			r, err := a.profiled(cmd.Context(), out, func(ctx context.Context) error { return t.run(ctx, paths) })
			if err != nil {
				return err
			}
			return r.WriteMarkdown(a.std.out)
		},
	}
	cmd.Flags().SortFlags = false
	modelFlag(cmd, a)
	jf.register(cmd)
	cmd.Flags().StringVar(&out, "out", "profiles", "write the profiles to this `folder`")
	return cmd
}

// likeAnEngine starts this program again, in its own place, with what engine processes have in their environment: OpenMP reads it
// before main.
func (a *app) likeAnEngine() error {
	env := engineEnv(a.env)
	if len(env) == len(a.env) {
		return nil
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, env)
	}
	return fmt.Errorf("start again: %w", err)
}

// profiled does the work with all profiles on and what it prints thrown away, and writes the profiles to dir.
func (a *app) profiled(ctx context.Context, dir string, work func(context.Context) error) (r bench.ProfiledRun, err error) {
	a.cfg.InProcess = true
	stdout := a.std.out
	a.std.out = io.Discard
	defer func() { a.std.out = stdout }()
	traceC()
	runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	runtime.SetMutexProfileFraction(1)
	defer runtime.SetBlockProfileRate(0)
	defer runtime.SetMutexProfileFraction(0)

	var cpu bytes.Buffer
	own, children := cpuSeconds(syscall.RUSAGE_SELF), cpuSeconds(syscall.RUSAGE_CHILDREN)
	start := time.Now()
	if err := pprof.StartCPUProfile(&cpu); err != nil {
		return r, fmt.Errorf("profile the CPU: %w", err)
	}
	err = work(ctx)
	pprof.StopCPUProfile()
	r.Wall = time.Since(start).Seconds()
	r.Own, r.Children = cpuSeconds(syscall.RUSAGE_SELF)-own, cpuSeconds(syscall.RUSAGE_CHILDREN)-children
	if err != nil {
		return r, err
	}
	if err := a.engineTimes(&r); err != nil {
		return r, err
	}
	about := "Where this process was on a core, in Go and in C; of C only the function itself is known, not its callers."
	if err := keep(&r, dir, "cpu", "CPU", "cpu", about, cpu.Bytes()); err != nil {
		return r, err
	}
	runtime.GC() // the profile of allocations is as of the last collection
	for _, p := range profiles {
		var b bytes.Buffer
		if err := pprof.Lookup(p.name).WriteTo(&b, 0); err != nil {
			return r, fmt.Errorf("profile %s: %w", p.name, err)
		}
		if err := keep(&r, dir, p.name, p.title, p.value, p.about, b.Bytes()); err != nil {
			return r, err
		}
	}
	return r, nil
}

// keep writes one profile and adds it to the run.
func keep(r *bench.ProfiledRun, dir, name, title, value, about string, data []byte) error {
	file := filepath.Join(dir, name+".pprof")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	p, err := bench.ReadProfile(bytes.NewReader(data), value)
	r.Profiles = append(r.Profiles, bench.NamedProfile{Name: title, File: file, About: about, Profile: p})
	return err
}

// engineTimes takes what the pipeline has counted from its metrics.
func (a *app) engineTimes(r *bench.ProfiledRun) error {
	families, err := a.reg.Gather()
	if err != nil {
		return fmt.Errorf("read the metrics of the run: %w", err)
	}
	r.Engine, r.Stages = map[string]float64{}, map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			if len(m.GetLabel()) > 0 {
				label = m.GetLabel()[0].GetValue()
			}
			switch f.GetName() {
			case "steno_engine_seconds_total":
				r.Engine[label] = m.GetCounter().GetValue()
			case "steno_stage_duration_seconds":
				r.Stages[label] = m.GetHistogram().GetSampleSum()
			case "steno_engine_tokens_total":
				r.Tokens = m.GetCounter().GetValue()
			case "steno_audio_processed_seconds_total":
				r.Audio = m.GetCounter().GetValue()
			}
		}
	}
	return nil
}

// cpuSeconds is what this process or its children that have ended took.
func cpuSeconds(who int) float64 {
	var u syscall.Rusage
	if syscall.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
