package api

import (
	"context"
	"net/http"
	"time"

	"steno/store"
)

// keyBody is an API key as its owner sees it.
type keyBody struct {
	ID       string     `json:"key_id"`
	Name     string     `json:"name"`
	Prefix   string     `json:"prefix" doc:"how the key begins"`
	Created  time.Time  `json:"created_at"`
	LastUsed *time.Time `json:"last_used_at" doc:"to the minute"`
	Revoked  *time.Time `json:"revoked_at"`
}

func keyBodyOf(k store.APIKey) keyBody {
	return keyBody{k.ID, k.Name, k.Prefix, k.Created, unlessZero(k.LastUsed), unlessZero(k.Revoked)}
}

type newKeyInput struct {
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"100" doc:"what it is for"`
	}
}

type newKeyBody struct {
	keyBody
	Key string `json:"key" doc:"send it as Authorization: Bearer …; it is shown this once"`
}

type newKeyOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         newKeyBody
}

// createKey makes an API key for the caller. A key cannot make others: whoever has found one must not be able to keep it.
func (s *Server) createKey(ctx context.Context, in *newKeyInput) (*newKeyOutput, error) {
	q := requestOf(ctx)
	if q.token == nil {
		return nil, errNeedsToken()
	}
	key, kept := NewAPIKey(q.user.ID, in.Body.Name)
	k, err := s.cfg.Store.CreateAPIKey(ctx, kept)
	if err != nil {
		return nil, err
	}
	return &newKeyOutput{"no-store", newKeyBody{keyBodyOf(k), key}}, nil
}

type keysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Items []keyBody `json:"items" nullable:"false" doc:"newest first, the revoked too"`
	}
}

// keys lists the caller's API keys.
func (s *Server) keys(ctx context.Context, _ *struct{}) (*keysOutput, error) {
	list, err := s.cfg.Store.APIKeys(ctx, userOf(ctx))
	if err != nil {
		return nil, err
	}
	out := &keysOutput{CacheControl: "no-store"} // its last use changes with each request
	out.Body.Items = []keyBody{}
	for _, k := range list {
		out.Body.Items = append(out.Body.Items, keyBodyOf(k))
	}
	return out, nil
}

type keyInput struct {
	ID string `path:"key_id"`
}

// revokeKey ends one of the caller's API keys.
func (s *Server) revokeKey(ctx context.Context, in *keyInput) (*noOutput, error) {
	return nil, s.cfg.Store.RevokeAPIKey(ctx, userOf(ctx), plainID(in.ID))
}

type secretOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Secret string `json:"secret" doc:"the key of the HMAC in Steno-Signature, to be used as it is"`
	}
}

// webhookSecret tells the caller how to check the calls of webhooks.
func (s *Server) webhookSecret(ctx context.Context, _ *struct{}) (*secretOutput, error) {
	if s.cfg.WebhookSecret == nil {
		return nil, newProblem(http.StatusNotFound, "NO_WEBHOOKS", "this service calls no webhooks")
	}
	out := &secretOutput{CacheControl: "no-store"}
	out.Body.Secret = s.cfg.WebhookSecret(userOf(ctx))
	return out, nil
}

func (s *Server) userRoutes() {
	const path = prefix + "/user/keys"
	register(s, route{
		method: http.MethodPost, path: path, id: "create-key", tag: "accounts", body: true, status: http.StatusCreated,
		summary: "Make an API key", fails: []int{http.StatusForbidden, http.StatusNotFound},
	}, s.createKey)
	register(s, route{
		method: http.MethodGet, path: path, id: "list-keys", tag: "accounts", summary: "List the API keys",
	}, s.keys)
	register(s, route{
		method: http.MethodDelete, path: path + "/{key_id}", id: "revoke-key", tag: "accounts", status: http.StatusNoContent,
		summary: "Revoke an API key", fails: []int{http.StatusNotFound},
	}, s.revokeKey)
	register(s, route{
		method: http.MethodGet, path: prefix + "/user/webhook-secret", id: "webhook-secret", tag: "accounts",
		summary: "Get the key that signs calls of webhooks", fails: []int{http.StatusNotFound},
	}, s.webhookSecret)
}
