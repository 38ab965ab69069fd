package main

import (
	"context"
	"encoding/json"
	"slices"

	"steno/api"
	"steno/gpu"
	"steno/job"
	"steno/models"
	"steno/queue"
)

// deadLetters are a queue's as package api wants them.
type deadLetters struct{ q *queue.Queue }

var _ api.DeadLetters = deadLetters{}

// Page implements api.DeadLetters.
func (d deadLetters) Page(ctx context.Context, before uint64, limit int) ([]api.DeadLetter, uint64, error) {
	list, next, err := d.q.DeadPage(ctx, before, limit)
	page := make([]api.DeadLetter, len(list))
	for i, l := range list {
		page[i] = apiLetter(l)
	}
	return page, next, err
}

// Get implements api.DeadLetters.
func (d deadLetters) Get(ctx context.Context, id string) (api.DeadLetter, error) {
	l, err := d.q.DeadLetter(ctx, id)
	return apiLetter(l), err
}

// Retry implements api.DeadLetters.
func (d deadLetters) Retry(ctx context.Context, id string) error {
	return d.q.RetryDead(ctx, job.ID(id))
}

func apiLetter(l queue.DeadLetter) api.DeadLetter {
	letter := api.DeadLetter{ID: l.ID, Job: l.Job, Error: l.Error, Stage: l.Stage, Retries: l.Retries, Failed: l.Failed}
	for _, a := range l.History {
		letter.Attempts = append(letter.Attempts, api.Attempt{
			Number: a.Number, Worker: a.Worker, Started: a.Started, Ended: a.Ended, Outcome: string(a.Outcome), Stage: a.Stage,
			Error: a.Error,
		})
	}
	return letter
}

// workers are a queue's workers as package api wants them.
type workers struct{ q *queue.Queue }

var _ api.Fleet = workers{}

// Nodes implements api.Fleet. One that tells of itself what cannot be read is listed with what the queue knows of it.
func (w workers) Nodes(ctx context.Context) ([]api.Node, error) {
	list, err := w.q.Nodes(ctx)
	nodes := make([]api.Node, len(list))
	for i, n := range list {
		nodes[i] = apiNode(n)
	}
	return nodes, err
}

// Drain implements api.Fleet.
func (w workers) Drain(ctx context.Context, node string) error { return w.q.Drain(ctx, node) }

// Order implements api.Fleet.
func (w workers) Order(ctx context.Context, node string, o api.ModelOrder) error {
	return w.q.Order(ctx, node, queue.Order{Do: o.Do, Model: o.Model, Device: o.Device, Words: o.Words})
}

func depth(q *queue.Queue) func(context.Context) (api.Depth, error) {
	return func(ctx context.Context) (api.Depth, error) {
		d, err := q.Depth(ctx)
		return api.Depth{Pending: d.Pending, InFlight: d.InFlight, Dead: d.Dead, OldestAge: d.OldestAge}, err
	}
}

func apiNode(n queue.Node) api.Node {
	var d about
	_ = json.Unmarshal(n.About, &d) // of another version: the rest is of use all the same
	node := api.Node{
		ID: n.ID, Host: n.Host, Worker: n.Worker, Version: d.Version, State: n.State, Started: n.Started, Seen: n.Seen,
		Pools: append([]string{}, n.Pools...), Slots: n.Slots, Running: n.Running, Helping: n.Helping, Waiting: d.Waiting,
		RSS: d.Memory.RSS, Devices: []api.NodeDevice{}, Models: []api.NodeModel{}, Files: append([]string{}, d.Files...),
		Quarantined: d.Quarantined, Troubles: []api.NodeTrouble{},
	}
	for _, dev := range d.Devices {
		node.Devices = append(node.Devices, apiDevice(dev, d.Cards))
	}
	for _, m := range d.Models {
		model := api.NodeModel{
			Model: m.Model, Device: m.LoadedOn, Asked: m.Device, Words: m.Words, State: m.State, Refs: m.Refs, Bytes: m.Bytes, RSS: m.RSS,
			Pinned: m.Pinned, Loads: m.Loads, Fallback: m.Fallback,
		}
		if !m.LastUsed.IsZero() {
			model.LastUsed = &m.LastUsed
		}
		node.Models = append(node.Models, model)
	}
	for _, t := range d.Troubles {
		node.Troubles = append(node.Troubles, api.NodeTrouble{
			Do: t.Do, Model: t.Model, Device: t.Device, Class: t.Class, Code: t.Code, Message: t.Text, At: t.At,
		})
	}
	return node
}

// apiDevice adds to a device what its card tells.
func apiDevice(dev models.DeviceReport, cards []gpu.Card) api.NodeDevice {
	d := api.NodeDevice{
		ID: dev.ID, Name: dev.Name, Kind: dev.Kind, Total: dev.Total, Free: dev.Free, Models: dev.ModelBytes, Budget: dev.BudgetBytes,
		Slots: dev.Slots, SlotsInUse: dev.SlotsInUse, SlotsWaiting: dev.SlotsWaiting, Problem: dev.Problem,
	}
	if i := slices.IndexFunc(cards, func(c gpu.Card) bool { return c.UUID == dev.UUID && c.UUID != "" }); i >= 0 {
		d.Utilization, d.Temperature, d.Power = cards[i].Utilization, cards[i].Temperature, cards[i].Power
	}
	return d
}
