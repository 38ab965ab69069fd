package fault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// powerCuts cuts the power of the disk under a node (F4): what was answered with 201 must be there when the node starts again.
func (r *run) powerCuts(ctx context.Context, f *injection, n int) (Row, error) {
	d, err := newDisk(ctx, r.site.folder, 4<<30)
	if err != nil {
		return Row{}, err
	}
	cleanup := context.WithoutCancel(ctx)
	var node *Node
	defer func() {
		if node != nil && node.run != nil {
			node.Kill()
		}
		_ = d.detach(cleanup) // it is detached where the last step was a cut
	}()
	node, o, err := r.node(ctx, f, "1ms", []int{2, 5, 40}, func(n *Node) {
		n.data = filepath.Join(d.mount, "data")
		node = n
	})
	if err != nil {
		return Row{}, err
	}
	o.killed = true
	choices := r.source(f)
	stop := o.Load(ctx, 6)
	for range n {
		time.Sleep(time.Duration(choices.IntN(3000)) * time.Millisecond)
		// Nobody answers any more: ext4 may confirm a write that waits while its power is cut.
		node.run.signal(syscall.SIGSTOP)
		if err := d.cut(); err != nil {
			return Row{}, err
		}
		o.Fault("power cut")
		if orphans := node.Kill(); len(orphans) > 0 {
			o.Wrong("I5", "left of a killed node: %v", orphans)
		}
		if err := d.detach(ctx); err != nil {
			return Row{}, err
		}
		if err := d.attach(ctx); err != nil {
			return Row{}, err
		}
		if err := node.Start(ctx, ""); err != nil {
			return Row{}, err
		}
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, node, ended)
	v.Wrong = o.broken()
	return Row{Injected: n, Verdict: v, Notes: []string{
		"ext4 as it comes, its journal's last entries lost", fmt.Sprintf("%d further attempts, %d given up", v.Attempts, v.GivenUp),
	}}, err
}

// fullDisks fills the disk of a node that works, and frees it (F7): by turns to the last byte, and to less than it wants to have
// left. What is created meanwhile is answered with 429, 503 or 507, and a minute after there is room again all is as before,
// without a restart.
func (r *run) fullDisks(ctx context.Context, f *injection, n int) (Row, error) {
	const size, reserve = 256 << 20, 48 << 20
	node, o, err := r.node(ctx, f, "1ms", []int{2, 5, 40}, small(size), func(n *Node) {
		n.env = []string{"STENO_DISK_RESERVE=48MiB"}
	})
	if err != nil {
		return Row{}, err
	}
	pid := node.run.pid()
	stop := o.Load(ctx, 4)
	choices, answers := r.source(f), map[int]int{}
	var longest time.Duration
	for i := range n {
		time.Sleep(time.Duration(500+choices.IntN(1000)) * time.Millisecond)
		left, what := int64(0), "disk full"
		if i%2 == 1 {
			left, what = reserve/2, "disk low"
		}
		free, err := node.fill(left)
		if err != nil {
			return Row{}, err
		}
		o.Fault(what)
		for range 4 {
			time.Sleep(time.Second)
			status, _, err := o.ask(ctx)
			if err != nil {
				return Row{}, err
			}
			answers[status]++
			if status != http.StatusCreated && !slices.Contains(comeAgain, status) {
				o.Wrong("F7", "a create on a full disk is answered with %d", status)
			}
		}
		if err := free(); err != nil {
			return Row{}, err
		}
		o.Over()
		began := time.Now()
		if _, err := o.Submit(ctx, o.any(), "", done); err != nil {
			return Row{}, err
		}
		longest = max(longest, time.Since(began))
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.survived(ctx, o, node, pid)
	if err != nil {
		return Row{}, err
	}
	if longest > time.Minute {
		v.Wrong = append(v.Wrong, fmt.Sprintf("slow: a job was taken %s after there was room again, 60 s are allowed", longest))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{
		fmt.Sprintf("creates meanwhile were answered with %v (status: times)", answers),
		fmt.Sprintf("the next job was taken at most %.1f s after there was room", longest.Seconds()),
	}}, nil
}

// lockedDatabases has another process hold the database, and then has one statement in a hundred fail (F8).
func (r *run) lockedDatabases(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "1ms", []int{2, 5, 40})
	if err != nil {
		return Row{}, err
	}
	stop := o.Load(ctx, 4)
	choices, answers := r.source(f), map[string]int{}
	for i := range n {
		pause := []time.Duration{time.Second, 6 * time.Second, time.Second}[i%3]
		if i%10 == 9 {
			pause = 30 * time.Second
		}
		time.Sleep(time.Duration(200+choices.IntN(600)) * time.Millisecond)
		release, err := lockSQLite(ctx, filepath.Join(node.data, "steno.db"))
		if err != nil {
			return Row{}, err
		}
		o.Fault(fmt.Sprintf("database held for %s", pause))
		for end := time.Now().Add(pause); time.Now().Before(end); {
			began := time.Now()
			status, _, err := o.ask(ctx)
			if err != nil {
				_ = release()
				return Row{}, err
			}
			answers[fmt.Sprint(status)]++
			if status != http.StatusCreated && !slices.Contains(comeAgain, status) {
				o.Wrong("F8", "a create while the database is held for %s is answered with %d after %s", pause, status, time.Since(began))
			}
		}
		if err := release(); err != nil {
			return Row{}, err
		}
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	if err := o.Settle(ctx, ended); err != nil {
		return Row{}, err
	}
	errs, err := r.storeErrors(ctx, node, o, max(50, 10*n))
	if err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, node, ended)
	return Row{Injected: n + errs, Verdict: v, Notes: []string{
		fmt.Sprintf("%d times held for 1, 6 or 30 s: creates meanwhile were answered with %v (status: times)", n, answers),
		fmt.Sprintf("%d statements failed, one in a hundred", errs),
	}}, err
}

// storeErrors has a node work whose database fails one statement in a hundred, and returns how many failed.
func (r *run) storeErrors(ctx context.Context, node *Node, o *Oracle, jobs int) (int, error) {
	if err := node.Restart(ctx, o, []string{fmt.Sprintf("STENO_STORE_ERRORS=100@%d", r.Seed)}); err != nil {
		return 0, err
	}
	o.client.again = append(slices.Clone(comeAgain), http.StatusInternalServerError)
	o.Fault("statements fail")
	for range jobs {
		if _, err := o.Submit(ctx, o.any(), "", done); err != nil {
			return 0, err
		}
	}
	if err := o.Settle(ctx, ended); err != nil {
		return 0, err
	}
	o.client.again = comeAgain
	failed := node.run.log.count("failpoint: statement fails")
	if failed == 0 {
		return 0, errors.New("no statement failed")
	}
	return failed, node.Restart(ctx, o, nil)
}

// lockSQLite holds an SQLite database, as another program may, until release is called.
func lockSQLite(ctx context.Context, path string) (release func() error, err error) {
	cmd := exec.CommandContext(ctx, "sqlite3", "-bail", "-cmd", ".timeout 20000", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(in, "BEGIN EXCLUSIVE;\nSELECT 'held';\n"); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "held\n" {
		return nil, errors.Join(fmt.Errorf("hold the database: %q, %w", line, err), cmd.Wait())
	}
	return func() error {
		if _, err := io.WriteString(in, "COMMIT;\n"); err != nil {
			return err
		}
		return errors.Join(in.Close(), cmd.Wait())
	}, nil
}
