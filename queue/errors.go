package queue

import (
	"context"
	"errors"

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
)

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

func storeFull(err error) bool {
	code, text := apiError(err)
	return code == codeInsufficient || code == codeAccountStorage ||
		code == codeStoreFailed && (text == overBytes || text == overMessages)
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
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		code == codeUnavailable || code == codeStoreFailed && text != overPerSubject && !storeFull(err)
}
