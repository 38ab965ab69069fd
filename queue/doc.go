// Package queue carries jobs from those who submit them to the workers, on NATS JetStream: embedded in the process by
// default, or an outside cluster by URL.
//
// The promise: each accepted job reaches exactly one terminal state (done, failed or cancelled) with at most one result. Work
// may be repeated after a crash; its effects are not. A job is accepted when Submit returns nil.
//
// What holds it true:
//
//   - The stream says that there is work; the record in the key-value bucket says whose it is. A claim, each renewal and the
//     end are compare-and-swaps of that record, so of two workers that hold the same message one loses and its result is thrown
//     away. Acknowledgements cannot do this: JetStream takes them from a worker that has lost its lease.
//   - A worker keeps its lease by heartbeats, and heartbeats only go on while the job makes progress.
//   - Attempts are counted in the record when work starts, so that crashes count and a drain does not.
//   - Results of chunks are kept until the job is recorded, so that the next attempt goes on where the last one stood.
//
// A client and a worker are both a Queue:
//
//	server, err := queue.Embedded(ctx, queue.EmbeddedConfig{Dir: dataDir})
//	q, err := queue.Connect(ctx, queue.Config{Server: server})
//	source, err := q.PutAudio(ctx, file)
//	err = q.Submit(ctx, job.Job{ID: job.NewID(), Source: source, FileName: "talk.mp3"})
//	err = q.Work(ctx, queue.WorkerConfig{Slots: 2}, handler) // until ctx ends
//
// docs/QUEUE.md lists the subjects, buckets, states and limits.
package queue
