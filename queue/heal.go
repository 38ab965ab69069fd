package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/internal/disk"
)

// HealConfig says how a broken embedded server is noticed. Empty fields take their defaults.
type HealConfig struct {
	// Every is the time between two looks. Default 5 s.
	Every time.Duration
	// Pause is the least time between two restarts. It doubles with each that did not help, up to 16 times. Default 5 s.
	Pause time.Duration
	// Restarted, if set, is told of each restart and whether it helped.
	Restarted func(err error)
}

// probeStream holds the one message by which the server is asked to write.
const probeStream, probeSubject = "STENO_PROBE", "steno.probe"

// Heal looks after the server until ctx ends: where it says of itself that it is not healthy, though it runs, it is started again
// on its data (Restart) once there is room. So it is after the disk was full: each stream that wanted to write then refuses all
// writes from then on. It returns when ctx has ended.
func (s *Server) Heal(ctx context.Context, cfg HealConfig) {
	cfg.Every, cfg.Pause = or(cfg.Every, 5*time.Second), or(cfg.Pause, 5*time.Second)
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	var again time.Time // not before then is the server started again
	pause, failed := cfg.Pause, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.probe(ctx, cfg.Every)
		if err == nil {
			err = s.Health() // the disk may have been full between two looks, for a write to another stream
		}
		if err == nil || ctx.Err() != nil {
			pause, failed = cfg.Pause, 0
			continue
		}
		// A server that is busy answers late, and is healthy all the same.
		if failed++; failed < 2 || s.Health() == nil || !hasRoom(s.cfg.Dir) || time.Now().Before(again) {
			continue
		}
		s.cfg.Log.Warn("the queue does not write: its server is started again", "error", err)
		err = s.Restart(ctx)
		if err == nil {
			err = s.probe(ctx, cfg.Every)
		}
		if err == nil {
			err = s.Health()
		}
		again = time.Now().Add(pause)
		pause = min(2*pause, 16*cfg.Pause) // until a probe goes well
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("the queue's server was started again, and still does not write", "error", err)
		}
		if cfg.Restarted != nil {
			cfg.Restarted(err)
		}
	}
}

// healRoom is what the disk must have left for a restart: a server that cannot write its own files does not start.
const healRoom = 8 << 20

func hasRoom(dir string) bool {
	room, err := disk.RoomAt(dir)
	return err != nil || room.Free >= healRoom
}

// probe writes one message and waits for the disk to have it.
func (s *Server) probe(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.Token(s.token), nats.Timeout(limit), nats.NoReconnect())
	if err != nil {
		return fmt.Errorf("reach the embedded NATS server: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	_, err = js.Publish(ctx, probeSubject, nil)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: probeStream, Subjects: []string{probeSubject}, Storage: jetstream.FileStorage, MaxMsgs: 1, MaxMsgsPerSubject: 1,
			Description: "asks the server to write",
		})
	}
	if err != nil {
		return fmt.Errorf("ask the embedded NATS server to write: %w", err)
	}
	return nil
}
