package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"steno/gpu"
	"steno/models"
	"steno/queue"
)

func (a *app) nodeCmd() *cobra.Command {
	cmd := a.workerCmd()
	cmd.Use, cmd.Short = "node", "Run a worker as the daemon of a GPU node"
	cmd.Long = "Run a worker as the daemon of a GPU node: it takes stock of the GPUs, tells of them and of itself with each\n" +
		"heartbeat, and shows them in its metrics. Without a GPU or its driver it is a node that works on the CPU. SIGTERM,\n" +
		"Ctrl-C and `steno nodes drain` end it: it takes no more jobs, and those that it does not finish in time go on elsewhere."
	cmd.Example = "  steno node --nats nats://queue.example:4222 --nats-creds node.creds"
	return cmd
}

// about is what a node tells of itself besides what the queue knows.
type about struct {
	Version string                `json:"version"`
	Devices []models.DeviceReport `json:"devices"`
	Models  []models.ModelReport  `json:"models"`
	Cards   []gpu.Card            `json:"cards,omitempty"` // the GPUs, as the driver tells of them
	// Files are the models that the node could load, and Troubles the last orders that went wrong.
	Files    []string  `json:"files,omitempty"`
	Troubles []trouble `json:"troubles,omitempty"`
	// Waiting is the number of requests that wait for a model.
	Waiting     int                  `json:"waiting"`
	Quarantined map[string]time.Time `json:"quarantined,omitempty"`
	Memory      gpu.Process          `json:"memory"`
}

func describe(p *models.Pool, cards *gpu.Monitor) about {
	r := p.Report()
	d := about{
		Version: version, Devices: r.Devices, Models: r.Models, Waiting: r.Waiting, Quarantined: r.Quarantined, Memory: r.Memory,
	}
	if cards != nil {
		d.Cards, _ = cards.Known() // the devices say what is wrong
	}
	return d
}

func (a *app) nodesCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "nodes", Short: "List the workers with their devices and models",
		Long:    "List the workers that live, each with its devices and the models on them. One that died is listed for 30 s.",
		Example: "  steno nodes\n  steno nodes --nats nats://queue.example:4222 --json\n  steno nodes drain gpu-7-4121",
		Args:    args(cobra.NoArgs),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, _ []string) error {
			all, err := q.Nodes(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.std.out).Encode(all)
			}
			return a.printNodes(all)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(&cobra.Command{
		Use: "drain NODE…", Short: "Let nodes end with the jobs that they run, and take no more",
		Example: "  steno nodes drain gpu-7-4121", Args: args(cobra.MinimumNArgs(1)),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, ids []string) error {
			for _, id := range ids {
				if err := q.Drain(ctx, id); err != nil {
					return err
				}
				fmt.Fprintf(a.std.out, "%s drains\n", id)
			}
			return nil
		}),
	})
	return cmd
}

// printNodes writes a table: a line for each device of each node.
func (a *app) printNodes(all []queue.Node) error {
	if len(all) == 0 {
		fmt.Fprintln(a.std.out, "no worker is there: start one with `steno worker` or `steno up`")
		return nil
	}
	w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tJOBS\tUP\tDEVICE\tFREE\tOF\tBUSY\tHEAT\tMODELS")
	for _, n := range all {
		var d about
		if err := json.Unmarshal(n.About, &d); err != nil {
			a.log.Warn("what a node tells of itself cannot be read", "node", n.ID, "error", err)
		}
		up := time.Since(n.Started).Round(time.Second)
		jobs := fmt.Sprintf("%d/%d", n.Running, n.Slots)
		if n.Helping > 0 {
			jobs += fmt.Sprintf(" +%d chunks", n.Helping) // of others' jobs
		}
		first := fmt.Sprintf("%s\t%s\t%s\t%s", n.ID, n.State, jobs, up)
		lines := d.lines()
		if len(lines) == 0 {
			lines = []string{""}
		}
		for _, line := range lines {
			fmt.Fprintf(w, "%s\t%s\n", first, line)
			first = "\t\t\t"
		}
	}
	return w.Flush()
}

// lines are the columns of each device.
func (d about) lines() []string {
	var all []string
	for _, dev := range d.Devices {
		if dev.Problem != "" {
			all = append(all, fmt.Sprintf("%s %s\t\t\t\t\tcannot be used: %s", dev.ID, dev.Name, dev.Problem))
			continue
		}
		busy, heat := fmt.Sprintf("%d/%d", dev.SlotsInUse, dev.Slots), ""
		for _, c := range d.Cards {
			if c.UUID == dev.UUID && c.Temperature != nil {
				heat = fmt.Sprintf("%.0f °C", *c.Temperature)
			}
			if c.UUID == dev.UUID && c.Utilization != nil {
				busy += fmt.Sprintf(" %.0f %%", 100**c.Utilization)
			}
		}
		var here []string
		for _, m := range d.Models {
			if m.LoadedOn == dev.ID {
				here = append(here, m.Model)
			}
		}
		all = append(all, fmt.Sprintf("%s %s\t%s\t%s\t%s\t%s\t%s",
			dev.ID, dev.Name, size(dev.Free), size(dev.Total), busy, heat, strings.Join(here, ", ")))
	}
	return all
}
