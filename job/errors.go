package job

import (
	"errors"
	"fmt"
)

// Class says who must act on a failure, and so whether a retry can help.
type Class string

// The failure classes; see docs/RELIABILITY.md for the retry policy of each.
const (
	Input     Class = "INPUT"     // the audio or a parameter is wrong: never retried
	Transient Class = "TRANSIENT" // a dependency was away: retried with growing delays
	Engine    Class = "ENGINE"    // the engine process died or hung: the chunk is retried once, then the job fails
	Resource  Class = "RESOURCE"  // no memory or disk: requeued without spending an attempt
	Internal  Class = "INTERNAL"  // a fault of ours: retried up to the attempt limit
)

// Error is a failure that a user sees: a class, a stable code and one sentence that says what to do.
type Error struct {
	Class   Class  `json:"class"`
	Code    string `json:"code"`    // e.g. "NO_AUDIO_STREAM"; stable, part of the contract
	Message string `json:"message"` // one sentence, says what to do
	Err     error  `json:"-"`       // the cause, for logs
}

// Errorf makes an Error whose message is formatted from format and args; a %w argument becomes its cause.
func Errorf(class Class, code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Class: class, Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether another attempt on the same input must fail the same way.
func (e *Error) Permanent() bool { return e.Class == Input || e.Class == Engine }

// AsError returns the Error within err, or wraps err as INTERNAL. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Class: Internal, Code: "INTERNAL", Message: err.Error(), Err: err}
}
