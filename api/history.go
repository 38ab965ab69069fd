package api

import (
	"context"
	"net/http"

	"steno/internal/failpoint"
	"steno/job"
	"steno/store"
)

type historyInput struct {
	Page   int       `query:"page" minimum:"1" doc:"a page by number, with the total; for long histories use cursor"`
	Limit  int       `query:"limit" minimum:"1" maximum:"100" default:"10" doc:"tasks on a page"`
	Cursor string    `query:"cursor" maxLength:"128" doc:"next_cursor of the page before; absent for the first"`
	Status job.State `query:"status" enum:"queued,running,done,failed,cancelled" doc:"only tasks with this status"`
	Prefix string    `query:"file_name" maxLength:"1024" doc:"only tasks whose file's name begins so; upper and lower case differ"`
}

type historyBody struct {
	Items []taskBody `json:"items" nullable:"false" doc:"newest first"`
	Limit int        `json:"limit"`
	Next  *string    `json:"next_cursor" doc:"for the next page; null on the last, and on pages by number"`
	Page  *int       `json:"page" doc:"null on pages by cursor"`
	Total *int       `json:"total" doc:"tasks on all pages; null on pages by cursor"`
}

type historyOutput struct{ Body historyBody }

// history lists the caller's tasks, by cursor unless a page is named.
func (s *Server) history(ctx context.Context, in *historyInput) (*historyOutput, error) {
	if failpoint.On {
		failpoint.Hit(failpoint.HistoryRead)
	}
	f := store.Filter{Status: in.Status, Prefix: in.Prefix}
	body := historyBody{Limit: in.Limit}
	var tasks []store.Task
	var err error
	switch {
	case in.Page > 0 && in.Cursor != "":
		return nil, badField("query.cursor", "BAD_FIELD", "a page has a number or a cursor: leave one of them out")
	case in.Page > 0:
		var total int
		tasks, total, err = s.cfg.Store.HistoryPage(ctx, userOf(ctx), f, in.Page, in.Limit)
		body.Page, body.Total = &in.Page, &total
	default:
		var next string
		tasks, next, err = s.cfg.Store.History(ctx, userOf(ctx), f, in.Cursor, in.Limit)
		body.Next = unlessZero(next)
	}
	if err != nil {
		return nil, err
	}
	body.Items = make([]taskBody, len(tasks))
	for i, t := range tasks {
		body.Items[i] = bodyOf(t)
	}
	return &historyOutput{body}, nil
}

func (s *Server) historyRoutes() {
	register(s, route{
		method: http.MethodGet, path: prefix + "/user/history", id: "history", tag: "tasks", cached: historyOfRoute,
		summary: "List the caller's tasks, newest first",
		description: "Pages by cursor are stable while tasks are added, and cost the same wherever they are. Pages by number are for " +
			"clients that know nothing else.",
		fails: []int{http.StatusUnprocessableEntity},
	}, s.history)
}
