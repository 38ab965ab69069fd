package fault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// hostileInputs uploads files that are odd, broken or out to do harm, and transcribes those that are taken (F9): each gets what
// it should, and what some of them name is touched by nobody.
func (r *run) hostileInputs(ctx context.Context, f *injection, n int) (Row, error) {
	made := filepath.Join(r.site.folder, "made")
	if err := os.Mkdir(made, 0o700); err != nil {
		return Row{}, err
	}
	c, err := newCanary(speech(r.Seed, 20))
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	files, err := inputs(ctx, made, c)
	if err != nil {
		return Row{}, err
	}
	if len(files) < n {
		return Row{}, fmt.Errorf("there are %d files only", len(files))
	}
	node, o, err := r.node(ctx, f, "0s", []int{5}, func(n *Node) { n.env = []string{"STENO_MAX_DURATION=1m"} })
	if err != nil {
		return Row{}, err
	}
	pid, came := node.run.pid(), map[string]int{}
	for _, in := range files {
		o.Fault(in.name)
		got, why, err := o.send(ctx, in)
		if err != nil {
			return Row{}, fmt.Errorf("%s: %w", in.name, err)
		}
		came[got]++
		if ok := got == in.want || in.want == asEither && (got == asSpeech || got == asSilence || got == asRefused); !ok {
			o.Wrong("F9", "%s is %s, want %s: %s", in.name, got, in.want, why)
		}
	}
	if what := c.touched(); what != "" {
		o.Wrong("I10", "%s", what)
	}
	v, err := r.survived(ctx, o, node, pid)
	v.Recovery = nil
	return Row{Injected: len(files), Verdict: v, Notes: []string{
		fmt.Sprintf("%v", came), "the canary was neither opened nor called",
	}}, err
}

// put uploads a file that may be refused, and returns what it may be transcribed as, or the words in which it was refused.
func (o *Oracle) put(ctx context.Context, in input) (s *Sound, refused string, err error) {
	a, err := o.client.insist(ctx, "POST", "/api/v1/files?name="+url.QueryEscape(in.name),
		func() any { return bytes.NewReader(in.data) })
	if err != nil {
		return nil, "", err
	}
	if a.status == http.StatusCreated {
		var file struct {
			ID string `json:"file_id"`
		}
		err := json.Unmarshal(a.body, &file)
		return &Sound{name: in.name, id: file.ID}, "", err
	}
	var e struct{ Code, Detail string }
	_ = json.Unmarshal(a.body, &e) // a body that is none has no code
	if a.status != http.StatusUnprocessableEntity || e.Code == "" || len(e.Detail) < 10 || strings.Contains(e.Detail, "/scratch/") {
		o.Wrong("F9", "the upload of %s is answered with %d %s", in.name, a.status, a.body)
	}
	return nil, cmp.Or(string(a.body), "refused"), nil
}

// send uploads a file and transcribes it, and returns which of the four ends it came to; anything else is said in words.
func (o *Oracle) send(ctx context.Context, in input) (got, why string, err error) {
	s, refused, err := o.put(ctx, in)
	if err != nil || refused != "" {
		return asRefused, refused, err
	}
	id, err := o.Submit(ctx, s, "", want{})
	if err != nil {
		return "", "", err
	}
	if err := o.Settle(ctx, time.Minute); err != nil {
		return "", "", err
	}
	o.mu.Lock()
	t := o.tasks[id]
	last := t.last
	t.want = want{state: last.Status} // this row judges by itself
	o.mu.Unlock()
	switch {
	case last.Status == "failed" && last.Error != nil && last.Error.Class == "INPUT":
		return asRefused, fmt.Sprint(last.Error), nil
	case last.Status != "done":
		return fmt.Sprintf("%s: %+v", last.Status, last.Error), "", nil
	}
	text, err := o.transcript(ctx, id)
	if err != nil {
		return "", "", err
	}
	o.mu.Lock()
	o.golden[in.name] = text
	o.mu.Unlock()
	if strings.Count(text, "\n") == 1 { // the last line alone: no segment
		return asSilence, text, nil
	}
	return asSpeech, text, nil
}
