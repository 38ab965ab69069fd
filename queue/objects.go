package queue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// objects is an object store and the stream below it. Data is written and read through the stream, in the layout of NATS
// ADR-20 that every NATS tool reads, because ObjectStore of nats.go v1.55.0 falls short of what a daemon needs: reads do not
// end with their context, uploads cut by their context leave chunks behind, and each upload may leave a goroutine for good
// (resetPendingAcksOnReconnect waits on a nil channel where the upload ends before it starts).
type objects struct {
	bucket string
	js     jetstream.JetStream
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
	return &objects{bucket, js, store, stream}, nil
}

func chunkSubject(bucket, nuid string) string { return "$O." + bucket + ".C." + nuid }

// chunkID is the message id of an object's nth chunk, from 1.
func chunkID(nuid string, n uint32) string { return fmt.Sprintf("%s.%d", nuid, n) }

// chunkNumber is n of chunkID, 0 where another tool has stored the chunk.
func chunkNumber(nuid, id string) int64 {
	digits, ours := strings.CutPrefix(id, nuid+".")
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ours || err != nil {
		return 0
	}
	return int64(n)
}

func metaSubject(bucket, name string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// errObjectExists is returned by put for a name that is taken.
var errObjectExists = errors.New("the object exists already")

// cutGrace is how long an upload may take to clean up after its context ended. Sweep does it where the broker is away.
const cutGrace = 2 * time.Second

// put streams r into the store, in constant memory, under the name that name gives for the SHA-256 of its bytes. On any error
// nothing stays behind; for a name that is taken the error is errObjectExists.
func (o *objects) put(ctx context.Context, r io.Reader, name func(sum string) string) (*jetstream.ObjectInfo, error) {
	info := &jetstream.ObjectInfo{Bucket: o.bucket, NUID: nuid.Next()}
	info.Opts = &jetstream.ObjectMetaOptions{ChunkSize: objectChunk}
	err := o.upload(ctx, r, info, name)
	if err == nil {
		return info, nil
	}
	if info.Chunks > 0 {
		ctx, cancel := outlive(ctx, cutGrace)
		defer cancel()
		if purge := o.stream.Purge(ctx, jetstream.WithPurgeSubject(chunkSubject(o.bucket, info.NUID))); purge != nil {
			err = errors.Join(err, fmt.Errorf("remove chunks of a cut upload: %w", purge))
		}
	}
	return info, err
}

func (o *objects) upload(ctx context.Context, r io.Reader, info *jetstream.ObjectInfo, name func(string) string) error {
	sum, buf := sha256.New(), make([]byte, objectChunk)
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("upload: %w", context.Cause(ctx))
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sum.Write(buf[:n])
			info.Chunks++ // before it is sent: whether it has arrived is not known after an error
			info.Size += uint64(n)
			if err := o.send(ctx, chunkSubject(o.bucket, info.NUID), info.Chunks, info.NUID, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read upload: %w", err)
		}
	}
	info.Digest = jetstream.GetObjectDigestValue(sum)
	info.Name = name(hex.EncodeToString(sum.Sum(nil)))
	err := o.putMeta(ctx, info, 0)
	if conflict(err) {
		return errObjectExists
	}
	return err
}

// send stores one chunk. It is tried again where the broker does not answer; the message id keeps it from being there twice.
func (o *objects) send(ctx context.Context, subject string, n uint32, nuid string, data []byte) error {
	m := nats.NewMsg(subject)
	m.Data = data
	return patiently(ctx, func(ctx context.Context) error {
		if _, err := o.js.PublishMsg(ctx, m, jetstream.WithMsgID(chunkID(nuid, n))); err != nil {
			return fmt.Errorf("store chunk of object: %w", err)
		}
		return nil
	})
}

// fetch writes an object to dst and checks its digest.
func (o *objects) fetch(ctx context.Context, name string, dst io.Writer) error {
	info, err := o.store.GetInfo(ctx, name)
	if err != nil {
		return fmt.Errorf("read object %s: %w", name, err)
	}
	sum := sha256.New()
	next := uint64(1)
	for range info.Chunks {
		m, err := o.chunk(ctx, info.NUID, next)
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

// chunk reads the first of an object's chunks whose sequence is seq or greater.
func (o *objects) chunk(ctx context.Context, nuid string, seq uint64) (m *jetstream.RawStreamMsg, err error) {
	err = patiently(ctx, func(ctx context.Context) (err error) {
		m, err = o.stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(chunkSubject(o.bucket, nuid)))
		return err
	})
	return m, err
}

// answerTime is how long one question to the broker waits: the answer to what was asked just before it went away never comes.
const answerTime = 5 * time.Second

// patiently calls fn again, a few times, where the broker does not answer: a restart must not cost an upload. Each call has
// answerTime at most.
func patiently(ctx context.Context, fn func(context.Context) error) error {
	once := func() error {
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		return fn(ctx)
	}
	for left := 4; ; left-- {
		err := once()
		if err == nil || left == 0 || !passing(err) || !sleep(ctx, time.Second) {
			return err
		}
	}
}

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

// touch makes an object young: its age is that of its meta data.
func (o *objects) touch(ctx context.Context, name string) error {
	return o.change(ctx, name, func(*jetstream.ObjectInfo) {})
}

// change applies fn to an object's meta data by compare-and-swap, and makes it young.
func (o *objects) change(ctx context.Context, name string, fn func(*jetstream.ObjectInfo)) error {
	for range 20 {
		last, err := o.stream.GetLastMsgForSubject(ctx, metaSubject(o.bucket, name))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			err = jetstream.ErrObjectNotFound
		}
		if err != nil {
			return fmt.Errorf("read object %s: %w", name, err)
		}
		var info jetstream.ObjectInfo
		if err := json.Unmarshal(last.Data, &info); err != nil {
			return fmt.Errorf("decode object %s: %w", name, err)
		}
		if info.Deleted { // by a tool of others: we leave no markers
			return fmt.Errorf("read object %s: %w", name, jetstream.ErrObjectNotFound)
		}
		fn(&info)
		err = o.putMeta(ctx, &info, last.Sequence)
		if !conflict(err) {
			return err
		}
	}
	return fmt.Errorf("renew object %s: %w", name, errChanging)
}

// putMeta writes an object's meta data in place of those with the given sequence, 0 for none.
func (o *objects) putMeta(ctx context.Context, info *jetstream.ObjectInfo, last uint64) error {
	data, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode object %s: %w", info.Name, err)
	}
	m := nats.NewMsg(metaSubject(o.bucket, info.Name))
	m.Data = data
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	if _, err = o.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(last)); err != nil {
		return fmt.Errorf("store object %s: %w", info.Name, err)
	}
	return nil
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
