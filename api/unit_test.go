package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"steno/job"
	"steno/transcript"
)

// Patterns are those of all routes with a description, for tests from outside.
func (s *Server) Patterns() (list []string) {
	for pattern := range s.routes {
		list = append(list, pattern)
	}
	return list
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.wav":                          "a.wav",
		"Übung – 1 (neu).mp3":            "Übung – 1 (neu).mp3",
		"日本語.wav":                        "日本語.wav",
		"":                               "audio",
		".":                              "audio",
		"..":                             "audio",
		"...":                            "...",
		"/":                              "audio",
		`\`:                              "audio",
		"///":                            "audio",
		"a/..":                           "audio",
		"../../etc/passwd":               "passwd",
		"/home/ada/a.wav":                "a.wav",
		"/home/ada/":                     "ada",
		`C:\Users\ada\a.wav`:             "a.wav",
		`\\server\share\a.wav`:           "a.wav",
		`a\..`:                           "audio",
		"a\x00b.wav":                     "ab.wav",
		"a\r\nSet-Cookie: b.wav":         "aSet-Cookie: b.wav",
		"\x1b[31mred.wav":                "[31mred.wav",
		"tab\there\x7f.wav":              "tabhere.wav",
		"\x00":                           "audio",
		".\x01.":                         "audio",
		"  a.wav \n":                     "a.wav",
		"a\u202egnp.wav":                 "agnp.wav",
		"\u2066a\u2069.wav\u2028b\u0085": "a.wavb",
		"\u009b31mred.wav":               "31mred.wav",
		"\u200fאב\u200e.wav":             "\u200fאב\u200e.wav",
		"   ":                            "audio",
		"\u00a0":                         "audio",
		"\xff\xfea.wav":                  "a.wav",
		"\xff":                           "audio",
		"caf\xe9.wav":                    "caf.wav",
		"a\U0010FFFFb.wav":               "ab.wav",
		".hidden":                        ".hidden",
		strings.Repeat("x", 300):         strings.Repeat("x", 255),
		strings.Repeat("ü", 300):         strings.Repeat("ü", 255),
		strings.Repeat(" ", 300):         "audio",
		strings.Repeat("y", 254) + " z":  strings.Repeat("y", 254),
	} {
		if got := cleanName(name); got != want {
			t.Errorf("cleanName(%.40q) is %.40q, want %.40q", name, got, want)
		}
	}
}

// Whatever a client sends, it becomes a name that the record takes, and that stays as it is when it comes again.
func FuzzCleanName(f *testing.F) {
	for _, name := range []string{"a.wav", `C:\a\..`, "\xff/..", "\U0010FFFF", " .. ", strings.Repeat("é", 300), "a\x00/\x01"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := cleanName(name)
		odd := strings.ContainsFunc(got, func(c rune) bool {
			return unicode.IsControl(c) || strings.ContainsRune("/\\\u2028\u202e\u2066\U0010FFFF", c)
		})
		if got == "" || got == "." || got == ".." || !utf8.ValidString(got) || odd || len(got) > 1024 || strings.TrimSpace(got) != got {
			t.Errorf("cleanName(%q) is %q", name, got)
		}
		if again := cleanName(got); again != got {
			t.Errorf("cleanName(%q) is %q, and of that %q", name, got, again)
		}
		if ext := extension(got); strings.Trim(ext, ".abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(ext) > 6 {
			t.Errorf("the extension of %q is %q", got, ext)
		}
	})
}

// What ends an upload early gets an answer that says what to do; only what is known already stays as it is.
func TestCut(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{MaxUpload: 7}}
	known, failed := badField("body.file", "BAD_FIELD", "send one"), job.Errorf(job.Resource, "SCRATCH", "no space")
	for _, err := range []error{nil, known, failed, context.Canceled} {
		if got := s.cut(err); !errors.Is(got, err) {
			t.Errorf("%v has become %v", err, got)
		}
	}
	for _, row := range []struct {
		err    error
		status int
		code   string
		closes string // Connection: close, for else the answer waits for the rest of the body
	}{
		{&http.MaxBytesError{Limit: 7}, http.StatusRequestEntityTooLarge, "FILE_TOO_LARGE", ""},
		{&net.OpError{Err: os.ErrDeadlineExceeded}, http.StatusRequestTimeout, "UPLOAD_STALLED", "close"},
		{io.ErrUnexpectedEOF, http.StatusBadRequest, "UPLOAD_CUT", ""},
		{errors.New("malformed MIME header"), http.StatusBadRequest, "UPLOAD_CUT", ""},
	} {
		for _, err := range []error{row.err, fmt.Errorf("multipart: NextPart: %w", row.err)} {
			var p *Problem
			got := s.cut(err)
			if !errors.As(got, &p) || p.Status != row.status || p.Code != row.code || p.header.Get("Connection") != row.closes {
				t.Errorf("%v has become %+v", err, got)
			}
		}
	}
}

func TestExtension(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.wav": ".wav", "a.MP3": ".mp3", "a.b.m4a": ".m4a", "a": "", "a.": "", ".wav": ".wav", "a.w av": "", "a.wäv": "", "a.-i": "",
		"a.toolong": "", "a.12345": ".12345", "a.123456": "",
	} {
		if got := extension(name); got != want {
			t.Errorf("extension(%q) is %q, want %q", name, got, want)
		}
	}
}

func TestDeltas(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		text     string
		segments []string
		want     []string
	}{
		{"", nil, nil},
		{"", []string{"a"}, nil},
		{"all of it", nil, []string{"all of it"}},
		{"one two three", []string{"one", "two", "three"}, []string{"one", " two", " three"}},
		{" one  two ", []string{"one", "two"}, []string{" one", "  two", " "}},
		{"one two", []string{"one", "", "two"}, []string{"one", " two"}},
		{"one two", []string{"one", "is not there", "two"}, []string{"one", " two"}},
		{"no no no", []string{"no", "no", "no"}, []string{"no", " no", " no"}},
		{"no no no", []string{"no no", "no", "no"}, []string{"no no", " no"}},
		{"日本語です", []string{"日本", "語です"}, []string{"日本", "語です"}},
	} {
		if got := deltas(row.text, segmentsOf(row.segments)); !slices.Equal(got, row.want) {
			t.Errorf("deltas(%q, %q) is %q, want %q", row.text, row.segments, got, row.want)
		}
	}
	// Whatever the segments say, the pieces are the text, and none is empty.
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SampledFrom([]string{"a", "b", "aa", " ", "é", "ab a", "", ". "})
		text := strings.Join(rapid.SliceOf(words).Draw(t, "text"), "")
		got := deltas(text, segmentsOf(rapid.SliceOf(words).Draw(t, "segments")))
		if strings.Join(got, "") != text || slices.Contains(got, "") {
			t.Fatalf("deltas are %q", got)
		}
	})
}

func segmentsOf(texts []string) (list []transcript.Segment) {
	for _, text := range texts {
		list = append(list, transcript.Segment{Text: text})
	}
	return list
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOpenAIErrorOf(t *testing.T) {
	t.Parallel()
	for status, kind := range map[int]string{
		http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "authentication_error",
		http.StatusForbidden: "permission_error", http.StatusNotFound: "invalid_request_error",
		http.StatusMethodNotAllowed: "invalid_request_error", http.StatusRequestTimeout: "invalid_request_error",
		http.StatusConflict: "invalid_request_error", http.StatusGone: "invalid_request_error",
		http.StatusRequestEntityTooLarge: "invalid_request_error", http.StatusUnprocessableEntity: "invalid_request_error",
		http.StatusTooManyRequests: "rate_limit_error", http.StatusInternalServerError: "server_error",
		http.StatusServiceUnavailable: "server_error",
	} {
		got := string(encoded(t, openaiErrorOf(newProblem(status, "CODE", "do this"))))
		if want := fmt.Sprintf(`{"error":{"message":"do this","type":%q,"param":null,"code":"CODE"}}`, kind); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
	got := string(encoded(t, openaiErrorOf(badField("body.stream", "BAD_FIELD", "say true or false"))))
	want := `{"error":{"message":"say true or false","type":"invalid_request_error","param":"stream","code":"BAD_FIELD"}}`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Languages have the names that OpenAI's API gives them.
func TestLanguageName(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"en": "english", "de": "german", "zh": "chinese", "yue": "cantonese", "haw": "hawaiian", "jw": "javanese",
		"ht": "haitian creole",
		"bn": "bengali", "my": "myanmar", "nn": "nynorsk", "no": "norwegian", "tl": "tagalog", "": "", "auto": "auto",
	} {
		if got := languageName(code); got != want {
			t.Errorf("languageName(%q) is %q, want %q", code, got, want)
		}
	}
}
