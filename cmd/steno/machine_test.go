//go:build cgo

package main

import (
	"testing"

	"steno/internal/testmedia"
	"steno/job"
	"steno/pipeline"
)

// TestTwoRealModelsInABudgetForOne switches between two models that do not fit together: each request loads its own, after
// the other's engine has ended.
func TestTwoRealModelsInABudgetForOne(t *testing.T) {
	testmedia.Model(t, "tiny.en-q8_0")
	m := testMachine(t, map[string]string{"states": "1", "pool-models": "1"})
	for i, model := range []string{"base", "tiny.en", "base"} {
		tr, err := m.runner.Run(t.Context(), pipeline.Input{
			Path: testmedia.Sample(t, "jfk.wav"), Job: job.Job{ID: job.NewID(), FileName: "jfk.wav", Params: job.Params{Model: model, Language: "en"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if tr.Text == "" || !tr.ColdStart || tr.Model != model+"-q8_0" {
			t.Errorf("run %d: model %s, cold %v, text %q: want a cold start of %s", i, tr.Model, tr.ColdStart, tr.Text, model)
		}
		if model == "base" && tr.Text != testmedia.JFK {
			t.Errorf("text %q, want %q", tr.Text, testmedia.JFK)
		}
		if r := m.pool.Report(); len(r.Models) != 1 {
			t.Errorf("run %d: %d models in memory, want 1", i, len(r.Models))
		}
	}
}
