package audio

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"

	ffmpeg "github.com/u2takey/ffmpeg-go"

	"steno/internal/proc"
)

// decodeArgs composes ffmpeg's arguments: the first audio stream of path through filters to PCM of a
// sample format ("s16le", "f32le") on standard output.
// ffmpeg-go builds and escapes the graph; the process is ours, since the package binds no context and loses stderr.
func decodeArgs(path string, plan Plan, format string, filters []filter) []string {
	in := ffmpeg.KwArgs{
		"protocol_whitelist": "file", "format_whitelist": formats, "max_alloc": 256 << 20,
		// One thread: the cores belong to inference, and an audio decoder has no use for more.
		"threads": 1,
	}
	if plan.MaxSeconds > 0 {
		// One second more than is taken tells "too long" from "just fits". A bomb stops there.
		in["t"] = strconv.FormatFloat(plan.MaxSeconds+1, 'f', 3, 64)
	}
	s := ffmpeg.Input("file:"+path, in).Get("a:0")
	for _, f := range filters {
		s = s.Filter(f.name, f.args, f.named)
	}
	// Without flush_packets it writes 32 KiB at a time instead of the 26 ms of an mp3's packet.
	out := s.Output("pipe:1", ffmpeg.KwArgs{"f": format, "c:a": "pcm_" + format, "flush_packets": 0})
	return append([]string{"-nostdin", "-hide_banner", "-nostats", "-filter_complex_threads", "1"}, out.GetArgs()...)
}

// filter is one step of an audio filter chain.
type filter struct {
	name  string
	args  ffmpeg.Args
	named ffmpeg.KwArgs
}

// monoFilters come first: everything after them costs a fraction at 16 kHz mono.
func monoFilters() []filter {
	return []filter{
		fill(strconv.Itoa(Rate)),
		{name: "aformat", named: ffmpeg.KwArgs{"sample_fmts": "flt", "channel_layouts": "mono"}},
	}
}

// fill fills holes in the timestamps with silence, so that a broken file does not shift what follows. args may name another rate.
func fill(args ...string) filter {
	return filter{name: "aresample", args: args, named: ffmpeg.KwArgs{"async": 1, "first_pts": 0}}
}

// pairFilters leave two channels as they are, interleaved.
func pairFilters() []filter {
	return []filter{
		fill(strconv.Itoa(Rate)),
		{name: "aformat", named: ffmpeg.KwArgs{"sample_fmts": "flt", "channel_layouts": "stereo"}},
	}
}

// playFilters are those of the second decode: of one channel, from 1, or of all, mixed, where it is 0.
func playFilters(plan Plan, gain float64, channel int) []filter {
	var fs []filter
	if channel > 0 {
		fs = append(fs, filter{name: "pan", args: ffmpeg.Args{fmt.Sprintf("mono|c0=c%d", channel-1)}})
	}
	switch plan.Loudness {
	case Classic:
		loudnorm := filter{name: "loudnorm", named: ffmpeg.KwArgs{"I": TargetLoudness, "TP": TargetPeak, "LRA": TargetRange}}
		// It counts samples and loses the timestamps, so that the holes must be filled before it.
		return append(append(fs, fill(), loudnorm), monoFilters()...)
	case Linear:
		volume := ffmpeg.KwArgs{"volume": fmt.Sprintf("%.2fdB", gain), "precision": "float"}
		return append(append(fs, monoFilters()...), filter{name: "volume", named: volume})
	default:
		return append(fs, monoFilters()...)
	}
}

// running is an ffmpeg that writes PCM. One goroutine uses it.
type running struct {
	ctx    context.Context
	cancel context.CancelFunc
	cmd    *exec.Cmd
	out    io.ReadCloser
	done   func()
}

// start starts ffmpeg with args on the file at path; stderr gets what it says. The caller must call wait.
func (t Tools) start(ctx context.Context, path string, args []string, stderr io.Writer) (*running, error) {
	if t.Limit != nil {
		if err := t.Limit.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("wait for a free ffmpeg: %w", err)
		}
	}
	r := &running{done: func() {
		if t.Limit != nil {
			t.Limit.Release(1)
		}
	}}
	r.ctx, r.cancel = context.WithCancel(ctx)
	var err error
	r.cmd, err = t.Sandbox.Start(func() (*exec.Cmd, error) {
		cmd := proc.Command(r.ctx, t.FFmpeg, slices.Clone(args)...)
		cmd.Env = environment()
		cmd.Stderr = stderr
		out, err := cmd.StdoutPipe()
		r.out = out
		return cmd, err
	}, confinement(path))
	if err != nil {
		r.cancel()
		r.done()
		return nil, fmt.Errorf("start ffmpeg: %w", err)
	}
	return r, nil
}

// wait ends the process and gives everything back. stop kills it first; otherwise its output must have been read to the end.
func (r *running) wait(stop bool) error {
	if stop {
		r.cancel()
	}
	err := proc.Explain(r.ctx, r.cmd, r.cmd.Wait())
	r.cancel()
	r.done()
	return err
}
