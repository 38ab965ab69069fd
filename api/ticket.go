package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"steno/store"
)

// ticketParam carries a ticket: players of browsers can send no header.
const ticketParam = "ticket"

type linkOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		URL     string    `json:"url" doc:"from the root of this host"`
		Expires time.Time `json:"expires_at"`
	}
}

// link makes a ticket for one of the caller's files.
func (s *Server) link(ctx context.Context, in *fileInput) (*linkOutput, error) {
	u := requestOf(ctx).user
	f, err := s.cfg.Store.File(ctx, u.ID, plainID(in.ID))
	if err != nil {
		return nil, err
	}
	ticket, err := s.tokens.makeTicket(u, f.ID)
	if err != nil {
		return nil, err
	}
	out := &linkOutput{CacheControl: "no-store"}
	out.Body.URL = prefix + "/files/" + f.ID + "/content?" + url.Values{ticketParam: {ticket}}.Encode()
	out.Body.Expires = s.cfg.Now().Add(s.cfg.TokenLifetime).UTC().Truncate(time.Second)
	return out, nil
}

// admitTicket lets in who has a ticket for the file that the path names.
func (s *Server) admitTicket(r *http.Request) error {
	text := r.URL.Query().Get(ticketParam)
	if len(text) > maxToken {
		return errUnauthorized()
	}
	c, err := s.tokens.parseTicket(text)
	if err != nil || c.File == "" || c.File != plainID(r.PathValue("file_id")) {
		return errUnauthorized()
	}
	u, err := s.standing(r.Context(), c)
	if errors.Is(err, store.ErrNotFound) {
		return errUnauthorized()
	}
	if err != nil {
		return err
	}
	return s.known(requestOf(r.Context()), u)
}
