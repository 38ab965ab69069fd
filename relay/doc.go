// Package relay keeps the SQL record and the queue in step, in both directions.
//
//	r := relay.New(relay.Config{Store: s, Queue: q, OnChange: func(user string, task job.ID) { cache.Forget(user, task) }})
//	go r.Run(ctx)                    // until ctx ends
//	task, _, err := s.CreateTask(ctx, n)
//	r.Notify()                       // the task is on the queue a moment later
//
// Four loops run:
//
//   - The publisher takes commands from the outbox (publish, cancel, delete, purge) and carries them out on the queue. Each may
//     be carried out twice, by another gateway or after a crash, so each is harmless the second time.
//   - The recorder follows the state of all jobs and writes it into the database, with the transcript where there is one. It
//     looks at states and not at events, so what it misses while it is away is there when it is back. When the database has the
//     end of a task, it tells the queue, which keeps the result until then.
//   - The reconciler compares the open tasks with the queue, at the start and every half minute, and puts right what neither of
//     the others can see: a queue that has lost its disk, a record that an operator has erased.
//   - The webhooks tell the users' servers how tasks have ended.
//
// What holds the promise, that each task that was created gets one terminal state and at most one result, is in the store: Apply
// takes the first terminal state and no other. The relay only has to see to it that there is one, any number of times.
//
// It knows the queue by interfaces of its own. docs/adr/0009-relay.md says why it is built so.
package relay
