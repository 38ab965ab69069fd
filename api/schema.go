package api

import (
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// schemaOf describes a Go type in the OpenAPI object.
func schemaOf[T any](r huma.Registry, name string) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, name)
}

// answerOf documents an answer of a plain handler, as JSON of a type.
func answerOf[T any](s *Server, name, description string) *huma.Response {
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{jsonType: {Schema: schemaOf[T](s.huma.OpenAPI().Components.Schemas, name)}},
	}
}

// bytesOf documents an answer that is no JSON.
func bytesOf(description string, types ...string) *huma.Response {
	r := &huma.Response{Description: description, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		r.Content[t] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	if r.Content[eventType] != nil { // of a stream each event is described
		text := &huma.Schema{Type: huma.TypeString}
		r.Content[eventType].Schema = &huma.Schema{
			Type: huma.TypeObject, Properties: map[string]*huma.Schema{"id": text, "event": text, "data": text},
		}
	}
	return r
}

const jsonType = "application/json"

// writeJSON answers a plain handler's request.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(data) // an error means that the client has gone
	return nil
}

// pathParam documents a part of the path.
func pathParam(name, doc string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}

// queryParam documents an optional text in the query; with values it is one of them.
func queryParam(name, doc string, values ...string) *huma.Param {
	p := &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	for _, v := range values {
		p.Schema.Enum = append(p.Schema.Enum, v)
	}
	return p
}

// headerParam documents an optional header.
func headerParam(name, doc string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}
