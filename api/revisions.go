package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"steno/store"
	"steno/transcript"
)

// maxEdit is the most bytes of an edit: the text of several hours of speech.
const maxEdit = 1 << 20

type revisionBody struct {
	Number  int       `json:"revision" doc:"counts from 1; 0 is what the engine heard"`
	Created time.Time `json:"created_at"`
}

type revisionsOutput struct {
	Body struct {
		Items []revisionBody `json:"items" nullable:"false" doc:"newest first; the original, number 0, is not among them"`
	}
}

// revisions lists the edits of a transcript.
func (s *Server) revisions(ctx context.Context, in *taskInput) (*revisionsOutput, error) {
	t, err := s.task(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Store.Revisions(ctx, t.User, t.ID)
	if err != nil {
		return nil, err
	}
	out := &revisionsOutput{}
	out.Body.Items = make([]revisionBody, len(list))
	for i, r := range list {
		out.Body.Items[i] = revisionBody{r.Number, r.Created}
	}
	return out, nil
}

type reviseInput struct {
	ID   string `path:"task_id"`
	Body struct {
		Base     int               `json:"base" minimum:"0" doc:"the revision that is edited: the newest, or 0 where there is none"`
		Segments []segmentEdit     `json:"segments,omitempty" nullable:"false" maxItems:"100000" doc:"segments by their ids"`
		Speakers map[string]string `json:"speakers,omitempty" doc:"new names of speakers throughout, by their old ones"`
	}
}

type segmentEdit struct {
	ID      int     `json:"id"`
	Text    *string `json:"text,omitempty" maxLength:"2000" doc:"the new text; an empty one takes the segment out"`
	Speaker *string `json:"speaker,omitempty" maxLength:"100" doc:"who says it"`
}

type reviseOutput struct{ Body revisionBody }

// revise saves an edit as a new revision.
func (s *Server) revise(ctx context.Context, in *reviseInput) (*reviseOutput, error) {
	if err := s.cfg.Room(); err != nil {
		return nil, err
	}
	t, err := s.task(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	was, newest, err := s.cfg.Store.Revised(ctx, t.User, t.ID, store.Newest)
	if err != nil {
		return nil, err
	}
	if newest == in.Body.Base { // else Revise says so
		if was.Transcript, err = edit(was.Transcript, in); err != nil {
			return nil, err
		}
	}
	r, err := s.cfg.Store.Revise(ctx, t.User, t.ID, in.Body.Base, was.Transcript)
	if err != nil {
		return nil, err
	}
	s.drop(taskTag(t.User, t.ID))
	return &reviseOutput{revisionBody{r.Number, r.Created}}, nil
}

func edit(t transcript.Transcript, in *reviseInput) (transcript.Transcript, error) {
	e := transcript.Edit{Speakers: in.Body.Speakers}
	for _, c := range in.Body.Segments {
		e.Segments = append(e.Segments, transcript.SegmentEdit(c))
	}
	t, err := t.Edited(e)
	var refused *transcript.EditError
	if errors.As(err, &refused) {
		return t, badField("body", "BAD_EDIT", refused.Reason)
	}
	return t, err
}

// revisionOf is the revision that a download asks for.
func revisionOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("revision")
	if text == "" {
		return store.Newest, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, badField("query.revision", "BAD_FIELD", "a revision is a number, 0 or more: leave it out for the newest")
	}
	return n, nil
}

func (s *Server) revisionRoutes() {
	const all = prefix + "/transcription/{task_id}/revisions"
	register(s, route{
		method: http.MethodGet, path: all, id: "list-revisions", tag: "tasks", summary: "List the edits of a transcript",
		cached: taskOfRoute, fails: []int{http.StatusNotFound, http.StatusConflict},
	}, s.revisions)
	register(s, route{
		method: http.MethodPost, path: all, id: "edit-transcript", tag: "tasks", body: true, maxBody: maxEdit,
		status: http.StatusCreated, summary: "Save an edit of a transcript as a new revision",
		description: "The original stays as it is. Words keep their times where the new text still has them. Of two edits of one " +
			"revision the second is refused with EDITED_MEANWHILE.",
		fails: []int{http.StatusNotFound, http.StatusConflict},
	}, s.revise)
}
