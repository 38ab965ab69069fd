//go:build !failpoints

package main

import (
	"github.com/spf13/cobra"

	"steno/gpu"
	"steno/models"
	"steno/models/engine"
)

// There is no scripted engine in this program: script_on.go has it.

func scriptFlag(*cobra.Command, *engine.LoadFunc) {}

func (a *app) script(*engine.Config, *models.PoolConfig) error { return nil }

// Nor are there GPUs that the machine has not.

func (a *app) cardsCommand() ([]string, bool) { return cardsChild, gpu.Host{}.MayHaveCards() }

func (a *app) gpusWork() bool { return a.cudaLibrary() != "" }

func fakeFlag(*cobra.Command, *func() (cards, error)) {}
