// Package failpoint names the places at which a test may end the process, as a crash would.
//
// Programs built with -tags failpoints read the variable STENO_FAILPOINTS when they start: "name=kill" sends the process SIGKILL
// when it gets to that place, "name=kill@3" when it gets there for the third time, and "name=delay@300ms" has it wait there each
// time; several are divided by commas. In all other
// programs a place is nothing at all: On is a false constant, so that the compiler leaves the call out with its arguments.
//
//	if failpoint.On {
//		failpoint.Hit(failpoint.CreateCommitted)
//	}
package failpoint

import "slices"

// The places of a worker, in the order in which a job passes them.
const (
	JobClaimed = "job-claimed" // the job's record names the worker, nothing is done yet
	Probed     = "probed"      // ffprobe has spoken
	Prepared   = "prepared"    // the audio is measured, the model is there
	ChunkKept  = "chunk-kept"  // a chunk is transcribed and kept for a restart
	Merged     = "merged"      // the transcript is whole, in memory alone
)

// The places at which a task changes hands, in the order in which it passes them between the answer to its creation and the
// acknowledgement of its message. A worker's places lie between the fifth and the sixth.
const (
	CreateCommitted = "create-committed" // the gateway: task and command are in the database, nobody was told yet
	SubmitBefore    = "submit-before"    // the relay: a command is claimed, the queue has not heard of it
	RecordCreated   = "record-created"   // the queue: the job has a record, and no message yet
	SubmitAfter     = "submit-after"     // the relay: the queue has the job, the command is still in the outbox
	CompleteAfter   = "complete-after"   // the relay: the command is done
	ResultStored    = "result-stored"    // the worker: the result is stored, the job's record does not name it
	EndRecorded     = "end-recorded"     // the worker: the job's record says how it ended, the message is not acknowledged
	ApplyBefore     = "apply-before"     // the recorder: has the end and the result, the database does not
	ApplyAfter      = "apply-after"      // the recorder: the database has them, the queue does not know that
	ConfirmAfter    = "confirm-after"    // the recorder: the queue knows
)

// RetryRevived is where a failed job that is tried again waits, by its record: its dead letter is still there, it has no message,
// and the database says that its task has failed.
const RetryRevived = "retry-revived"

// HistoryRead is where the gateway reads a page of the history: what is slow there is to be seen by a load test.
const HistoryRead = "history-read"

// Work lists the places of a worker, those at which it hands a job back included.
func Work() []string {
	return []string{JobClaimed, Probed, Prepared, ChunkKept, Merged, ResultStored, EndRecorded}
}

// Handover lists the places at which a task changes hands.
func Handover() []string {
	return []string{
		CreateCommitted, SubmitBefore, RecordCreated, SubmitAfter, CompleteAfter,
		ResultStored, EndRecorded, ApplyBefore, ApplyAfter, ConfirmAfter,
	}
}

// All lists every place once.
func All() []string {
	all := append(append(Handover(), Work()...), HistoryRead, RetryRevived)
	slices.Sort(all)
	return slices.Compact(all)
}
