package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"steno/job"
	"steno/queue"
)

func at(done float64) job.Progress {
	return job.Progress{Stage: job.StageTranscribe, Done: done, Total: 100}
}

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	now := time.Now()
	look := func(after time.Duration, g job.Progress, wantSpeed float64, wantLeft time.Duration) {
		t.Helper()
		if speed, left := p.add(now.Add(after), g); speed != wantSpeed || left != wantLeft {
			t.Errorf("after %s: %g and %s, want %g and %s", after, speed, left, wantSpeed, wantLeft)
		}
	}
	look(0, job.Progress{Stage: job.StageLoad}, 0, 0)
	look(time.Second, at(0), 0, 0)
	look(2*time.Second, at(10), 10, 9*time.Second)
	look(3*time.Second, at(30), 15, 70*time.Second/15)
	look(4*time.Second, at(5), 0, 0) // another attempt
	look(6*time.Second, at(25), 10, 7500*time.Millisecond)
	look(60*time.Second, at(25), 0, 0) // it stands still
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"████████████░░░░░░░░░░░░  50 %  transcribe   12.5×     1:05 left  a.mp3": progressLine(at(50), 12.5, 65*time.Second, "a.mp3"),
		"░░░░░░░░░░░░░░░░░░░░░░░░   0 %  load                              a.mp3": progressLine(job.Progress{Stage: job.StageLoad}, 0, 0, "a.mp3"),
		"████████████████████████ 100 %  transcribe    2.0×  2:00:01 left  a.mp3": progressLine(at(400), 2, 2*time.Hour+time.Millisecond, "a.mp3"),
	} {
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// terminal shows what a screen writes: it knows the few commands that one uses.
func terminal(t *testing.T, written string) []string {
	t.Helper()
	rows, row := []string{""}, 0
	for len(written) > 0 {
		var n int
		switch {
		case strings.HasPrefix(written, "\r"):
			written = written[1:]
		case strings.HasPrefix(written, "\x1b[J"):
			rows, written = append(rows[:row], ""), written[len("\x1b[J"):]
		case strings.HasPrefix(written, "\x1b["):
			if _, err := fmt.Sscanf(written, "\x1b[%dA", &n); err != nil || n > row {
				t.Fatalf("%q at row %d", written[:min(8, len(written))], row)
			}
			row, written = row-n, written[strings.IndexByte(written, 'A')+1:]
		case written[0] == '\n':
			if row++; row == len(rows) {
				rows = append(rows, "")
			}
			written = written[1:]
		default:
			end := strings.IndexAny(written+"\n", "\r\n\x1b")
			rows[row], written = rows[row]+written[:end], written[end:]
		}
	}
	return rows
}

func TestScreen(t *testing.T) {
	t.Parallel()
	var w bytes.Buffer
	s := &screen{w: &w, size: func() (int, int) { return 20, 5 }}
	want := func(rows ...string) {
		t.Helper()
		if got := terminal(t, w.String()); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", append(rows, "")) {
			t.Errorf("it shows %q, want %q", got, rows)
		}
	}
	s.draw([]string{"one", "two"})
	want("one", "two")
	s.draw([]string{"1\x1b[9A\a\u202e"})
	want("1[9A")
	s.clear()
	fmt.Fprintln(&w, "a line of its own")
	s.draw([]string{"1", "a name that is longer than a line", "三文字三文字三文字三文字"})
	want("a line of its own", "1", "a name that is lon…", "三文字三文字三文字…")
	s.draw([]string{"1", "2", "3", "4", "5"})
	want("a line of its own", "1", "2", "3", "… and 2 more")
	s.draw(nil)
	want("a line of its own")

	silent := newScreen(&bytes.Buffer{})
	silent.draw([]string{"x"})
	silent.clear()
	if silent.shows() || silent.w.(*bytes.Buffer).Len() > 0 {
		t.Error("it writes where there is no terminal")
	}
}

func TestWatchLines(t *testing.T) {
	t.Parallel()
	now := time.Now()
	status := func(name string, state job.State, ago time.Duration) queue.Status {
		return queue.Status{
			Job: job.Job{ID: job.ID(name), FileName: name}, State: state, Queued: now.Add(-ago), Started: now.Add(-ago), Finished: now.Add(-ago),
		}
	}
	running, again, failed := status("b.mp3", job.Running, time.Minute), status("d.mp3", job.Queued, time.Minute), status("e.mp3", job.Failed, 0)
	running.Progress, running.Worker = at(25), "gpu-7"
	again.Error = &job.Error{Message: "the machine went away"}
	failed.Error = &job.Error{Message: "it has no sound"}
	var s queueState
	s.sort([]queue.Status{failed, again, status("c.mp3", job.Queued, 2*time.Minute), running, status("f.mp3", job.Done, time.Hour)})
	s.Nodes = []queue.Node{{Slots: 4, Running: 1}, {Slots: 2}}
	s.Depth.Dead = 3
	w := &watch{paces: map[job.ID]*pace{}}
	w.lines(s, now)
	s.Running[0].Progress = at(50)
	got := strings.Join(w.lines(s, now.Add(time.Second)), "\n")
	want := strings.Join([]string{
		"1 running, 2 waiting, 3 dead letters, 2 nodes with 1 of 6 slots busy",
		"████████████░░░░░░░░░░░░  50 %  transcribe   25.0×     0:02 left  b.mp3  gpu-7",
		"waiting    2:01  c.mp3",
		"waiting    1:01  d.mp3  tried again: the machine went away",
		"failed  e.mp3  it has no sound",
		"done  f.mp3",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
