package models_test

import (
	"context"
	"fmt"

	"steno/models"
)

// A job that holds nothing gets an extra slot at once, so that it does not wait for a chunk of a long job.
func ExampleGate() {
	gate := models.NewGate(1, 1)
	ctx := context.Background()
	long, alone, _ := gate.Acquire(ctx, "long job")
	fmt.Println("long job runs, alone:", alone)
	short, alone, _ := gate.Acquire(ctx, "short job")
	fmt.Println("short job runs, alone:", alone)
	inUse, _ := gate.Stats()
	fmt.Println("slots in use:", inUse)
	short()
	long()
	// Output:
	// long job runs, alone: true
	// short job runs, alone: false
	// slots in use: 2
}
