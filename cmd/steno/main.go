// Command steno turns recorded speech into text: on files (steno transcribe), through a queue (steno up, steno submit, steno
// worker), and as the engine process that holds a model (steno engine, hidden).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"steno/job"
)

// version is set by the build (-ldflags "-X main.version=v1.2.3").
var version = "dev"

// Exit codes, part of the contract.
const (
	exitOK     = 0
	exitFailed = 1 // a job, or what the command was for, failed
	exitUsage  = 2 // the command line was wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}, os.Environ())
	stop()
	os.Exit(code)
}

// streams are the three standard files.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the whole program.
func run(ctx context.Context, args []string, std streams, env []string) int {
	root := newRoot(std, env)
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	}
	fmt.Fprintln(std.err, "steno:", message(ctx, err))
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

// errReported says that what went wrong has been printed already.
var errReported = errors.New("failed")

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// isUsage reports whether the user's command line, not the work, was wrong.
func isUsage(err error) bool {
	var u usageError
	if errors.As(err, &u) {
		return true
	}
	var j *job.Error
	return errors.As(err, &j) && (j.Code == "BAD_PARAMETER" || j.Code == "BAD_CONFIG")
}

// message is the one sentence that a user reads.
func message(ctx context.Context, err error) string {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return "interrupted"
	}
	return err.Error()
}

// args makes cobra's argument checks usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usagef("%w: see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}
