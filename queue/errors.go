package queue

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// ErrNotFound is the cause of the error for a job, a dead letter or a result that the queue does not hold.
var ErrNotFound = errors.New("not found")

// Why a handler's context was cancelled; context.Cause returns them.
var (
	// ErrCancelled says that the user cancelled the job.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrLeaseLost says that another worker has taken the job over.
	ErrLeaseLost = errors.New("the lease of the job was lost")
	// ErrDraining says that the worker is being stopped; the job goes back without having spent an attempt.
	ErrDraining = errors.New("the worker is stopping")
	// ErrStalled says that the handler reported no progress for too long.
	ErrStalled = errors.New("the job made no progress")
)

func notFound(id job.ID) error {
	return &job.Error{
		Class: job.Input, Code: "JOB_NOT_FOUND", Err: ErrNotFound,
		Message: "there is no job " + string(id) + ": check the id with `steno status`",
	}
}

// unreachable turns an error of the broker into one for users. Errors that already are for users pass.
func unreachable(doing string, err error) error {
	var e *job.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e), errors.Is(err, context.Canceled):
		return err
	case diskFull(err):
		return onFullDisk(doing, err)
	case noCluster(err):
		return &job.Error{
			Class: job.Input, Code: "NO_CLUSTER", Err: err,
			Message: doing + ": this NATS is one server, which keeps one copy of a stream: set nats_replicas to 1, or name a cluster",
		}
	case storeFull(err):
		return &job.Error{
			Class: job.Resource, Code: "QUEUE_STORE_FULL", Err: err,
			Message: doing + ": the queue's store is full: wait for jobs to finish, or give it more bytes",
		}
	}
	return &job.Error{
		Class: job.Transient, Code: "QUEUE_UNREACHABLE", Err: err,
		Message: doing + ": " + err.Error() + ": check that `steno up` or the NATS server runs, then try again",
	}
}

// submitting is the one thing to do of which users want to know whether it was done.
const submitting = "submit the job"

// onFullDisk is the error for what the broker has refused because its disk is full.
func onFullDisk(doing string, err error) error {
	was := "this was not done"
	if doing == submitting {
		was = "the job was not accepted"
	}
	return &job.Error{
		Class: job.Resource, Code: "QUEUE_STORE_FULL", Err: errors.Join(err, syscall.ENOSPC),
		Message: doing + ": the disk under the queue is full: free space on it; " + was,
	}
}

// unreachable is for what writes: a server whose disk is full mostly gives no answer, but says of itself that it is. Whether the
// write was done is not known then.
func (q *Queue) unreachable(doing string, err error) error {
	err = unreachable(doing, err)
	var e *job.Error
	if !errors.As(err, &e) || e.Code != "QUEUE_UNREACHABLE" || !unanswered(err) || !q.outOfRoom() {
		return err
	}
	return &job.Error{
		Class: e.Class, Code: e.Code, Err: errors.Join(err, syscall.ENOSPC),
		Message: doing + ": no answer has come, and the disk under the queue is full: free space on it, then try again",
	}
}

// outOfRoom tells whether the server's disk is full, as far as that can be known here.
func (q *Queue) outOfRoom() bool {
	switch {
	case q.cfg.Server != nil:
		return q.cfg.Server.outOfRoom()
	case q.cfg.local != "":
		return !hasRoom(q.cfg.local)
	}
	return false
}

// unanswered reports whether an error is one of waiting.
func unanswered(err error) bool {
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse)
}

// Descriptions of the server's error 10077, which covers all limits of a stream.
const (
	overMessages   = "maximum messages exceeded"
	overBytes      = "maximum bytes exceeded"
	overPerSubject = "maximum messages per subject exceeded"
)

// Codes of the server that nats.go does not name.
const (
	codeUnavailable    = 10008 // JetStream is starting, or has no leader
	codeInsufficient   = 10023 // the server's storage is used up
	codeAccountStorage = 10002 // the account's
	codeStoreFailed    = 10077 // a limit of the stream, or the disk
	codeNoCluster      = 10074 // more than one replica, on a server that is alone
	codeFewServers     = 10005 // fewer are there than are to keep the stream
	codeNoStorage      = 10047 // the server's storage has not as much left as is to be reserved
)

// noSpace looks for what the operating system says of a full disk. The server has no code of its own for that, and hands the text
// on under several.
func noSpace(text string) bool { return strings.Contains(text, "no space left on device") }

func apiError(err error) (code jetstream.ErrorCode, text string) {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode, api.Description
	}
	var old *nats.APIError
	if errors.As(err, &old) {
		return jetstream.ErrorCode(old.ErrorCode), old.Description
	}
	return 0, ""
}

func diskFull(err error) bool {
	_, text := apiError(err)
	return noSpace(text)
}

func storeFull(err error) bool {
	code, text := apiError(err)
	return code == codeInsufficient || code == codeAccountStorage || code == codeNoStorage ||
		code == codeStoreFailed && (text == overBytes || text == overMessages)
}

func noCluster(err error) bool {
	code, _ := apiError(err)
	return code == codeNoCluster
}

func fewServers(err error) bool {
	code, _ := apiError(err)
	return code == codeFewServers
}

func alreadyInStream(err error) bool {
	code, text := apiError(err)
	return code == codeStoreFailed && text == overPerSubject
}

// conflict reports whether a compare-and-swap lost against another write.
func conflict(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	code, _ := apiError(err)
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// passing reports whether an error of the broker may be gone in a moment.
func passing(err error) bool {
	code, text := apiError(err)
	return unanswered(err) || errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		code == codeUnavailable || code == codeStoreFailed && text != overPerSubject && !storeFull(err)
}
