//go:build !failpoints

package main

import (
	"github.com/spf13/cobra"

	"steno/models"
	"steno/models/engine"
)

// There is no scripted engine in this program: script_on.go has it.

func scriptFlag(*cobra.Command, *engine.LoadFunc) {}

func (a *app) script(*engine.Config, *models.PoolConfig) error { return nil }
