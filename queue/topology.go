package queue

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Names on the broker. docs/QUEUE.md explains each.
const (
	streamJobs       = "STENO_JOBS"
	streamDead       = "STENO_DLQ"
	streamAdvisories = "STENO_ADVISORIES"
	streamChunks     = "STENO_CHUNKS"
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
	subjectModel      = "steno.control.model"
	subjectChunks     = "steno.chunks"
	subjectAsk        = "steno.control.ask"
	subjectOffered    = "steno.control.offered"
	subjectWarm       = "steno.control.warm"
	subjectNudge      = "steno.control.nudge"
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

// The priorities, in the order in which workers look. Each has a second line, of Bulk jobs.
var priorities = []string{"high", "normal", "low"}

const bulkLine = "-bulk"

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
func jobSubject(pool string, j job.Job) string {
	line := priority(j.Priority)
	if j.Bulk {
		line += bulkLine
	}
	return fmt.Sprintf("%s.%s.%s.%s", subjectJobs, pool, line, j.ID)
}

// offerSubject is that of chunks of a job that others may decode. id may be "*".
func offerSubject(pool, model string, id job.ID) string {
	return fmt.Sprintf("%s.%s.%s.%s", subjectChunks, pool, short(model), id)
}

// short is enough of a SHA-256 to tell weights apart, as a token of a subject.
func short(sum string) string { return nodeID(sum[:min(len(sum), 16)]) }

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
	all := q.streams()
	for _, c := range q.keyValues() {
		all = append(all, keyValueStream(c))
	}
	for _, c := range q.objectStores() {
		all = append(all, objectStream(c))
	}
	for _, c := range all {
		// By a direct read any of a cluster's servers may answer, and one that lags behind, or is cut off, answers that what was
		// written is not there. Whether a job is there must be asked where it was written.
		c.AllowDirect = q.cfg.Replicas == 1
		if err := q.fit(ctx, c); err != nil {
			return err
		}
	}
	// Nothing depends on it: a broker without memory to give has workers that decode their own jobs alone.
	if err := q.fit(ctx, q.offers()); err != nil {
		q.cfg.Log.Warn("long files are not spread over workers", "error", err)
	}
	return nil
}

// fit makes a stream, or brings one that is there in line, unless it is: in a cluster each change is one for all its servers.
func (q *Queue) fit(ctx context.Context, want jetstream.StreamConfig) error {
	s, err := q.js.Stream(ctx, want.Name)
	switch {
	case noStream(err):
		_, err = q.js.CreateOrUpdateStream(ctx, want) // another process may have made it meanwhile
	case err == nil && !fits(s.CachedInfo().Config, want):
		_, err = q.js.UpdateStream(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("create stream %s: %w", want.Name, err)
	}
	return nil
}

// fits tells whether a stream is as it should be, in what this package sets.
func fits(have, want jetstream.StreamConfig) bool {
	limit := func(n int64) int64 { // as the server has it
		if n == 0 {
			return -1
		}
		return n
	}
	return have.Description == want.Description && slices.Equal(have.Subjects, want.Subjects) && have.Retention == want.Retention &&
		have.Storage == want.Storage && have.Replicas == want.Replicas && have.Discard == want.Discard &&
		have.MaxMsgs == limit(want.MaxMsgs) && have.MaxBytes == limit(want.MaxBytes) && have.MaxAge == want.MaxAge &&
		int64(have.MaxMsgSize) == limit(int64(want.MaxMsgSize)) && have.MaxMsgsPerSubject == limit(want.MaxMsgsPerSubject) &&
		have.DiscardNewPerSubject == want.DiscardNewPerSubject && (want.Duplicates == 0 || have.Duplicates == want.Duplicates) &&
		have.AllowRollup == want.AllowRollup && have.DenyDelete == want.DenyDelete && have.AllowDirect == want.AllowDirect &&
		have.Compression == want.Compression
}

func (q *Queue) share(percent int64) int64 { return q.cfg.Limits.Bytes / 100 * percent }

func (q *Queue) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name: streamJobs, Description: "jobs that wait or run, one message each",
		Subjects: []string{subjectJobs + ".*.*.*"}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: q.cfg.Limits.Jobs, MaxBytes: q.share(shareJobs), MaxMsgSize: maxJobSize,
		MaxMsgsPerSubject: 1, DiscardNewPerSubject: true,
		Duplicates: 10 * time.Minute,
	}, {
		Name: streamDead, Description: "dead letters: jobs that failed, with their history",
		Subjects: []string{subjectDead + ".*"}, Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardOld, MaxBytes: q.share(shareDead), MaxAge: q.cfg.Limits.DeadAge,
		MaxMsgsPerSubject: 1, Duplicates: 10 * time.Minute,
	}, {
		Name: streamAdvisories, Description: "what JetStream says of messages it gave up; core advisories are lost otherwise",
		Subjects: []string{subjectAdvisories}, Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardOld, MaxBytes: q.share(shareAdvisories), MaxAge: 7 * day,
	}}
}

// offersBytes bounds the chunks on offer: 64 of 30 s.
const offersBytes = 64 << 20

// offers is the stream of chunks that others may decode. They are in memory, for whoever offers a chunk takes it back where
// nobody has decoded it soon, and after minutes nobody waits for it any more.
func (q *Queue) offers() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamChunks, Description: "chunks of jobs that run, on offer to workers with nothing to do",
		Subjects: []string{subjectChunks + ".*.*.*"}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.MemoryStorage, Replicas: q.cfg.Replicas,
		Discard: jetstream.DiscardNew, MaxBytes: offersBytes, MaxAge: 5 * time.Minute,
	}
}

// keyValueStream is the stream of a bucket, as NATS ADR-8 has it.
func keyValueStream(c jetstream.KeyValueConfig) jetstream.StreamConfig {
	s := jetstream.StreamConfig{
		Name: "KV_" + c.Bucket, Description: c.Description, Subjects: []string{"$KV." + c.Bucket + ".>"},
		Storage: c.Storage, Replicas: c.Replicas, MaxMsgsPerSubject: int64(c.History), MaxBytes: c.MaxBytes, MaxMsgSize: c.MaxValueSize,
		MaxAge: c.TTL, Duplicates: 2 * time.Minute, Discard: jetstream.DiscardNew, AllowRollup: true, DenyDelete: true,
	}
	if c.TTL > 0 {
		s.Duplicates = min(s.Duplicates, c.TTL)
	}
	if c.Compression {
		s.Compression = jetstream.S2Compression
	}
	return s
}

// objectStream is the stream of an object store, as NATS ADR-20 has it.
func objectStream(c jetstream.ObjectStoreConfig) jetstream.StreamConfig {
	s := jetstream.StreamConfig{
		Name: "OBJ_" + c.Bucket, Description: c.Description, Subjects: []string{"$O." + c.Bucket + ".C.>", "$O." + c.Bucket + ".M.>"},
		Storage: c.Storage, Replicas: c.Replicas, MaxBytes: c.MaxBytes, Discard: jetstream.DiscardNew, AllowRollup: true,
	}
	if c.Compression {
		s.Compression = jetstream.S2Compression
	}
	return s
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
	if q.spread, err = q.js.Stream(ctx, streamChunks); err != nil {
		q.spread = nil // so it is where the broker has no memory to give, or only older workers
		if !noStream(err) {
			return fmt.Errorf("open stream %s: %w", streamChunks, err)
		}
	}
	if q.audio, err = openObjects(ctx, q.js, bucketAudio); err != nil {
		return err
	}
	q.results, err = openObjects(ctx, q.js, bucketResults)
	return err
}
