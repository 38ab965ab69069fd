//go:build cgo && linux

// Package fakegpu is a machine with GPUs that it has not: NVIDIA's own stand-in for its management library, completed by what
// that leaves out. Tests use it, and steno where it is built with -tags failpoints.
package fakegpu

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/gpus"
	mock "github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// GiB is 1024³ bytes.
const GiB = 1 << 30

// New makes a machine with n A100 of 40 GB, each a little different from the one before: 40 °C and a degree more for each, a
// tenth more of utilisation, and a process that holds 3 GiB.
func New(n int) (*mock.Server, error) {
	s, err := mock.New(mock.WithGPUs(gpus.Multiple(n, gpus.A100_SXM4_40GB)...), mock.WithDriverVersion("550.54.15"))
	if err != nil {
		return nil, fmt.Errorf("make GPUs: %w", err)
	}
	for i, dev := range s.Devices {
		complete(dev.(*mock.Device), i)
	}
	return s, nil
}

func complete(d *mock.Device, i int) {
	d.UUID = fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", i) // the same in each process
	d.MemoryInfo = nvml.Memory{Total: 40 * GiB, Free: 37 * GiB, Used: 3 * GiB}
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return uint32(40 + i), nvml.SUCCESS }
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 61500, nvml.SUCCESS }
	d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 400000, nvml.SUCCESS }
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{Gpu: uint32(10 * i), Memory: uint32(5 * i)}, nvml.SUCCESS
	}
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: uint32(100 + i), UsedGpuMemory: 3 * GiB}, {Pid: 7, UsedGpuMemory: 1<<64 - 1}}, nvml.SUCCESS
	}
	d.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
}

// Lose lets a GPU fall off the bus.
func Lose(s *mock.Server, index int) {
	d := s.Devices[index].(*mock.Device)
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, nvml.ERROR_GPU_IS_LOST }
}

// Obey changes the machine as a file says that somebody else writes: a line "lose 3" lets GPU 3 fall off the bus, "free 3 8"
// leaves 8 GiB of its memory free, "hang" stops the driver. An absent file changes nothing.
func Obey(s *mock.Server, file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var n [2]int
		for i, word := range strings.Fields(rest) {
			if n[min(i, 1)], err = strconv.Atoi(word); err != nil || n[0] >= len(s.Devices) {
				return fmt.Errorf("%s: %q is no order", file, line)
			}
		}
		switch verb {
		case "lose":
			Lose(s, n[0])
		case "free":
			s.Devices[n[0]].(*mock.Device).MemoryInfo = nvml.Memory{Total: 40 * GiB, Free: uint64(n[1]) * GiB}
		case "hang":
			time.Sleep(time.Hour)
		}
	}
	return nil
}
