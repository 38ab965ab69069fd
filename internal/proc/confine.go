package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Confinement is what a child may do that reads what strangers send. Beside what is named here it may read the system's programs
// and libraries; it may start no program but its own, and reach no network.
//
// Each layer holds as far as this kernel has it and lets us: Layers says which do. None of them needs rights.
type Confinement struct {
	// Read are files and folders that it may read, with all below them. Those that are not there are left out.
	Read []string
	// Write are folders that it may read and change, with all below them.
	Write []string
	CPU   time.Duration // of all its threads together; 0 is no bound
	// Memory bounds its address space in bytes; 0 is no bound, which is what programs need that reserve much and touch little.
	Memory int64
	// FileSize is the largest file that it may write, in bytes. 0 is none at all; pipes are no files.
	FileSize int64
}

// The layers of a confinement.
const (
	Limits     = "limits"        // processor time, memory, file size, no core dumps
	NoNewPrivs = "no new rights" // none from set-user-id programs
	Landlock   = "landlock"      // files and programs; TCP since Linux 6.7; signals and abstract sockets since 6.12
	NoNetwork  = "no network"    // a network of its own with nothing in it
)

// Mode says whether children are confined.
type Mode string

// The modes of a Sandbox.
const (
	Auto     Mode = "auto"     // where the program can be started so, else a warning is logged, once
	Required Mode = "required" // or not started at all
	Off      Mode = "off"
)

// Sandbox starts children confined, as its mode says. It is safe for concurrent use; nil is one of mode Auto that logs nothing.
type Sandbox struct {
	mode Mode
	log  *slog.Logger
	open atomic.Bool // a program could not be started confined
}

// NewSandbox makes a Sandbox. log may be nil.
func NewSandbox(mode Mode, log *slog.Logger) *Sandbox { return &Sandbox{mode: mode, log: log} }

// Start starts the command that build makes, within c. build is called a second time where the first command could not be
// started; Harden must have seen what it returns. The caller must call Wait of the command.
func (s *Sandbox) Start(build func() (*exec.Cmd, error), c Confinement) (*exec.Cmd, error) {
	cmd, err := build()
	if err != nil {
		return nil, err
	}
	if s != nil && (s.mode == Off || s.open.Load()) {
		return cmd, Start(cmd)
	}
	if s != nil && s.mode == Required && !filesAreConfined() {
		return nil, errors.New("this kernel does not confine files (Landlock): set sandbox to auto to go without")
	}
	err = StartConfined(cmd, c)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return cmd, err
	}
	// Such as a wrapper: a script, or a program in a place of its own.
	if s != nil && s.mode == Required {
		return nil, fmt.Errorf("%s cannot be started confined: name the program itself, or set sandbox to auto: %w",
			filepath.Base(cmd.Path), err)
	}
	if cmd, err = build(); err != nil {
		return nil, err
	}
	if err := Start(cmd); err != nil {
		return nil, err // it is no fault of the confinement
	}
	if s != nil && !s.open.Swap(true) && s.log != nil {
		s.log.Warn("children run without a sandbox: a program cannot be started confined", "program", cmd.Path)
	}
	return cmd, nil
}

// Layers lists the layers that hold for children: none where they are not confined.
func (s *Sandbox) Layers() []string {
	if s != nil && (s.mode == Off || s.open.Load()) {
		return nil
	}
	return Layers()
}
