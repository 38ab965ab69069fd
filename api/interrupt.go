package api

import (
	"context"
	"io"
	"sync"

	tus "github.com/tus/tusd/v2/pkg/handler"
)

// interrupts holds back what tells a request that another one wants its upload, until the request reads its body. tusd (v2.9.1)
// notes the body without a lock before it does, and who tells looks for it there: told too early, a request would read on.
type interrupts struct {
	tus.DataStore
	tus.TerminaterDataStore
	tus.Locker

	mu      sync.Mutex
	waiting map[string]chan struct{} // by upload: closed when its request reads, or has ended
}

// begin lets the request for an upload be told.
func (i *interrupts) begin(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.waiting[id]; c != nil {
		close(c)
		delete(i.waiting, id)
	}
}

// NewLock implements tus.Locker.
func (i *interrupts) NewLock(id string) (tus.Lock, error) {
	l, err := i.Locker.NewLock(id)
	return interruptLock{l, i, id}, err
}

type interruptLock struct {
	lock tus.Lock
	of   *interrupts
	id   string
}

func (l interruptLock) Lock(ctx context.Context, requestUnlock func()) error {
	begun := make(chan struct{})
	err := l.lock.Lock(ctx, func() {
		go func() {
			<-begun
			requestUnlock()
		}()
	})
	if err != nil {
		return err
	}
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	l.of.waiting[l.id] = begun
	return nil
}

func (l interruptLock) Unlock() error {
	l.of.begin(l.id)
	return l.lock.Unlock()
}

// NewUpload implements tus.DataStore.
func (i *interrupts) NewUpload(ctx context.Context, info tus.FileInfo) (tus.Upload, error) {
	u, err := i.DataStore.NewUpload(ctx, info)
	if err != nil {
		return nil, err
	}
	return interruptUpload{u, i, info.ID}, nil
}

// GetUpload implements tus.DataStore.
func (i *interrupts) GetUpload(ctx context.Context, id string) (tus.Upload, error) {
	u, err := i.DataStore.GetUpload(ctx, id)
	if err != nil {
		return nil, err
	}
	return interruptUpload{u, i, id}, nil
}

// AsTerminatableUpload implements tus.TerminaterDataStore.
func (i *interrupts) AsTerminatableUpload(u tus.Upload) tus.TerminatableUpload {
	return i.TerminaterDataStore.AsTerminatableUpload(u.(interruptUpload).Upload)
}

type interruptUpload struct {
	tus.Upload
	of *interrupts
	id string
}

func (u interruptUpload) WriteChunk(ctx context.Context, offset int64, src io.Reader) (int64, error) {
	u.of.begin(u.id)
	return u.Upload.WriteChunk(ctx, offset, src)
}
