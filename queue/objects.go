package queue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// objects is an object store and the stream below it.
type objects struct {
	bucket string
	store  jetstream.ObjectStore
	stream jetstream.Stream
}

func openObjects(ctx context.Context, js jetstream.JetStream, bucket string) (*objects, error) {
	store, err := js.ObjectStore(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open object store %s: %w", bucket, err)
	}
	stream, err := js.Stream(ctx, "OBJ_"+bucket)
	if err != nil {
		return nil, fmt.Errorf("open stream of object store %s: %w", bucket, err)
	}
	return &objects{bucket, store, stream}, nil
}

// Subjects of an object store, from ADR-20 of NATS.

func chunkSubject(bucket, nuid string) string { return "$O." + bucket + ".C." + nuid }

func metaSubject(bucket, name string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// ctxReader ends with an error when its context ends. An upload must be cut here: where the context of Put itself ends,
// nats.go leaves the chunks that were sent behind.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, fmt.Errorf("read upload: %w", context.Cause(c.ctx))
	}
	return c.r.Read(p)
}

// cutGrace is how long an upload may take to clean up after its context ended. Sweep does it where the broker is away.
const cutGrace = 2 * time.Second

// outlive returns a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if sleep(longer, d) {
			cancel()
		}
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// put streams r into the store under name.
func (o *objects) put(ctx context.Context, name string, r io.Reader) (*jetstream.ObjectInfo, error) {
	upload, cancel := outlive(ctx, cutGrace)
	defer cancel()
	meta := jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: objectChunk}}
	info, err := o.store.Put(upload, meta, ctxReader{ctx, r})
	if err != nil {
		return nil, fmt.Errorf("store object %s: %w", name, err)
	}
	return info, nil
}

// fetch writes an object to dst and checks its digest. It asks for one chunk after the other rather than through
// ObjectStore.Get, whose reads do not end with the context, nor for as long as the server is away.
func (o *objects) fetch(ctx context.Context, name string, dst io.Writer) error {
	info, err := o.store.GetInfo(ctx, name)
	if err != nil {
		return fmt.Errorf("read object %s: %w", name, err)
	}
	subject := chunkSubject(o.bucket, info.NUID)
	sum := sha256.New()
	next := uint64(1)
	for range info.Chunks {
		m, err := o.chunk(ctx, next, subject)
		if err != nil {
			return fmt.Errorf("read object %s: %w", name, err)
		}
		sum.Write(m.Data)
		if _, err := dst.Write(m.Data); err != nil {
			return fmt.Errorf("write object %s: %w", name, err)
		}
		next = m.Sequence + 1
	}
	if jetstream.GetObjectDigestValue(sum) != info.Digest {
		return fmt.Errorf("read object %s: %w", name, jetstream.ErrDigestMismatch)
	}
	return nil
}

// chunk gets the first message of subject at or after seq, and tries for a while where the broker is away.
func (o *objects) chunk(ctx context.Context, seq uint64, subject string) (*jetstream.RawStreamMsg, error) {
	var err error
	for range 5 {
		var m *jetstream.RawStreamMsg
		if m, err = o.stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject)); err == nil {
			return m, nil
		}
		if !passing(err) || !sleep(ctx, time.Second) {
			break
		}
	}
	return nil, err
}

// remove erases an object; that it is absent is no error.
func (o *objects) remove(ctx context.Context, name string) error {
	info, err := o.store.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up object %s: %w", name, err)
	}
	return o.erase(ctx, info)
}

// erase removes an object, its meta data first, without the marker that ObjectStore.Delete leaves.
func (o *objects) erase(ctx context.Context, info *jetstream.ObjectInfo) error {
	for _, subject := range []string{metaSubject(o.bucket, info.Name), chunkSubject(o.bucket, info.NUID)} {
		if err := o.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("remove object %s: %w", info.Name, err)
		}
	}
	return nil
}
