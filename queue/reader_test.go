package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"steno/job"
)

// noise returns random bytes, the same in each run.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // has no errors
	return data
}

func putAudio(t *testing.T, q *Queue, data []byte) string {
	t.Helper()
	src, err := q.PutAudio(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return src.Object
}

// putInterleaved uploads several files at a time, chunk by chunk in turn.
func putInterleaved(t *testing.T, q *Queue, files ...[]byte) (names []string) {
	t.Helper()
	type upload struct {
		w    *io.PipeWriter
		rest []byte
		done chan job.Source
	}
	var uploads []*upload
	for _, data := range files {
		r, w := io.Pipe()
		u := &upload{w, data, make(chan job.Source, 1)}
		uploads = append(uploads, u)
		go func() {
			defer close(u.done)
			src, err := q.PutAudio(t.Context(), r)
			if err != nil {
				t.Error(err)
			}
			_ = r.Close()
			u.done <- src
		}()
	}
	for more := true; more; {
		more = false
		for _, u := range uploads {
			n := min(len(u.rest), objectChunk)
			if _, err := u.w.Write(u.rest[:n]); err != nil {
				t.Error(err)
			}
			u.rest = u.rest[n:]
			more = more || len(u.rest) > 0
		}
	}
	for _, u := range uploads {
		_ = u.w.Close()
		names = append(names, (<-u.done).Object)
	}
	return names
}

// putForeign stores an object as another tool would: in chunks of any size, which have no numbers.
func putForeign(t *testing.T, q *Queue, data []byte, opts *jetstream.ObjectMetaOptions, chunk func() int) string {
	t.Helper()
	info := &jetstream.ObjectInfo{Bucket: bucketAudio, NUID: nuid.Next(), Size: uint64(len(data))}
	info.Name, info.Opts = "foreign "+info.NUID, opts
	sum := sha256.New()
	sum.Write(data)
	info.Digest = jetstream.GetObjectDigestValue(sum)
	for rest := data; len(rest) > 0; info.Chunks++ {
		n := min(chunk(), len(rest))
		if _, err := q.js.Publish(t.Context(), chunkSubject(bucketAudio, info.NUID), rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := q.audio.putMeta(t.Context(), info, 0); err != nil {
		t.Fatal(err)
	}
	return info.Name
}

// stored is an object of each kind that a store may hold.
type stored struct {
	name string
	data []byte
}

func storeAll(t *testing.T, q *Queue) map[string]stored {
	t.Helper()
	a, b, c := noise(1, 6*objectChunk+1000), noise(2, 9*objectChunk), noise(3, 4*objectChunk+1)
	names := putInterleaved(t, q, a, b, c)
	d, e := noise(4, 5*objectChunk+77), noise(5, 1000)
	f, g := noise(6, 700<<10), noise(7, 700<<10)
	uneven := rand.New(rand.NewPCG(1, 2))
	return map[string]stored{
		"interleaved":                  {names[0], a},
		"interleaved, longer":          {names[1], b},
		"interleaved, shorter":         {names[2], c},
		"alone":                        {putAudio(t, q, d), d},
		"one chunk":                    {putAudio(t, q, e), e},
		"chunks of NATS' default size": {putForeign(t, q, f, nil, func() int { return 128 << 10 }), f},
		"uneven chunks": {putForeign(t, q, g, &jetstream.ObjectMetaOptions{ChunkSize: 64 << 10},
			func() int { return 1 + uneven.IntN(64<<10) }), g},
	}
}

func openAudio(t *testing.T, q *Queue, name string) io.ReadSeekCloser {
	t.Helper()
	r, err := q.OpenAudio(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestOpenAudio(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for kind, o := range storeAll(t, q) {
		t.Run(kind, func(t *testing.T) {
			got, err := io.ReadAll(openAudio(t, q, o.name))
			if err != nil || !bytes.Equal(got, o.data) {
				t.Errorf("%d bytes, %v; want the %d that were stored", len(got), err, len(o.data))
			}
			seekAtRandom(t, openAudio(t, q, o.name), o.data)
		})
	}
	// What looks for chunks cleans up behind itself.
	if info, err := q.audio.stream.Info(t.Context()); err != nil || info.State.Consumers != 0 {
		t.Errorf("%d consumers are left, %v", info.State.Consumers, err)
	}
}

// seekAtRandom does the same with r and with a bytes.Reader.
func seekAtRandom(t *testing.T, r io.ReadSeeker, data []byte) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	model := bytes.NewReader(data)
	size := int64(len(data))
	for range 60 {
		whence := rng.IntN(3)
		from := [...]int64{0, size - int64(model.Len()), size}[whence]
		offset := rng.Int64N(size+1000) - from // may lie after the end
		if rng.IntN(10) == 0 {
			offset = -from - 1 // before the start
		}
		got, err := r.Seek(offset, whence)
		want, wantErr := model.Seek(offset, whence)
		if got != want || (err == nil) != (wantErr == nil) {
			t.Fatalf("Seek(%d, %d) = %d, %v, want %d, %v", offset, whence, got, err, want, wantErr)
		}
		for range rng.IntN(3) {
			a, b := make([]byte, rng.IntN(2*objectChunk)), make([]byte, 2*objectChunk)
			n, err := io.ReadFull(r, a)
			m, wantErr := io.ReadFull(model, b[:len(a)])
			if n != m || !errors.Is(err, wantErr) || !bytes.Equal(a[:n], b[:m]) {
				t.Fatalf("read %d bytes of %d after Seek(%d, %d), %v, want %d, %v", n, len(a), offset, whence, err, m, wantErr)
			}
		}
	}
}

func TestOpenAudioIsAReader(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	data := noise(1, 2*objectChunk+5)
	r := openAudio(t, q, putAudio(t, q, data))
	if err := iotest.TestReader(r, data); err != nil {
		t.Error(err)
	}
	if _, err := r.Seek(0, 3); err == nil {
		t.Error("a whence that does not exist")
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read %d bytes after Close, %v", n, err)
	}
	if _, err := r.Seek(0, io.SeekStart); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("seek after Close: %v", err)
	}
}

// A range costs what it has and a little more, not what lies before it.
func TestOpenAudioTakesFewChunks(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	long, other := noise(1, 40*objectChunk), noise(2, 40*objectChunk)
	names := putInterleaved(t, q, long, other)
	alone := noise(3, 40*objectChunk)
	names = append(names, putAudio(t, q, alone))
	info, err := q.audio.store.GetInfo(t.Context(), names[0])
	if err != nil {
		t.Fatal(err)
	}
	last, err := q.audio.stream.GetLastMsgForSubject(t.Context(), chunkSubject(bucketAudio, info.NUID))
	if err != nil || last.Sequence < 70 {
		t.Fatalf("the last of 40 chunks has no sequence from 70, %v: the uploads did not run side by side", err)
	}
	for i, c := range []struct {
		data  []byte
		first int64 // what is read before the range, as to tell the type of the content
		most  uint64
	}{
		{long, 0, 9}, {other, 512, 9}, {alone, 0, 3}, {alone, 512, 3},
	} {
		r := openAudio(t, q, names[i-i/3])
		before := q.nc.Stats()
		var got bytes.Buffer
		_, errFirst := io.CopyN(io.Discard, r, c.first)
		_, errSeek := r.Seek(-3*objectChunk/2, io.SeekEnd)
		_, errCopy := io.CopyN(&got, r, objectChunk/2+1000)
		if err := errors.Join(errFirst, errSeek, errCopy); err != nil {
			t.Fatal(err)
		}
		want := c.data[len(c.data)-3*objectChunk/2:][:objectChunk/2+1000]
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("case %d: other bytes", i)
		}
		after := q.nc.Stats()
		chunks := (after.InBytes - before.InBytes) / objectChunk
		t.Logf("case %d: %d messages with the bytes of %d chunks", i, after.InMsgs-before.InMsgs, chunks)
		if chunks > c.most {
			t.Errorf("case %d: the bytes of %d chunks came, want no more than %d", i, chunks, c.most)
		}
	}
}

func TestChunkNumber(t *testing.T) {
	for id, want := range map[string]int64{
		chunkID("abc", 1): 1, chunkID("abc", 70000): 70000, chunkID("abd", 1): 0,
		"": 0, "7": 0, "abc": 0, "abc.": 0, "abc.x": 0, "abc.-1": 0, "abc.4294967296": 0,
	} {
		if got := chunkNumber("abc", id); got != want {
			t.Errorf("%q: %d, want %d", id, got, want)
		}
	}
}

func TestOpenAudioMissing(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for _, name := range []string{"", "nothing"} {
		_, err := q.OpenAudio(t.Context(), name)
		wantCode(t, err, job.Input, "AUDIO_MISSING")
	}
	for kind, o := range storeAll(t, q) {
		near, far := openAudio(t, q, o.name), openAudio(t, q, o.name)
		for _, r := range []io.Reader{near, far} {
			if _, err := io.CopyN(io.Discard, r, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.audio.remove(t.Context(), o.name); err != nil {
			t.Fatal(err)
		}
		if kind == "one chunk" {
			continue // all of it is in memory
		}
		_, err := io.Copy(io.Discard, near)
		wantCode(t, err, job.Input, "AUDIO_MISSING")
		if _, err := far.Seek(-1, io.SeekEnd); err != nil {
			t.Fatal(err)
		}
		_, err = far.Read(make([]byte, 1))
		wantCode(t, err, job.Input, "AUDIO_MISSING")
	}
}

// Bytes that are not those that were stored are found out before the last of them are given away.
func TestOpenAudioDamaged(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	data := noise(1, 2*objectChunk+5)
	name := putAudio(t, q, data)
	if err := q.audio.change(t.Context(), name, func(info *jetstream.ObjectInfo) {
		info.Digest = jetstream.GetObjectDigestValue(sha256.New())
	}); err != nil {
		t.Fatal(err)
	}
	r := openAudio(t, q, name)
	for range 2 {
		if n, err := io.Copy(io.Discard, r); n > 2*objectChunk || !errors.Is(err, jetstream.ErrDigestMismatch) {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
	if _, err := r.Seek(objectChunk/2, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[objectChunk/2:]) {
		t.Errorf("a part, which cannot be verified: %d bytes, %v", len(got), err)
	}
}

func TestOpenAudioEndsWithItsContext(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := q.OpenAudio(ctx, putAudio(t, q, noise(1, 1000)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("read after the end of the context: %v", err)
	}
}

func TestOpenAudioSurvivesTheBroker(t *testing.T) {
	t.Parallel()
	server := startServer(t, EmbeddedConfig{})
	q := open(t, server)
	data := noise(1, 700<<10)
	name := putForeign(t, q, data, nil, func() int { return 100_000 })
	for _, offset := range []int64{0, 650_000} {
		r := openAudio(t, q, name)
		if _, err := r.Seek(offset, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[offset:]) {
			t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
		}
	}
}

// What HTTP clients ask for comes as from a file.
func TestOpenAudioServesRanges(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	objects := storeAll(t, q)
	for _, kind := range []string{"interleaved", "alone", "one chunk", "uneven chunks"} {
		o := objects[kind]
		size := len(o.data)
		for _, ranges := range []string{
			"", "bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-700", fmt.Sprintf("bytes=%d-", size/2),
			fmt.Sprintf("bytes=%d-%d", size/3, size/2), fmt.Sprintf("bytes=%d-", size-1), fmt.Sprintf("bytes=%d-", size),
			fmt.Sprintf("bytes=%d-%d,0-9,-5", size/2, size/2+10),
		} {
			got, want := serve(ranges, openAudio(t, q, o.name)), serve(ranges, bytes.NewReader(o.data))
			if got.Code != want.Code || got.Header().Get("Content-Range") != want.Header().Get("Content-Range") {
				t.Errorf("%s, %q: %d %v, want %d %v", kind, ranges, got.Code, got.Header(), want.Code, want.Header())
			}
			if !bytes.Equal(parts(got), parts(want)) {
				t.Errorf("%s, %q: other bytes", kind, ranges)
			}
		}
	}
}

func serve(ranges string, content io.ReadSeeker) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	w := httptest.NewRecorder()
	http.ServeContent(w, req, "", time.Time{}, content)
	return w
}

// parts is a response's body without what separates the parts of several ranges, which is random.
func parts(w *httptest.ResponseRecorder) []byte {
	_, boundary, several := strings.Cut(w.Header().Get("Content-Type"), "boundary=")
	if !several {
		return w.Body.Bytes()
	}
	return bytes.ReplaceAll(w.Body.Bytes(), []byte(boundary), nil)
}
