package fault

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
	Rows     []string // of the fault table; none means all
	Folder   string   // for logs, data and the ledger
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

// run is the state of a Run.
type run struct {
	Config
	ledger *Ledger
}

// injection is an entry of the programme.
type injection struct {
	id, name string
	t0, t1   int // how often
	mark     time.Duration
	inject   func(*run, context.Context, *injection, int) (Row, error)
}

func programme() []injection {
	return []injection{
		{"F1", "kill -9 of workers, at seven places and at random", 30, 500, 45 * time.Second, (*run).killWorkers},
		{"F2", "KILL, ABRT, SEGV and STOP of the engine, mid-chunk", 40, 500, 60 * time.Second, (*run).killEngines},
		{"F3", "kill -9 of the whole node, at ten places and at random", 20, 200, 45 * time.Second, (*run).killNodes},
		{"F5", "SIGTERM at no, half and full load; a second one", 9, 50, 60 * time.Second, (*run).drain},
		{"F6", "NATS killed, stopped, cut off and slow", 6, 100, 130 * time.Second, (*run).disturbNATS},
		{"F12", "jobs that abort, end, hang and babble, among good ones", 10, 100, 0, (*run).poison},
		{"F13", "ten creates at once with the same key", 100, 1000, 0, (*run).duplicates},
		{"F16", "decodes that find no memory", 8, 50, 0, (*run).noMemory},
		{"F17", "jobs in a row, for what grows", 500, 10000, 0, (*run).leaks},
	}
}

// IDs lists the rows that there are.
func IDs() []string {
	var ids []string
	for _, f := range programme() {
		ids = append(ids, f.id)
	}
	return ids
}

// Run runs the rows one after the other and writes the report. The error says that a promise was broken, or that the programme
// itself could not go on.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	for _, id := range cfg.Rows {
		if !slices.Contains(IDs(), id) {
			return nil, fmt.Errorf("there is no row %q: choose of %v", id, IDs())
		}
	}
	ledger, err := NewLedger(filepath.Join(cfg.Folder, "ledger.jsonl"))
	if err != nil {
		return nil, err
	}
	r := &run{Config: cfg, ledger: ledger}
	ledger.Write("", "begin", "", fmt.Sprintf("tier %d seed %d", cfg.Tier, cfg.Seed))
	fmt.Fprintf(cfg.Out, "tier T%d, seed %d, ledger %s\n", cfg.Tier, cfg.Seed, filepath.Join(cfg.Folder, "ledger.jsonl"))
	var rows []Row
	broken := 0
	for _, f := range programme() {
		if len(cfg.Rows) > 0 && !slices.Contains(cfg.Rows, f.id) {
			continue
		}
		n := f.t0
		if cfg.Tier == T1 {
			n = f.t1
		}
		began := time.Now()
		row, err := r.row(ctx, &f, n)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", f.id, err)
		}
		row.Took = time.Since(began)
		if late := row.late(); late != "" {
			row.Verdict.Wrong = append(row.Verdict.Wrong, late)
		}
		broken += len(row.Verdict.Wrong)
		rows = append(rows, row)
		fmt.Fprintln(cfg.Out, row)
		for _, w := range row.Verdict.Wrong[:min(10, len(row.Verdict.Wrong))] {
			fmt.Fprintln(cfg.Out, "   BROKEN", w)
		}
	}
	if err := ledger.Close(); err != nil {
		return rows, err
	}
	fmt.Fprint(cfg.Out, "\n", Table(rows))
	if broken > 0 {
		return rows, fmt.Errorf("%d broken promises, see above and the ledger; the same faults again: --seed %d", broken, cfg.Seed)
	}
	return rows, nil
}

// row runs one fault in a folder of its own; a row whose processes did not end with it is broken.
func (r *run) row(ctx context.Context, f *injection, n int) (Row, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before := len(children(os.Getpid()))
	row, err := f.inject(r, ctx, f, n)
	cancel()
	if err != nil {
		return row, err
	}
	for end := time.Now().Add(5 * time.Second); len(children(os.Getpid())) > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			row.Verdict.Wrong = append(row.Verdict.Wrong, fmt.Sprintf("I5: still running: %v", children(os.Getpid())))
			break
		}
	}
	row.ID, row.Fault, row.Mark = f.id, f.name, f.mark
	return row, nil
}

// folder makes a row's folder.
func (r *run) folder(f *injection) (string, error) {
	path := filepath.Join(r.Folder, f.id)
	return path, os.MkdirAll(path, 0o700)
}

// source is a row's own sequence of choices: the same for the same seed, whatever rows run.
func (r *run) source(f *injection) *rand.Rand {
	var h uint64
	for _, c := range f.id {
		h = h*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(r.Seed, h))
}

// node starts a node of its own for a row, with an oracle that has learned its recordings.
func (r *run) node(ctx context.Context, f *injection, script string, seconds ...int) (*Node, *Oracle, error) {
	folder, err := r.folder(f)
	if err != nil {
		return nil, nil, err
	}
	n, err := newNode(r.Programs, folder, filepath.Join(folder, "data"), script)
	if err != nil {
		return nil, nil, err
	}
	if err := n.Start(ctx, ""); err != nil {
		return nil, nil, err
	}
	o := newOracle(f.id, n.client, r.ledger, r.Seed)
	return n, o, o.Learn(ctx, sounds(r.Seed, seconds)...)
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
