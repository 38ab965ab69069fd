package models_test

import (
	"context"
	"fmt"
	"time"

	"steno/models"
	"steno/transcript"
)

// A worker makes one pool, and each job takes a lease for each of its chunks. The loader here stands in for models/engine.
func ExamplePool() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool, err := models.NewPool(models.PoolConfig{
		MaxModels: 2,
		MaxBytes:  1 << 30, // RAM for models; the default is 60 % of what is free
		Slots:     4,       // decodes at a time; the default is one per core
	}, loader{}, nil) // models.NewMetrics(registry) to see it in Prometheus
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx = models.WithFlow(ctx, "job 1")
	for range 2 {
		lease, err := pool.Acquire(ctx, models.Spec{Model: "base"})
		if err != nil {
			fmt.Println(err) // a *job.Error says what to do about it
			return
		}
		result, err := lease.Transcribe(ctx, "job 1", models.Request{PCM: make([]int16, 16000), Language: "en"}, nil)
		if err != nil {
			fmt.Println(err) // errors.Is(err, models.ErrEngineDied): acquire a fresh lease and try again
		}
		fmt.Printf("%s, cold %t: %s\n", lease.Info().Model, lease.Cold(), result.Segments[0].Text)
		lease.Release()
	}
	_, err = pool.Acquire(ctx, models.Spec{Model: "large-v3"})
	fmt.Println(err)
	fmt.Println("closed:", pool.Close(ctx))
	// Output:
	// base, cold true: hello
	// base, cold false: hello
	// acquire model large-v3 on cpu: model large-v3 needs 4000 MiB, but models may take only 1024 MiB on cpu; choose a smaller or quantised model, or raise the memory budget
	// closed: <nil>
}

type loader struct{}

func (loader) Estimate(s models.Spec) (int64, error) {
	if s.Model == "large-v3" {
		return 4000 << 20, nil
	}
	return 300 << 20, nil
}

func (loader) Load(_ context.Context, s models.Spec) (models.Engine, error) {
	return &engine{info: models.Info{Model: s.Model, Device: s.Device, States: 5, Bytes: 290 << 20}, done: make(chan struct{})}, nil
}

type engine struct {
	info models.Info
	done chan struct{}
}

func (e *engine) Info() models.Info     { return e.info }
func (e *engine) Done() <-chan struct{} { return e.done }
func (e *engine) Err() error            { return nil }
func (e *engine) Close() error          { close(e.done); return nil }

func (e *engine) Transcribe(context.Context, models.Request, func([]transcript.Segment)) (models.Result, error) {
	return models.Result{Segments: []transcript.Segment{{Text: "hello"}}}, nil
}
