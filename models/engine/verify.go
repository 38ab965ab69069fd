package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

// open opens a model file and checks its SHA-256. The library ends the process on many broken files and CVEs stand against
// its parser, so it never sees a byte that was not checked: the caller loads the descriptor that was read here, not the
// name, which may mean another file by then.
func open(ctx context.Context, path, sum string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFile, err)
	}
	if err := check(ctx, f, sum); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func check(ctx context.Context, f *os.File, sum string) error {
	st, err := f.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBadFile, err)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", ErrBadFile, f.Name())
	case len(sum) != 2*sha256.Size:
		return fmt.Errorf("%w: no SHA-256 is known for %s", ErrBadFile, f.Name())
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, &untilDone{ctx, f}, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, sum) {
		return fmt.Errorf("%w: %s has SHA-256 %s, want %s", ErrBadFile, f.Name(), got, strings.ToLower(sum))
	}
	return nil
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// descriptor is a path that opens the file behind f whatever its name means by now.
func descriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
