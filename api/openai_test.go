package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"steno/api"
	"steno/job"
	"steno/queue"
	"steno/transcript"
)

const (
	transcriptions = "/v1/audio/transcriptions"
	translations   = "/v1/audio/translations"
)

// speech is a handler that says a transcript of two segments, in the language and for the task that were asked for.
func speech(_ context.Context, d *queue.Delivery) (transcript.Transcript, error) {
	t := transcript.Transcript{
		Text: "Ask not. What can you do?", Language: d.Job.Params.Language, Duration: 2.2, Task: string(d.Job.Params.Task),
		Segments: []transcript.Segment{
			{ID: 0, Start: 0, End: 1, Text: "Ask not.", AvgLogprob: -0.25, CompressionRatio: 1.5, NoSpeechProb: 0.125},
			{ID: 1, Start: 1.2, End: 2.2, Text: "What can you do?"},
		},
	}
	if d.Job.Params.Words {
		t.Segments[0].Words = []transcript.Word{{Start: 0, End: 0.4, Text: "Ask"}, {Start: 0.5, End: 1, Text: "not."}}
		t.Segments[1].Words = []transcript.Word{{Start: 1.2, End: 1.5, Text: "What"}}
	}
	return t, nil
}

// transcribe sends a file as clients of OpenAI's API do. Fields come in pairs.
func (r *rig) transcribe(as user, path string, content []byte, fields ...string) *reply {
	r.Helper()
	body, contentType := formOf(r.T, "speech.wav", content, fields...)
	return r.call(as, "POST", path, body, "Content-Type", contentType)
}

// failed checks that the answer is a failure in the form of OpenAI's API, and returns the field that it names.
func (p *reply) failed(status int, kind, code string) (param string) {
	p.t.Helper()
	var v struct {
		Error struct {
			Message, Type, Code string
			Param               *string
		}
	}
	p.want(status)
	decoder := json.NewDecoder(bytes.NewReader(p.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		p.t.Fatalf("%s: %v: %s", p.what, err, p.body)
	}
	if e := v.Error; e.Type != kind || e.Code != code || e.Message == "" || p.Header.Get("Content-Type") != "application/json" {
		p.t.Errorf("%s: %s of type %s, want type %s and code %s", p.what, p.body, p.Header.Get("Content-Type"), kind, code)
	}
	if v.Error.Param != nil {
		param = *v.Error.Param
	}
	return param
}

func TestOpenAIFormats(t *testing.T) {
	t.Parallel()
	r := newRig(t, unprobed)
	r.work(speech)
	const (
		plain = "text/plain; charset=utf-8"
		usage = `"usage":{"type":"duration","seconds":3}`
		text  = `{"text":"Ask not. What can you do?",` + usage
		first = `{"id":0,"seek":0,"start":0,"end":1,"text":"Ask not.","tokens":[],"temperature":0,"avg_logprob":-0.25,` +
			`"compression_ratio":1.5,"no_speech_prob":0.125}`
		second = `{"id":1,"seek":120,"start":1.2,"end":2.2,"text":"What can you do?","tokens":[],"temperature":0,"avg_logprob":0,` +
			`"compression_ratio":0,"no_speech_prob":0}`
		verbose = text + `,"task":"transcribe","language":"english","duration":2.2,"segments":[` + first + `,` + second + `]`
		words   = `,"words":[{"word":"Ask","start":0,"end":0.4},{"word":"not.","start":0.5,"end":1},` +
			`{"word":"What","start":1.2,"end":1.5}]}`
	)
	for _, row := range []struct {
		path       string
		fields     []string
		kind, want string
	}{
		{transcriptions, nil, "application/json", text + "}"},
		{transcriptions, []string{"response_format", "json"}, "application/json", text + "}"},
		{transcriptions, []string{"response_format", "text"}, plain, "Ask not. What can you do?\n"},
		{transcriptions, []string{"response_format", "srt"}, plain,
			"1\n00:00:00,000 --> 00:00:02,200\nAsk not. What can you do?\n\n"},
		{transcriptions, []string{"response_format", "vtt"}, plain,
			"WEBVTT\n\n00:00:00.000 --> 00:00:02.200\nAsk not. What can you do?\n"},
		{transcriptions, []string{"response_format", "verbose_json", "language", "en"}, "application/json", verbose + "}"},
		{transcriptions, []string{"response_format", "verbose_json", "language", "EN", "timestamp_granularities[]", "segment"},
			"application/json", verbose + "}"},
		{transcriptions, []string{"response_format", "verbose_json", "language", "en", "timestamp_granularities[]", "word"},
			"application/json", verbose + words},
		{transcriptions, []string{"response_format", "verbose_json", "language", "en", "timestamp_granularities[]", "segment",
			"timestamp_granularities[]", "word", "model", "whisper-1", "temperature", "0.5", "prompt", "Ask", "include[]", "logprobs"},
			"application/json", verbose + words},
		{transcriptions, []string{"response_format", "verbose_json", "language", "bn", "timestamp_granularities", "word"},
			"application/json", strings.Replace(verbose, "english", "bengali", 1) + words},
		{transcriptions, []string{"response_format", "diarized_json"}, "application/json", text + `,"task":"transcribe","duration":2.2,"segments":[` +
			`{"type":"transcript.text.segment","id":"seg_0","start":0,"end":1,"text":"Ask not.","speaker":""},` +
			`{"type":"transcript.text.segment","id":"seg_1","start":1.2,"end":2.2,"text":"What can you do?","speaker":""}]}`},
		{translations, nil, "application/json", text + "}"},
		{translations, []string{"response_format", "text", "model", "whisper-1"}, plain, "Ask not. What can you do?\n"},
		{translations, []string{"response_format", "verbose_json", "language", "de"}, "application/json",
			strings.NewReplacer("english", "german", `"transcribe"`, `"translate"`).Replace(verbose) + "}"},
	} {
		p := r.transcribe(r.ada, row.path, wav(1), row.fields...).want(200)
		if p.Header.Get("Content-Type") != row.kind || string(p.body) != row.want {
			t.Errorf("%s %q: %s: %s\nwant %s", row.path, row.fields, p.Header.Get("Content-Type"), p.body, row.want)
		}
	}
	// The tasks are in the history, as all others.
	if n := r.listed(r.ada); n != 14 {
		t.Errorf("%d tasks in the history", n)
	}
	r.work(func(context.Context, *queue.Delivery) (transcript.Transcript, error) {
		return transcript.Transcript{Language: "en", Duration: 1, Task: "transcribe"}, nil
	})
	// Where nobody speaks there are no segments, but there is a list of them.
	p := r.transcribe(r.ada, transcriptions, wav(2), "response_format", "verbose_json", "timestamp_granularities[]", "word")
	want := `{"text":"","usage":{"type":"duration","seconds":1},"task":"transcribe","language":"english","duration":1,` +
		`"segments":[],"words":[]}`
	if p.want(200); string(p.body) != want {
		t.Errorf("silence: %s", p.body)
	}
}

// openaiEvents are the data of a stream's events.
func openaiEvents(t *testing.T, body []byte) (list []string) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "data: "):
			list = append(list, strings.TrimPrefix(line, "data: "))
		case line != "" && !strings.HasPrefix(line, ": "): // clients take all else for an event
			t.Errorf("line %q", line)
		}
	}
	return list
}

// A stream's pieces are the text, and its end says so.
func TestOpenAIStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.work(speech)
	for _, path := range []string{transcriptions, translations} {
		p := r.transcribe(r.ada, path, wav(1), "stream", "true").want(200)
		if p.Header.Get("Content-Type") != "text/event-stream" || p.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("header %v", p.Header)
		}
		var text string
		list := openaiEvents(t, p.body)
		if len(list) != 4 || list[3] != "[DONE]" {
			t.Fatalf("events %q", list)
		}
		for i, data := range list[:3] {
			var e struct{ Type, Delta, Text, Usage json.RawMessage }
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			var delta, whole string
			_ = json.Unmarshal(e.Delta, &delta)
			_ = json.Unmarshal(e.Text, &whole)
			text += delta
			want := `"transcript.text.delta"`
			if i == 2 {
				want = `"transcript.text.done"`
				if whole != text || whole == "" || string(e.Usage) != `{"type":"duration","seconds":3}` {
					t.Errorf("the pieces are %q, the end is %s", text, data)
				}
			}
			if string(e.Type) != want {
				t.Errorf("event %s, want %s", data, want)
			}
		}
	}
	p := r.transcribe(r.ada, transcriptions, wav(1), "stream", "false").want(200)
	if kind := p.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("no stream: %s", kind)
	}
	r.work(func(context.Context, *queue.Delivery) (transcript.Transcript, error) {
		return transcript.Transcript{}, job.Errorf(job.Input, "NO_SPEECH", "nobody speaks: send a recording with speech")
	})
	list := openaiEvents(t, r.transcribe(r.ada, transcriptions, wav(2), "stream", "1").want(200).body)
	want := `{"error":{"message":"nobody speaks: send a recording with speech","type":"invalid_request_error","param":null,` +
		`"code":"NO_SPEECH"}}`
	if !slices.Equal(list, []string{want}) {
		t.Errorf("a stream that fails: %q", list)
	}
}

// Failures have the form that OpenAI's clients read, and the type by which they decide whether to try again.
func TestOpenAIFailures(t *testing.T) {
	t.Parallel()
	const (
		invalid = "invalid_request_error"
		server  = "server_error"
	)
	var broken error
	r, scratch := newUploads(t, func(c *api.Config) {
		c.MaxUpload = 20_000
		probe := c.Probe
		c.Probe = func(ctx context.Context, path string) (api.Media, error) {
			if broken != nil {
				return api.Media{}, broken
			}
			return probe(ctx, path)
		}
	})
	for fields, code := range map[string]string{
		"response_format=mp3": "BAD_FIELD", "temperature=hot": "BAD_FIELD", "temperature=1.1": "BAD_FIELD",
		"temperature=-1": "BAD_FIELD", "temperature=NaN": "BAD_FIELD", "stream=perhaps": "BAD_FIELD",
		"timestamp_granularities[]=letter": "BAD_FIELD",
		"timestamp_granularities[]=word":   "BAD_FIELD", // goes with verbose_json alone
		"model=whisper-9":                  "MODEL_UNKNOWN", "language=klingon": "BAD_PARAMETER", "prompt=a\x00b": "BAD_PARAMETER",
	} {
		name, value, _ := strings.Cut(fields, "=")
		param := r.transcribe(r.ada, transcriptions, wav(1), name, value).failed(422, invalid, code)
		if want := strings.TrimSuffix(name, "[]"); code == "BAD_FIELD" && param != want {
			t.Errorf("%s: the field is %q", fields, param)
		}
		r.empty(scratch)
	}
	form, contentType := formOf(t, "a.wav", wav(1))
	r.transcribe(r.ada, transcriptions, nil).failed(422, invalid, "FILE_EMPTY")
	r.transcribe(r.ada, transcriptions, make([]byte, 20_001)).failed(413, invalid, "FILE_TOO_LARGE")
	r.call(r.ada, "POST", transcriptions, form[:200], "Content-Type", contentType).failed(400, invalid, "UPLOAD_CUT")
	r.transcribe(user{}, transcriptions, wav(1)).failed(401, "authentication_error", "UNAUTHORIZED")
	r.call(user{}, "GET", "/v1/models", nil).failed(401, "authentication_error", "UNAUTHORIZED")
	r.call(r.ada, "GET", "/v1/models/whisper-9", nil).failed(404, invalid, "model_not_found")
	r.call(r.ada, "GET", "/v1/chat/completions", nil).failed(404, invalid, "NO_SUCH_PATH")
	r.call(r.ada, "GET", transcriptions, nil).failed(405, invalid, "METHOD_NOT_ALLOWED")
	if n := r.listed(r.ada); n != 0 {
		t.Errorf("%d tasks were made", n)
	}

	broken = errors.New("the disk at /var/lib/secret is on fire")
	p := r.transcribe(r.ada, transcriptions, wav(99))
	if p.failed(500, server, "INTERNAL"); strings.Contains(string(p.body), "secret") {
		t.Errorf("what is ours alone is told: %s", p.body)
	}
	broken = job.Errorf(job.Resource, "SCRATCH", "no space left on /var/lib/secret")
	p = r.transcribe(r.ada, transcriptions, wav(99))
	if p.failed(503, server, "SCRATCH"); strings.Contains(string(p.body), "secret") || p.Header.Get("Retry-After") == "" {
		t.Errorf("header %v: %s", p.Header, p.body)
	}
	broken = nil

	// A task that fails answers with its error.
	for code, row := range map[string]struct {
		err    error
		status int
		kind   string
	}{
		"NO_SPEECH":     {job.Errorf(job.Input, "NO_SPEECH", "nobody speaks: send a recording with speech"), 422, invalid},
		"ENGINE_BROKEN": {job.Errorf(job.Engine, "ENGINE_BROKEN", "the engine died: send the file again"), 500, server},
		"FAULT":         {job.Errorf(job.Internal, "FAULT", "this is a fault: report it"), 500, server},
	} {
		r.work(func(context.Context, *queue.Delivery) (transcript.Transcript, error) {
			return transcript.Transcript{}, row.err
		})
		p := r.transcribe(r.ada, transcriptions, wav(3))
		if p.failed(row.status, row.kind, code); !strings.Contains(string(p.body), row.err.Error()) {
			t.Errorf("%s: %s", code, p.body)
		}
	}
	r.empty(scratch)
}

func TestOpenAIRateLimit(t *testing.T) {
	t.Parallel()
	r := newStage(t, func(c *api.Config) { c.UserRate = 1 }).open()
	for range 100 {
		p := r.call(r.ada, "GET", "/v1/models", nil)
		if p.StatusCode == http.StatusOK {
			continue
		}
		if p.failed(429, "rate_limit_error", "TOO_MANY_REQUESTS"); p.Header.Get("Retry-After") != "1" {
			t.Errorf("header %v", p.Header)
		}
		return
	}
	t.Error("100 requests in a row pass a limit of one per second")
}

func TestModels(t *testing.T) {
	t.Parallel()
	r := newStage(t, func(c *api.Config) { c.Models = func() []string { return []string{"base", "tiny.en"} } }).open()
	tiny := `{"id":"tiny.en","object":"model","created":0,"owned_by":"steno"}`
	for path, want := range map[string]string{
		"/v1/models":         `{"object":"list","data":[{"id":"base","object":"model","created":0,"owned_by":"steno"},` + tiny + `]}`,
		"/v1/models/tiny.en": tiny,
	} {
		p := r.call(r.ada, "GET", path, nil).want(200)
		if string(p.body) != want || p.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", path, p.body)
		}
	}
	for _, name := range []string{"none", "BASE", "base%2Ftiny", "whisper-1"} {
		r.call(r.ada, "GET", "/v1/models/"+name, nil).failed(404, "invalid_request_error", "model_not_found")
	}
	none := newStage(t).open()
	if p := none.call(none.ada, "GET", "/v1/models", nil).want(200); string(p.body) != `{"object":"list","data":[]}` {
		t.Errorf("no models: %s", p.body)
	}
}
