package api_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"steno/job"
)

// tasks reads the next event of a stream of all tasks, as "state progress" by id.
func (s *sse) tasks() map[job.ID]string {
	s.t.Helper()
	e := s.soon()
	var body struct {
		Tasks []taskOf `json:"tasks"`
	}
	if err := json.Unmarshal([]byte(e.data), &body); err != nil || e.name != "tasks" {
		s.t.Fatalf("event %+v: %v", e, err)
	}
	got := map[job.ID]string{}
	for _, t := range body.Tasks {
		got[t.ID] = fmt.Sprintf("%s %g", t.Status, t.Progress)
	}
	return got
}

// One stream tells of all of a user's tasks, as they are added, go on and end, and of nobody else's.
func TestFollowAll(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	old := s.task()
	f := s.stream(s.ada, "/api/v1/user/events", "")
	want := func(tasks map[job.ID]string) {
		t.Helper()
		if got := f.tasks(); fmt.Sprint(got) != fmt.Sprint(tasks) {
			t.Fatalf("told of %v, want %v", got, tasks)
		}
	}
	want(map[job.ID]string{old: "queued 0"})
	s.taskOf(s.eve)
	s.record(old, job.Running, 1, true)
	want(map[job.ID]string{old: "running 0.1"})
	s.record(old, job.Running, 2, false) // by another gateway
	want(map[job.ID]string{old: "running 0.2"})
	added := s.task()
	s.server.InvalidateTask(s.ada.ID, added)
	want(map[job.ID]string{added: "queued 0"})
	s.record(old, job.Done, 10, true)
	want(map[job.ID]string{old: "done 1"})
	s.record(added, job.Failed, 0, true)
	want(map[job.ID]string{added: "failed 0"})
	if got := s.stream(s.ada, "/api/v1/user/events", "").tasks(); len(got) != 0 {
		t.Errorf("where nothing is open one is told of %v", got)
	}
}
