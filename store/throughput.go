package store

import (
	"context"
	"time"
)

// Throughput is what was done in some time.
type Throughput struct {
	Done, Failed, Cancelled int
	// Audio is the length of what was transcribed, and Work how long its last attempts took, both in seconds.
	Audio, Work float64
}

// throughputAge bounds how old a task may be that counts: those that ended in the last hour and waited longer are few, and to
// find them would read the whole history.
const throughputAge = 24 * time.Hour

// Throughput counts the tasks of all users that have ended since a time and were created up to a day before that. Those whose
// transcript was there already are left out, for nothing was done for them.
func (s *Store) Throughput(ctx context.Context, since time.Time) (Throughput, error) {
	var t Throughput
	err := s.reader().row(ctx, sumEnded, since.Add(-throughputAge).UnixMicro(), since.UnixMicro()).
		Scan(&t.Done, &t.Failed, &t.Cancelled, &t.Audio, &t.Work)
	t.Work /= 1e6 // from microseconds
	return t, forUser(ctx, "sum up the tasks", err)
}
