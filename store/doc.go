// Package store is the gateway's record of accounts, files, tasks, their history and their results, in SQLite or PostgreSQL.
//
// It knows no broker. What the queue has to be told stands in the outbox, written in the transaction that made it true; what
// the queue reports comes back through Apply:
//
//	s, err := store.Open(ctx, "/var/lib/steno/steno.db", store.Config{})       // or postgres://…
//	task, created, err := s.CreateTask(ctx, store.NewTask{User: u.ID, File: f.ID}) // the row and its command, or neither
//	commands, err := s.Claim(ctx, store.LaneQueue, 16, time.Minute)            // the relay
//	err = s.Complete(ctx, commands[0].ID)                                      // when the queue has confirmed it
//	effect, err := s.Apply(ctx, store.Update{Task: task.ID, Attempt: 1, …})    // the recorder
//	tasks, next, err := s.History(ctx, u.ID, store.Filter{}, "", 20)           // what the user sees
//
// The promise: a task that CreateTask returned is in the database with the command to publish it; it gets one terminal state
// and at most one result, whatever comes late, twice or out of order. Times are kept to the microsecond.
//
// Errors that a user may see are *job.Error: class INPUT for what the caller asked wrongly, TRANSIENT where the database is
// away or busy, RESOURCE where its disk is full. Those for things that are not there, or not the caller's, wrap ErrNotFound.
package store
