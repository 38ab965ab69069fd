package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Tier says how much is done.
type Tier int

// T0 is for each commit, T1 for each night.
const (
	T0 Tier = iota
	T1
)

// Config is one run of the programme.
type Config struct {
	Programs Programs
	Tier     Tier
	Seed     uint64
	Rows     []string // of the fault table; none means all of the tier
	Folder   string   // for logs, data and the ledger
	Root     string   // of the repository, for rows that are tests of a package
	Speech   string   // a recording of real speech in WAV of 16 kHz mono, for rows that use the real engine
	Lanes    int      // rows at a time; 0 is 1
	Out      io.Writer
}

// Row is a line of the report.
type Row struct {
	ID, Fault string
	Injected  int
	Verdict   Verdict
	Mark      time.Duration // the longest recovery allowed; 0 where none is asked for
	Notes     []string
	Took      time.Duration
}

// run is a row's share of a Run.
type run struct {
	Config
	ledger *Ledger
	site   *site
}

// injection is an entry of the programme.
type injection struct {
	id, name string
	t0, t1   int // how often; a tier with 0 leaves it out
	mark     time.Duration
	inject   func(*run, context.Context, *injection, int) (Row, error)
}

func programme() []injection {
	return []injection{
		{"F1", "kill -9 of workers, at seven places and at random", 30, 500, 45 * time.Second, (*run).killWorkers},
		{"F2", "KILL, ABRT, SEGV and STOP of the engine, mid-chunk", 40, 500, 60 * time.Second, (*run).killEngines},
		{"F3", "kill -9 of the whole node, at ten places and at random", 20, 200, 45 * time.Second, (*run).killNodes},
		{"F4", "power cut under the node's disk", 0, 100, 45 * time.Second, (*run).powerCuts},
		{"F5", "SIGTERM at no, half and full load; a second one", 9, 50, 60 * time.Second, (*run).drain},
		{"F6", "NATS killed, stopped, cut off and slow", 6, 100, 130 * time.Second, (*run).disturbNATS},
		{"F7", "the node's disk full to the last byte, or low, and free again", 3, 60, 60 * time.Second, (*run).fullDisks},
		{"F8", "the database held by another process; statements that fail", 10, 100, 60 * time.Second, (*run).lockedDatabases},
		{"F9", "files that are odd, broken or hostile", 60, 60, 0, (*run).hostileInputs},
		{"F10", "mutated media, as TestMutatedMedia of audio makes them", 0, 10_000, 0, testRow("./audio", "TestMutatedMedia")},
		{"F11", "mutated models before the engine's own reader", 0, 400, 0, testRow("./cmd/steno", "TestMutatedModels")},
		{"F12", "jobs that abort, end, hang and babble, among good ones", 10, 100, 0, (*run).poison},
		{"F13", "ten creates at once with the same key", 100, 1000, 0, (*run).duplicates},
		{"F14", "200 slow readers and a flood of creates", 20, 200, 0, (*run).overload},
		{"F15", "the wall clock set: an hour and five minutes, on and back", 0, 40, 60 * time.Second, (*run).clocks},
		{"F16", "decodes that find no memory", 8, 50, 0, (*run).noMemory},
		{"F17", "jobs in a row, for what grows", 100, 10000, 0, (*run).leaks},
		{"F18", "seconds of 32 clients and 6 models in room for 2", 0, 1800, 0, testRow("./models", "TestSchedulerInRealTime")},
		{"F19", "fuzz targets, ten minutes each", 0, 8, 0, (*run).fuzz},
		{"C1", "one of three machines killed, or divided from the others", 2, 20, 130 * time.Second, (*run).disturbCluster},
	}
}

// slowest are the rows that take the longest, the slowest one last.
var slowest = []string{"F8", "F1", "C1", "F18", "F10", "F17", "F19"}

// times is how often the fault is injected.
func (f *injection) times(t Tier) int {
	if t == T1 {
		return f.t1
	}
	return f.t0
}

// IDs lists the rows that there are.
func IDs() []string {
	var ids []string
	for _, f := range programme() {
		ids = append(ids, f.id)
	}
	return ids
}

// Run runs the rows, several at a time, and writes the report. The error says that a promise was broken, or that the programme
// itself could not go on.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	for _, id := range cfg.Rows {
		if !slices.Contains(IDs(), id) {
			return nil, fmt.Errorf("there is no row %q: choose of %v", id, IDs())
		}
	}
	if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
		return nil, err
	}
	ledger, err := NewLedger(filepath.Join(cfg.Folder, "ledger.jsonl"))
	if err != nil {
		return nil, err
	}
	ledger.Write("", "begin", "", fmt.Sprintf("tier %d seed %d", cfg.Tier, cfg.Seed))
	fmt.Fprintf(cfg.Out, "tier T%d, seed %d, ledger %s\n", cfg.Tier, cfg.Seed, filepath.Join(cfg.Folder, "ledger.jsonl"))
	var todo []injection
	for _, f := range programme() {
		if chosen := slices.Contains(cfg.Rows, f.id); chosen || len(cfg.Rows) == 0 && f.times(cfg.Tier) > 0 {
			todo = append(todo, f)
		}
	}
	slices.SortStableFunc(todo, func(a, b injection) int { // those first, so that no lane waits for them at the end
		return cmp.Compare(slices.Index(slowest, b.id), slices.Index(slowest, a.id))
	})
	rows := make([]Row, len(todo))
	var lanes errgroup.Group
	lanes.SetLimit(max(1, cfg.Lanes))
	var mu sync.Mutex // one row is printed at a time
	var aside errgroup.Group
	for i, f := range todo {
		lane := &lanes
		if f.id == "F19" { // it takes only what the others leave
			lane = &aside
		}
		lane.Go(func() error {
			row := runRow(ctx, cfg, ledger, &f)
			mu.Lock()
			defer mu.Unlock()
			rows[i] = row
			fmt.Fprintln(cfg.Out, row)
			for _, w := range row.Verdict.Wrong[:min(10, len(row.Verdict.Wrong))] {
				fmt.Fprintln(cfg.Out, "   BROKEN", w)
			}
			return nil
		})
	}
	err = errors.Join(lanes.Wait(), aside.Wait(), ledger.Close(), ctx.Err())
	ids := IDs()
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(slices.Index(ids, a.ID), slices.Index(ids, b.ID)) })
	fmt.Fprint(cfg.Out, "\n", Table(rows))
	if err != nil {
		return rows, err
	}
	return rows, broken(rows, cfg.Seed)
}

// broken names the first promise that each row broke: it is what stands last in the output, and may be all that is kept of it.
func broken(rows []Row, seed uint64) error {
	var n int
	var first []string
	for _, row := range rows {
		if wrong := row.Verdict.Wrong; len(wrong) > 0 {
			n += len(wrong)
			first = append(first, row.ID+": "+wrong[0])
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d broken promises, all of them above and in the ledger; the same faults again: --seed %d\n%s",
		n, seed, strings.Join(first, "\n"))
}

// runRow runs one fault in a folder of its own; a row that could not go on, or whose processes did not end with it, is broken.
func runRow(ctx context.Context, cfg Config, ledger *Ledger, f *injection) (row Row) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Config: cfg, ledger: ledger, site: &site{Programs: cfg.Programs, folder: filepath.Join(cfg.Folder, f.id)}}
	began := time.Now()
	err := os.MkdirAll(r.site.folder, 0o700)
	if err == nil {
		// A row that was chosen by name is run, also where its tier leaves it out.
		row, err = f.inject(r, ctx, f, cmp.Or(f.times(cfg.Tier), f.t1))
	}
	if err != nil {
		row.Verdict.Wrong = append(row.Verdict.Wrong, fmt.Sprintf("the row could not go on: %v", err))
	}
	cancel()
	if still := r.site.left(5 * time.Second); len(still) > 0 {
		row.Verdict.Wrong = append(row.Verdict.Wrong, fmt.Sprintf("I5: still running: %v", still))
	}
	row.ID, row.Fault, row.Mark, row.Took = f.id, f.name, f.mark, time.Since(began)
	if late := row.late(); late != "" {
		row.Verdict.Wrong = append(row.Verdict.Wrong, late)
	}
	return row
}

// source is a row's own sequence of choices: the same for the same seed, whatever rows run.
func (r *run) source(f *injection) *rand.Rand { return r.choices(f, 0) }

// choices is source for one of several that choose side by side.
func (r *run) choices(f *injection, of uint64) *rand.Rand {
	h := of
	for _, c := range f.id {
		h = h*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(r.Seed, h))
}

// node starts a node of its own for a row, with an oracle that has learned its recordings. Each change is made before it starts.
func (r *run) node(
	ctx context.Context, f *injection, script string, seconds []int, changes ...func(*Node),
) (*Node, *Oracle, error) {
	n, err := newNode(r.site, script)
	if err != nil {
		return nil, nil, err
	}
	for _, change := range changes {
		change(n)
	}
	if err := n.Start(ctx, ""); err != nil {
		return nil, nil, err
	}
	o := r.oracle(f, n.client, n.Dead)
	return n, o, o.Learn(ctx, sounds(r.Seed, seconds)...)
}

// oracle watches a service for a row.
func (r *run) oracle(f *injection, c *Client, dead func(context.Context) ([]string, error)) *Oracle {
	o := newOracle(f.id, c, dead, r.ledger, r.Seed)
	if r.Tier == T1 {
		// Hundreds of faults need jobs that they hit, not as many jobs as there can be: those of a row would take what all rows have.
		o.gap = 400 * time.Millisecond
	}
	return o
}

func sounds(seed uint64, seconds []int) []Sound {
	var all []Sound
	for i, s := range seconds {
		all = append(all, Sound{name: fmt.Sprintf("speech%d-%ds.wav", i, s), data: speech(seed+uint64(i), s)})
	}
	return all
}

// verdict waits for the end of all jobs and checks everything, on a node that runs.
func (r *run) verdict(ctx context.Context, o *Oracle, n *Node, within time.Duration) (Verdict, error) {
	if err := o.Settle(ctx, within); err != nil {
		return Verdict{}, err
	}
	if n != nil {
		if _, err := o.Idle(ctx, n); err != nil {
			return Verdict{}, err
		}
	}
	return o.Check(ctx)
}

// survived is verdict for a node that must still be the process that it was.
func (r *run) survived(ctx context.Context, o *Oracle, n *Node, pid int) (Verdict, error) {
	v, err := r.verdict(ctx, o, n, ended)
	if err != nil {
		return v, err
	}
	if n.run.pid() != pid || !n.run.alive() {
		o.Wrong("I5", "the node did not live on")
	}
	v.Wrong = o.broken()
	return v, nil
}

func (r Row) late() string {
	if r.Mark == 0 || len(r.Verdict.Recovery) == 0 {
		return ""
	}
	longest := slices.Max(r.Verdict.Recovery)
	if longest <= r.Mark {
		return ""
	}
	return fmt.Sprintf("slow: the longest recovery took %s, %s are allowed", longest.Round(time.Millisecond), r.Mark)
}

// recovered is the median and the longest recovery.
func (r Row) recovered() string {
	all := r.Verdict.Recovery
	if len(all) == 0 {
		return "–"
	}
	s := func(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }
	return s(all[len(all)/2]) + " / " + s(all[len(all)-1]) + " s"
}

func (r Row) String() string {
	v := r.Verdict
	return fmt.Sprintf("%-4s %d × %s: %d jobs, %d done, %d failed, %d lost, %d doubled, %d differing, recovery %s, %s; %s",
		r.ID, r.Injected, r.Fault, v.Jobs, v.Done, v.Failed, v.Lost, v.Doubled, v.Differing, r.recovered(), r.Took.Round(time.Second),
		strings.Join(r.Notes, "; "))
}

// Table is the report in Markdown.
func Table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| fault | how often | jobs | lost | doubled | other words | recovery, median / longest | noted |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		v := r.Verdict
		fmt.Fprintf(&b, "| %s: %s | %d | %d | %d | %d | %d | %s | %s |\n",
			r.ID, r.Fault, r.Injected, v.Jobs, v.Lost, v.Doubled, v.Differing, r.recovered(), strings.Join(r.Notes, "; "))
	}
	return b.String()
}
