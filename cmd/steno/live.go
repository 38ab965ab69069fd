package main

import (
	"encoding/json"
	"fmt"
	"sync"

	"steno/transcript"
)

// feed holds the final segments of one input until it is their turn to be printed. Safe for concurrent use.
type feed struct {
	mu   sync.Mutex
	segs []transcript.Segment
	more chan struct{} // holds a token where there may be some
}

func newFeed() *feed { return &feed{more: make(chan struct{}, 1)} }

func (f *feed) add(s []transcript.Segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.segs = append(f.segs, s...)
	select {
	case f.more <- struct{}{}:
	default:
	}
}

func (f *feed) take() []transcript.Segment {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.segs
	f.segs = nil
	return s
}

// follow prints the segments of f as they become final, until its transcript is there.
func (t *transcriber) follow(f input, feed *feed, result <-chan ended) (ended, error) {
	for {
		select {
		case <-feed.more:
			if err := t.writeLive(f, feed.take()); err != nil {
				return ended{}, err
			}
		case o := <-result:
			return o, t.writeLive(f, feed.take())
		}
	}
}

// writeLive prints segments, one line or, with --json, one object for each.
func (t *transcriber) writeLive(f input, segs []transcript.Segment) error {
	if len(segs) == 0 {
		return nil
	}
	if t.out.json {
		enc := json.NewEncoder(t.a.std.out)
		for _, s := range segs {
			if err := enc.Encode(struct {
				File    string             `json:"file"`
				Segment transcript.Segment `json:"segment"`
			}{f.name, s}); err != nil {
				return err
			}
		}
		return nil
	}
	t.bar.clear()
	for _, s := range segs {
		if _, err := fmt.Fprintln(t.a.std.out, transcript.Line(s)); err != nil {
			return err
		}
	}
	return nil
}
