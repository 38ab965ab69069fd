package audio

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"steno/internal/proc"
	"steno/job"
)

// oldest is the first release of ffmpeg that passed all tests of this package, on media made by 5.1.9; after it 4.2.2, 5.1.9 and
// 7.0.2 did, too. A build of October 2017 with ffprobe 3.1 does as well: what is used here is older still. What later releases
// repair does not raise it. Distributions bring repairs to old releases, and the hole that lets HLS past the list of protocols
// before 8.1.3 is closed by the list of formats.
var oldest = release{4, 1, 0}

type release [3]int // major, minor, patch

func (r release) String() string {
	if r[2] == 0 {
		return fmt.Sprintf("%d.%d", r[0], r[1])
	}
	return fmt.Sprintf("%d.%d.%d", r[0], r[1], r[2])
}

func (r release) before(o release) bool {
	for i := range r {
		if r[i] != o[i] {
			return r[i] < o[i]
		}
	}
	return false
}

// Version is what ffmpeg or ffprobe says of itself.
type Version struct {
	Program string // ffmpeg or ffprobe
	Text    string // as it names it, such as 5.1.9-0+deb12u1
	release release
}

// releaseText begins like a release's name; a day, as in 2024-07-15-git-350146a1ea, does not.
var releaseText = regexp.MustCompile(`^n?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:[^\d.].*)?$`)

// parseVersion reads the first line of `ffmpeg -version`.
func parseVersion(line string) (Version, error) {
	words := strings.Fields(line)
	if len(words) < 3 || words[1] != "version" {
		return Version{}, fmt.Errorf("%.60q is not how ffmpeg names its version", line)
	}
	v := Version{Program: words[0], Text: words[2]}
	if m := releaseText.FindStringSubmatch(v.Text); m != nil {
		for i, digits := range m[1:] {
			v.release[i], _ = strconv.Atoi(digits) // an absent patch is 0
		}
	}
	return v, nil
}

// Released tells whether the version names a release. Builds of some day's source, such as N-87327-g18821e3ba1, do not.
func (v Version) Released() bool { return v.release != release{} }

func (v Version) String() string {
	text := v.Program + " version " + v.Text
	if !v.Released() {
		text += fmt.Sprintf(" (no release: it should be newer than %s)", oldest)
	}
	return text
}

// Check is an error of code FFMPEG_TOO_OLD for a release that is older than what this package is tested with.
func (v Version) Check() error {
	if v.Released() && v.release.before(oldest) {
		return job.Errorf(job.Internal, "FFMPEG_TOO_OLD",
			"%s %s is older than %s, the oldest that works: install a newer one, or name its path in the configuration",
			v.Program, v.Text, oldest)
	}
	return nil
}

// Versions asks both programs, each in the sandbox, as they run for a file.
func (t Tools) Versions(ctx context.Context) ([]Version, error) {
	var all []Version
	for _, program := range []string{t.FFmpeg, t.FFprobe} {
		v, err := t.version(ctx, program)
		if err != nil {
			return all, job.Errorf(job.Internal, "FFMPEG_BROKEN",
				"%s does not run: %w: install the package ffmpeg, or name another path in the configuration", filepath.Base(program), err)
		}
		all = append(all, v)
	}
	return all, nil
}

func (t Tools) version(ctx context.Context, program string) (Version, error) {
	var out bytes.Buffer
	cmd, err := t.Sandbox.Start(func() (*exec.Cmd, error) {
		cmd := proc.Command(ctx, program, "-version")
		cmd.Env, cmd.Stdout = environment(), &out
		return cmd, nil
	}, proc.Confinement{})
	if err != nil {
		return Version{}, err
	}
	if err := proc.Explain(ctx, cmd, cmd.Wait()); err != nil {
		return Version{}, err
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return parseVersion(line)
}
