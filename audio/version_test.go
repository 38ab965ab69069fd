package audio

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"steno/internal/proc"
	"steno/job"
)

// The first lines of real builds.
func TestParseVersion(t *testing.T) {
	t.Parallel()
	const since = " Copyright (c) 2000-2026 the FFmpeg developers"
	for line, want := range map[string]struct {
		text    string
		release release
		old     bool
	}{
		"ffmpeg version 5.1.9-0+deb12u1" + since:                                     {"5.1.9-0+deb12u1", release{5, 1, 9}, false},
		"ffprobe version 5.1.9-0+deb12u1" + since:                                    {"5.1.9-0+deb12u1", release{5, 1, 9}, false},
		"ffmpeg version 4.3.9-0+deb11u2" + since:                                     {"4.3.9-0+deb11u2", release{4, 3, 9}, false},
		"ffmpeg version 4.4.2-0ubuntu0.22.04.1" + since:                              {"4.4.2-0ubuntu0.22.04.1", release{4, 4, 2}, false},
		"ffmpeg version 6.1.1-3ubuntu5" + since:                                      {"6.1.1-3ubuntu5", release{6, 1, 1}, false},
		"ffmpeg version 3.4.11-0ubuntu0.1" + since:                                   {"3.4.11-0ubuntu0.1", release{3, 4, 11}, true},
		"ffmpeg version 2.8.17-0ubuntu0.1" + since:                                   {"2.8.17-0ubuntu0.1", release{2, 8, 17}, true},
		"ffprobe version 3.1-static http://johnvansickle.com/ffmpeg/ " + since:       {"3.1-static", release{3, 1, 0}, true},
		"ffmpeg version 4.0.6" + since:                                               {"4.0.6", release{4, 0, 6}, true},
		"ffmpeg version 4.1-static https://johnvansickle.com/ffmpeg/ " + since:       {"4.1-static", release{4, 1, 0}, false},
		"ffmpeg version 7.0.2-static https://johnvansickle.com/ffmpeg/ " + since:     {"7.0.2-static", release{7, 0, 2}, false},
		"ffmpeg version 8.0" + since:                                                 {"8.0", release{8, 0, 0}, false},
		"ffmpeg version 10.0.1" + since:                                              {"10.0.1", release{10, 0, 1}, false},
		"ffmpeg version n7.1" + since:                                                {"n7.1", release{7, 1, 0}, false},
		"ffmpeg version n6.1-7-g5ddab49d48-20231205" + since:                         {"n6.1-7-g5ddab49d48-20231205", release{6, 1, 0}, false},
		"ffmpeg version 7.1.1-full_build-www.gyan.dev" + since:                       {"7.1.1-full_build-www.gyan.dev", release{7, 1, 1}, false},
		"ffmpeg version 5.1.9-0+deb12u1\r":                                           {"5.1.9-0+deb12u1", release{5, 1, 9}, false},
		"ffmpeg version N-87327-g18821e3ba1-static http://johnvansickle.com/ffmpeg/": {"N-87327-g18821e3ba1-static", release{}, false},
		"ffmpeg version N-113007-g8d24a28d06-20231205" + since:                       {"N-113007-g8d24a28d06-20231205", release{}, false},
		"ffmpeg version 2024-07-15-git-350146a1ea-full_build-www.gyan.dev" + since:   {"2024-07-15-git-350146a1ea-full_build-www.gyan.dev", release{}, false},
		"ffmpeg version git-2020-06-15-9d80f3e" + since:                              {"git-2020-06-15-9d80f3e", release{}, false},
		"ffmpeg version 20260101.1" + since:                                          {"20260101.1", release{}, false},
		"ffmpeg version UNKNOWN" + since:                                             {"UNKNOWN", release{}, false},
	} {
		v, err := parseVersion(line)
		if err != nil || v.Text != want.text || v.release != want.release || v.Released() != (want.release != release{}) {
			t.Errorf("%s: %+v, %v", line, v, err)
		}
		err = v.Check()
		var e *job.Error
		if errors.As(err, &e) != want.old || want.old && (e.Code != "FFMPEG_TOO_OLD" || !strings.Contains(e.Message, "older than 4.1, ")) {
			t.Errorf("%s: too old: %v", line, err)
		}
		if note := strings.Contains(v.String(), "no release"); note == v.Released() {
			t.Errorf("%s is told as %q", line, v)
		}
	}
	for _, line := range []string{"", "ffmpeg", "avconv 11.3", "hello world, this is no version"} {
		if v, err := parseVersion(line); err == nil {
			t.Errorf("%q is taken for %+v", line, v)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	tools, err := FindTools()
	if err != nil {
		t.Fatal(err)
	}
	all, err := tools.Versions(t.Context())
	if err != nil || len(all) != 2 || all[0].Program != "ffmpeg" || all[1].Program != "ffprobe" {
		t.Fatalf("%v, %v", all, err)
	}
	for _, v := range all {
		if err := v.Check(); err != nil {
			t.Errorf("the tests run with %s: %v", v, err)
		}
	}
	broken := filepath.Join(t.TempDir(), "ffprobe")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	tools.FFprobe, tools.Sandbox = broken, proc.NewSandbox(proc.Off, nil)
	var e *job.Error
	if _, err := tools.Versions(t.Context()); !errors.As(err, &e) || e.Code != "FFMPEG_BROKEN" || !strings.Contains(e.Message, "ffprobe does not run") {
		t.Errorf("one that does not run: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tools.Versions(gone); err == nil {
		t.Error("nobody waits, and it was asked all the same")
	}
}
