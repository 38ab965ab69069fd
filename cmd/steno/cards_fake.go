//go:build failpoints

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/spf13/cobra"

	"steno/gpu"
	"steno/gpu/driver"
	"steno/internal/failpoint"
	"steno/internal/fakegpu"
)

// cardsCommand heeds STENO_CARDS, "8:/some/file": so many GPUs of internal/fakegpu, which obey the file.
func (a *app) cardsCommand() ([]string, bool) {
	for _, kv := range a.env {
		if fake, ok := strings.CutPrefix(kv, failpoint.Cards+"="); ok {
			return append(cardsChild[:len(cardsChild):len(cardsChild)], "--fake", fake), true
		}
	}
	return cardsChild, gpu.Host{}.MayHaveCards()
}

// gpusWork is true of the GPUs that are not there, for the script runs on them.
func (a *app) gpusWork() bool {
	command, _ := a.cardsCommand()
	return len(command) > len(cardsChild) || a.cudaLibrary() != ""
}

// fakeCards are GPUs that the machine has not.
type fakeCards struct {
	*driver.Driver
	server *server.Server
	file   string
}

// fakeFlag lets the child ask GPUs that are not there.
func fakeFlag(cmd *cobra.Command, open *func() (cards, error)) {
	fake := cmd.Flags().String("fake", "", "GPUs of a fault test, as in STENO_CARDS")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		if cmd.Flags().Changed("fake") {
			*open = func() (cards, error) { return openFake(*fake) }
		}
	}
}

func openFake(fake string) (cards, error) {
	count, file, _ := strings.Cut(fake, ":")
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", failpoint.Cards, err)
	}
	s, err := fakegpu.New(n)
	if err != nil {
		return nil, err
	}
	d, err := driver.OpenWith(s)
	return fakeCards{d, s, file}, err
}

func (f fakeCards) Cards() ([]gpu.Card, error) {
	if err := fakegpu.Obey(f.server, f.file); err != nil {
		return nil, err
	}
	return f.Driver.Cards()
}
