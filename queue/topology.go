package queue

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Names on the broker. docs/QUEUE.md explains each.
const (
	streamJobs       = "STENO_JOBS"
	streamDead       = "STENO_DLQ"
	streamAdvisories = "STENO_ADVISORIES"
	bucketJobs       = "steno_jobs"
	bucketChunks     = "steno_chunks"
	bucketAudio      = "steno_audio"
	bucketResults    = "steno_results"
	bucketNodes      = "steno_nodes"

	subjectJobs       = "steno.jobs"
	subjectDead       = "steno.dlq"
	subjectEvents     = "steno.events"
	subjectCancel     = "steno.control.cancel"
	subjectDrain      = "steno.control.drain"
	subjectAdvisories = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES." + streamJobs + ".>"
)

// DefaultPool takes jobs that any worker may run.
const DefaultPool = "any"

const (
	maxJobSize   = 64 << 10  // media never travels in a message
	maxValueSize = 768 << 10 // below the server's message limit of 1 MiB
	objectChunk  = 512 << 10 // measured fastest below that limit
)

// Shares of Limits.Bytes, in percent. The sum stays below 100: JetStream counts what it reserves.
const (
	shareAudio      = 70
	shareResults    = 12
	shareChunks     = 8
	shareRecords    = 4
	shareJobs       = 2
	shareDead       = 1
	shareAdvisories = 1
	shareNodes      = 1
)

// The priorities, in the order in which workers look.
var priorities = []string{"high", "normal", "low"}

func priority(p int) string {
	switch {
	case p > 0:
		return "high"
	case p < 0:
		return "low"
	}
	return "normal"
}

var poolName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// jobSubject ends with the id, so that the stream can hold each job once only, whatever the age of a duplicate.
func jobSubject(pool string, p int, id job.ID) string {
	return fmt.Sprintf("%s.%s.%s.%s", subjectJobs, pool, priority(p), id)
}

func deadSubject(id string) string { return subjectDead + "." + id }

func eventSubject(id job.ID, kind string) string {
	return fmt.Sprintf("%s.%s.%s", subjectEvents, id, kind)
}

// setUp binds the queue to its streams and buckets, after creating them and updating their settings unless Attach is set.
func (q *Queue) setUp(ctx context.Context) error {
	if !q.cfg.Attach {
		if err := q.create(ctx); err != nil {
			return unreachable("set up the queue", err)
		}
	}
	err := q.bind(ctx)
	if noStream(err) {
		return &job.Error{
			Class: job.Input, Code: "QUEUE_NOT_SET_UP", Err: err,
			Message: "this NATS has no steno queue yet: start `steno up`, a worker or a gateway on it first",
		}
	}
	return unreachable("open the queue", err)
}

func (q *Queue) create(ctx context.Context) error {
	for _, c := range q.streams() {
		if _, err := q.js.CreateOrUpdateStream(ctx, c); err != nil {
			return fmt.Errorf("create stream %s: %w", c.Name, err)
		}
	}
	for _, c := range q.keyValues() {
		if _, err := q.js.CreateOrUpdateKeyValue(ctx, c); err != nil {
			return fmt.Errorf("create bucket %s: %w", c.Bucket, err)
		}
	}
	for _, c := range q.objectStores() {
		if _, err := q.js.CreateOrUpdateObjectStore(ctx, c); err != nil {
			return fmt.Errorf("create object store %s: %w", c.Bucket, err)
		}
	}
	return nil
}

func (q *Queue) share(percent int64) int64 { return q.cfg.Limits.Bytes / 100 * percent }

func (q *Queue) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name: streamJobs, Description: "jobs that wait or run, one message each",
		Subjects: []string{subjectJobs + ".*.*.*"}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: q.cfg.Limits.Jobs, MaxBytes: q.share(shareJobs), MaxMsgSize: maxJobSize,
		MaxMsgsPerSubject: 1, DiscardNewPerSubject: true,
		Duplicates: 10 * time.Minute, AllowDirect: true,
	}, {
		Name: streamDead, Description: "dead letters: jobs that failed, with their history",
		Subjects: []string{subjectDead + ".*"}, Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardOld, MaxBytes: q.share(shareDead), MaxAge: q.cfg.Limits.DeadAge,
		MaxMsgsPerSubject: 1, Duplicates: 10 * time.Minute, AllowDirect: true,
	}, {
		Name: streamAdvisories, Description: "what JetStream says of messages it gave up; core advisories are lost otherwise",
		Subjects: []string{subjectAdvisories}, Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardOld, MaxBytes: q.share(shareAdvisories), MaxAge: 7 * day,
	}}
}

func (q *Queue) keyValues() []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{{
		Bucket: bucketJobs, Description: "the record of each job; every change is a compare-and-swap",
		History: 1, Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		MaxBytes: q.share(shareRecords), MaxValueSize: maxValueSize,
	}, {
		Bucket: bucketChunks, Description: "results of chunks, until their job is recorded",
		History: 1, Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas, Compression: true,
		MaxBytes: q.share(shareChunks), MaxValueSize: maxValueSize, TTL: q.cfg.Limits.ChunkAge,
	}, {
		Bucket: bucketNodes, Description: "what each worker tells of itself",
		History: 1, Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		MaxBytes: q.share(shareNodes), MaxValueSize: maxJobSize, TTL: q.cfg.Limits.NodeAge,
	}}
}

func (q *Queue) objectStores() []jetstream.ObjectStoreConfig {
	return []jetstream.ObjectStoreConfig{{
		Bucket: bucketAudio, Description: "audio by the SHA-256 of its bytes",
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas, MaxBytes: q.share(shareAudio),
	}, {
		Bucket: bucketResults, Description: "transcripts, named by job and claim",
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas, MaxBytes: q.share(shareResults), Compression: true,
	}}
}

func (q *Queue) bind(ctx context.Context) (err error) {
	if q.jobs, err = q.js.Stream(ctx, streamJobs); err != nil {
		return fmt.Errorf("open stream %s: %w", streamJobs, err)
	}
	if q.dead, err = q.js.Stream(ctx, streamDead); err != nil {
		return fmt.Errorf("open stream %s: %w", streamDead, err)
	}
	if q.advisories, err = q.js.Stream(ctx, streamAdvisories); err != nil {
		return fmt.Errorf("open stream %s: %w", streamAdvisories, err)
	}
	if q.records, err = q.js.KeyValue(ctx, bucketJobs); err != nil {
		return fmt.Errorf("open bucket %s: %w", bucketJobs, err)
	}
	if q.chunks, err = q.js.KeyValue(ctx, bucketChunks); err != nil {
		return fmt.Errorf("open bucket %s: %w", bucketChunks, err)
	}
	if q.chunkStream, err = q.js.Stream(ctx, "KV_"+bucketChunks); err != nil {
		return fmt.Errorf("open stream of bucket %s: %w", bucketChunks, err)
	}
	if q.recordStream, err = q.js.Stream(ctx, "KV_"+bucketJobs); err != nil {
		return fmt.Errorf("open stream of bucket %s: %w", bucketJobs, err)
	}
	// A client of this version may meet workers that are older.
	if q.nodes, err = q.js.KeyValue(ctx, bucketNodes); err != nil && (!q.cfg.Attach || !noStream(err)) {
		return fmt.Errorf("open bucket %s: %w", bucketNodes, err)
	}
	if q.audio, err = openObjects(ctx, q.js, bucketAudio); err != nil {
		return err
	}
	q.results, err = openObjects(ctx, q.js, bucketResults)
	return err
}
