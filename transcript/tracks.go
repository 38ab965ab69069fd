package transcript

import (
	"fmt"
	"math"
	"slices"
)

// Track is the part of a recording that one merger joins: all of it, or what one speaker has a channel for.
type Track struct {
	Speaker string // "" where it is not one speaker's
	Pauses  []Pause
	Starts  []float64 // of its parts, seconds of the source
}

// Tracks joins the tracks of one recording to segments in the order of their starts. Segments of different tracks may overlap, as
// people do who speak at the same time; those of one do not. It is not safe for concurrent use.
type Tracks struct {
	tracks  []Track
	mergers []*Merger
	waiting []Segment // final within their track, but another one may still say something before; in order
	of      []int     // the tracks of those
	done    []Segment
}

// NewTracks makes Tracks.
func NewTracks(tracks ...Track) *Tracks {
	t := &Tracks{tracks: tracks}
	for _, track := range tracks {
		t.mergers = append(t.mergers, NewMerger(track.Pauses))
	}
	return t
}

// Add takes a part of a track, counted from 0, and returns the segments that are final with it, from where the last call ended.
// It fails as Merger.Add does.
func (t *Tracks) Add(track int, p Part) ([]Segment, error) {
	if track < 0 || track >= len(t.mergers) {
		return nil, fmt.Errorf("merge chunks: there is no track %d of %d", track, len(t.mergers))
	}
	segs, err := t.mergers[track].Add(p)
	if err != nil {
		return nil, err
	}
	for _, s := range segs {
		s.Speaker = t.tracks[track].Speaker
		at := len(t.waiting)
		for at > 0 && (t.waiting[at-1].Start > s.Start || t.waiting[at-1].Start == s.Start && t.of[at-1] > track) {
			at--
		}
		t.waiting, t.of = slices.Insert(t.waiting, at, s), slices.Insert(t.of, at, track)
	}
	return t.release(), nil
}

// release takes what is before all that is still to come.
func (t *Tracks) release() []Segment {
	from := len(t.done)
	n := 0
	for ; n < len(t.waiting); n++ {
		if !t.precedes(t.waiting[n].Start, t.of[n]) {
			break
		}
		s := t.waiting[n]
		s.ID = len(t.done)
		t.done = append(t.done, s)
	}
	t.waiting, t.of = slices.Delete(t.waiting, 0, n), slices.Delete(t.of, 0, n)
	return slices.Clone(t.done[from:])
}

// precedes reports whether no other track has anything to come before a segment of track that starts at start.
func (t *Tracks) precedes(start float64, track int) bool {
	for i, m := range t.mergers {
		if i == track {
			continue
		}
		next := math.Inf(1)
		if m.next < len(t.tracks[i].Starts) {
			next = round(t.tracks[i].Starts[m.next])
		}
		if start > next || start == next && i < track {
			return false
		}
	}
	return true
}

// Segments returns those of all tracks. It fails where a part is missing.
func (t *Tracks) Segments() ([]Segment, error) {
	for i, m := range t.mergers {
		if _, err := m.Segments(len(t.tracks[i].Starts)); err != nil {
			return nil, err
		}
	}
	return t.done, nil
}
