package files

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"steno/job"
)

// partSuffix ends the name of a file that is being pulled. It stays when a pull is cut off, and the next one goes on from it.
const partSuffix = ".part"

// idleTries is how often a mirror is asked again without having sent anything new.
const idleTries = 3

// Pull fetches a model of the registry from the first mirror that has it, and puts it in place once its checksum is right. A
// sound file that is there is left alone. It goes on where an earlier pull stopped, and waits while another process pulls the
// same file. When ctx ends, what has come so far is kept.
//
// The error is a *job.Error with the code MODEL_UNKNOWN, MODEL_LOCAL, DISK_FULL or MODEL_HOST, or ctx's.
func (s *Store) Pull(ctx context.Context, name string, progress Progress) (Entry, error) {
	e, err := s.Entry(name)
	if err != nil {
		return Entry{}, err
	}
	if !e.Published() {
		return Entry{}, job.Errorf(job.Input, "MODEL_LOCAL",
			"the model %s was made here and is nowhere to pull: convert it again.", e.Name)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if err := s.pull(ctx, e, progress); err != nil {
		var known *job.Error
		if ctx.Err() != nil || !errors.As(err, &known) {
			err = fmt.Errorf("pull model %s: %w", e.Name, err)
		}
		return Entry{}, err
	}
	progress(e.Size, e.Size)
	return e, nil
}

func (s *Store) pull(ctx context.Context, e Entry, progress Progress) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o755); err != nil {
		return err
	}
	if s.sound(ctx, e) {
		return nil
	}
	f, err := openLocked(ctx, s.path(e)+partSuffix)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.sound(ctx, e) { // another process has pulled it while this one waited
		return os.Remove(f.Name())
	}
	if err := s.fetch(ctx, f, e, progress); err != nil {
		return err
	}
	return replace(f, s.path(e))
}

func (s *Store) sound(ctx context.Context, e Entry) bool {
	f, err := os.Open(s.path(e))
	if err != nil {
		return false
	}
	defer f.Close()
	return s.check(ctx, f, e) == nil
}

// fetch fills f from the mirrors until it has the entry's content.
func (s *Store) fetch(ctx context.Context, f *os.File, e Entry, progress Progress) error {
	var failed []error
	for _, mirror := range s.cfg.Mirrors {
		address := e.at(mirror)
		err := s.fetchFrom(ctx, address, f, e, progress)
		var known *job.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &known) {
			return err
		}
		if address == e.URL {
			mirror = e.URL
		}
		failed = append(failed, fmt.Errorf("%s: %w", withoutUser(mirror), err))
	}
	return &job.Error{Class: job.Transient, Code: "MODEL_HOST", Err: errors.Join(failed...), Message: fmt.Sprintf(
		"the model %s could not be fetched (%s): check the network or name another mirror, then pull again.",
		e.Name, strings.ReplaceAll(errors.Join(failed...).Error(), "\n", "; "))}
}

// at is the file's address on a mirror. What is published elsewhere is not on the model host.
func (e Entry) at(mirror string) string {
	if mirror == DefaultMirror && e.URL != "" {
		return e.URL
	}
	return strings.TrimSuffix(strings.ReplaceAll(mirror, "{repo}", e.Repo), "/") + "/" + e.File
}

// errStart says that what is in the part file is of no use, so that the fetch begins anew.
var errStart = errors.New("the bytes so far were not the model's")

// fetchFrom asks one mirror until the file is complete, as long as it goes forward.
func (s *Store) fetchFrom(ctx context.Context, address string, f *os.File, e Entry, progress Progress) error {
	restarted := false
	for tries := 0; ; {
		have, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if have > e.Size || have > 0 && e.headError(f) != nil {
			if err := f.Truncate(0); err != nil {
				return err
			}
			continue
		}
		if err := s.room(e.Size - have); err != nil {
			return err
		}
		resumed := have > 0
		err = s.request(ctx, address, f, have, e, progress)
		if wrong := e.headError(f); wrong != nil { // cheap, and before the rest of a large file comes from elsewhere
			return errors.Join(wrong, f.Truncate(0))
		}
		if err == nil {
			err = s.complete(ctx, f, e)
		}
		// A part that another pull began may be what is wrong, so the mirror gets one chance to send all of it.
		if errors.Is(err, errStart) && resumed && !restarted {
			restarted = true
			continue
		}
		if err == nil || !errors.Is(err, errCut) || ctx.Err() != nil {
			return err
		}
		if now := sizeOf(f.Name()); now > have {
			tries = 0
		} else if tries++; tries >= idleTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.cfg.Retry):
		}
	}
}

// headError tells what a part file is that does not begin as every model of the registry does. It knows nothing of an empty one.
func (e Entry) headError(f *os.File) error {
	if !e.ggml() {
		return nil
	}
	head := make([]byte, 64)
	n, _ := f.ReadAt(head, 0)
	if head = head[:n]; n < 4 || binary.LittleEndian.Uint32(head) == magic {
		return nil
	}
	if what := foreign(head); what != "" {
		return fmt.Errorf("what it sent %s", strings.TrimSuffix(what, "."))
	}
	return errors.New("what it sent is not a ggml file")
}

// complete checks the whole part file, and empties it where it is not the model.
func (s *Store) complete(ctx context.Context, f *os.File, e Entry) error {
	sum, err := hash(ctx, f)
	if err != nil {
		return err
	}
	if sum == e.SHA256 {
		return nil
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	return fmt.Errorf("%w: it has the SHA-256 %s, not %s", errStart, sum, e.SHA256)
}

// withoutUser takes name and password out of a mirror's address, so that it can be shown. It does without url.Parse, for those
// that it cannot read are shown too.
func withoutUser(mirror string) string {
	scheme, rest, is := strings.Cut(mirror, "://")
	if !is {
		return mirror
	}
	return scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
}

// withoutURL takes the address out of an error of the HTTP client: the mirror stands before it, and where that leads on to may be
// signed.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// errCut marks a connection that broke or stood still: asking again may help.
var errCut = errors.New("the connection broke")

// request asks for the bytes from have on, and appends them to f.
func (s *Store) request(ctx context.Context, address string, f *os.File, have int64, e Entry, progress Progress) error {
	if have == e.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(s.cfg.Stall, func() { cancel(fmt.Errorf("nothing came for %v", s.cfg.Stall)) })
	defer stall.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Accept-Encoding", "identity") // sizes and ranges count the file's own bytes
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := s.cfg.Client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errCut, causeOf(ctx, withoutURL(err)))
	}
	defer resp.Body.Close()
	have, err = s.accept(resp, f, have, e)
	if err != nil {
		return err
	}
	for buf := make([]byte, 1<<18); ; {
		n, err := resp.Body.Read(buf)
		stall.Reset(s.cfg.Stall)
		if have+int64(n) > e.Size {
			return errors.Join(fmt.Errorf("it sends more than the %d bytes of the model", e.Size), f.Truncate(0))
		}
		if _, err := f.WriteAt(buf[:n], have); err != nil {
			return writeError(s.cfg.Dir, err)
		}
		have += int64(n)
		progress(have, e.Size)
		switch {
		case have == e.Size:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %w", errCut, io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("%w: %w", errCut, causeOf(ctx, err))
		}
	}
}

// accept checks that the answer is the part that was asked for, or the whole; it returns where its bytes belong.
func (s *Store) accept(resp *http.Response, f *os.File, have int64, e Entry) (int64, error) {
	var from, to, size int64
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != e.Size {
			return 0, fmt.Errorf("it offers %d bytes of %s, not the %d of the model",
				resp.ContentLength, resp.Header.Get("Content-Type"), e.Size)
		}
		return 0, f.Truncate(0)
	case http.StatusPartialContent:
		_, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
		if err != nil || from != have || size != e.Size {
			return 0, fmt.Errorf("it answers with the range %q, not bytes from %d of %d",
				resp.Header.Get("Content-Range"), have, e.Size)
		}
		return have, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 0, fmt.Errorf("%w: it answers %s", errCut, resp.Status)
	}
	return 0, fmt.Errorf("it answers %s", resp.Status)
}

// causeOf prefers the reason for which the request was ended over what the transport makes of it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
