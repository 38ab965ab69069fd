package api

import (
	"context"
	"strings"

	"github.com/maypok86/otter/v2"
)

// probed remembers what a user's files are, so that one that comes again is not probed again: to start ffprobe is most of what an
// upload takes, whatever its length. It remembers nothing for other users, who could tell from the time that an answer takes
// that somebody has the same file. It is safe for concurrent use.
type probed struct {
	probe func(ctx context.Context, path string) (Media, error)
	known *otter.Cache[probedKey, Media]
}

// probedKey has the file's ending, too: raw formats are known by nothing else.
type probedKey struct{ user, sha256, ending string }

// maxProbed is how many files are remembered, of all users.
const maxProbed = 10_000

func newProbed(probe func(ctx context.Context, path string) (Media, error)) *probed {
	return &probed{probe, otter.Must(&otter.Options[probedKey, Media]{MaximumSize: maxProbed})}
}

// media says what an upload is. Only what was accepted is remembered.
func (p *probed) media(ctx context.Context, user string, u *upload) (Media, error) {
	key := probedKey{user, u.sha256, strings.ToLower(extension(u.name))}
	if m, ok := p.known.GetIfPresent(key); ok {
		return m, nil
	}
	m, err := p.probe(ctx, u.path)
	if err == nil {
		p.known.Set(key, m)
	}
	return m, err
}
