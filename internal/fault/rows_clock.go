package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// clocks sets the wall clock of a node that works (F15): an hour on and back, five minutes back and on. Time that passes goes on
// as it did, and so must leases: nobody loses a job, and nothing waits for the clock to come back.
func (r *run) clocks(ctx context.Context, f *injection, n int) (Row, error) {
	if r.Programs.Clock == "" {
		return Row{}, errors.New("name the program that scripts/clock.sh makes with -clock")
	}
	set := filepath.Join(r.site.folder, "clock")
	write := func(off time.Duration) error {
		return os.WriteFile(set, fmt.Appendf(nil, "%d\n", int64(off.Seconds())), 0o600)
	}
	if err := write(0); err != nil {
		return Row{}, err
	}
	r.site.Steno = r.Programs.Clock
	node, o, err := r.node(ctx, f, "30ms", []int{2, 5, 40}, func(n *Node) { n.env = []string{"STENO_CLOCK=" + set} })
	if err != nil {
		return Row{}, err
	}
	o.client.renew = true // a token's hour passes with the wall clock, and rightly so
	stop := o.Load(ctx, 6)
	choices, steps := r.source(f), map[string]int{}
	for i := range n {
		time.Sleep(time.Duration(500+choices.IntN(1500)) * time.Millisecond)
		off := []time.Duration{time.Hour, 0, -5 * time.Minute, 0, -time.Hour, 0}[i%6]
		what := fmt.Sprintf("clock off by %s", off)
		if err := write(off); err != nil {
			return Row{}, err
		}
		o.Fault(what)
		steps[what]++
	}
	if err := write(0); err != nil {
		return Row{}, err
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, node, ended)
	if v.Attempts > 0 {
		v.Wrong = append(v.Wrong, fmt.Sprintf("F15: %d further attempts, want 0: leases follow the time that passes", v.Attempts))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{fmt.Sprint(steps)}}, err
}
