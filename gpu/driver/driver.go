//go:build cgo && linux

// Package driver reads NVIDIA's management library (NVML), which comes with the driver. The library's calls may hang or end the
// process where a GPU has fallen off the bus, so call it in a process of its own: gpu.Monitor starts one.
package driver

import (
	"fmt"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"steno/gpu"
)

// Driver is an open NVML. It is not safe for concurrent use.
type Driver struct{ lib nvml.Interface }

// Open opens the library. Without a driver it returns nil and no error, for a machine without a GPU is none.
func Open() (*Driver, error) { return OpenWith(nvml.New()) }

// OpenWith is Open for a library that stands in for NVIDIA's.
func OpenWith(lib nvml.Interface) (*Driver, error) {
	// Without the library any other call ends the process: its symbols are bound when they are first called.
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
		return &Driver{lib}, nil
	case nvml.ERROR_LIBRARY_NOT_FOUND, nvml.ERROR_DRIVER_NOT_LOADED:
		return nil, nil //nolint:nilnil // as the comment says
	default:
		return nil, fmt.Errorf("open NVIDIA's management library: %s", text(ret))
	}
}

// Close closes the library.
func (d *Driver) Close() error {
	if d == nil {
		return nil
	}
	if ret := d.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("close NVIDIA's management library: %s", text(ret))
	}
	return nil
}

// Cards reads all GPUs, in the driver's order; where one is cut into MIG instances they stand in its place. One that cannot be
// read has a Problem. The error is of the driver as a whole: open it anew then. A nil Driver has no cards.
func (d *Driver) Cards() ([]gpu.Card, error) {
	if d == nil {
		return nil, nil
	}
	n, ret := d.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("count the GPUs: %s", text(ret))
	}
	var all []gpu.Card
	for i := range n {
		dev, ret := d.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			all = append(all, gpu.Card{Index: i, Problem: text(ret)})
			continue
		}
		all = append(all, cardsOf(dev, i)...)
	}
	return all, nil
}

// cardsOf reads a GPU: itself, or the instances that it is cut into.
func cardsOf(dev nvml.Device, index int) []gpu.Card {
	c := gpu.Card{Index: index}
	read(&c, dev)
	if v, ret := dev.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		c.Temperature = ptr(float64(v))
	}
	if mW, ret := dev.GetPowerUsage(); ret == nvml.SUCCESS {
		c.Power = ptr(float64(mW) / 1000)
	}
	if mW, ret := dev.GetEnforcedPowerLimit(); ret == nvml.SUCCESS {
		c.PowerLimit = ptr(float64(mW) / 1000)
	}
	mode, _, ret := dev.GetMigMode()
	if ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE || c.Problem != "" {
		if u, ret := dev.GetUtilizationRates(); ret == nvml.SUCCESS {
			c.Utilization, c.MemoryUtilization = ptr(float64(u.Gpu)/100), ptr(float64(u.Memory)/100)
		}
		return []gpu.Card{c}
	}
	places, ret := dev.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		c.Problem = "its MIG instances cannot be counted: " + text(ret)
		return []gpu.Card{c}
	}
	var instances []gpu.Card
	for i := range places {
		mig, ret := dev.GetMigDeviceHandleByIndex(i)
		if ret == nvml.ERROR_NOT_FOUND {
			continue
		}
		in := gpu.Card{Index: index, Instance: ptr(i), Temperature: c.Temperature, Power: c.Power, PowerLimit: c.PowerLimit}
		if ret == nvml.SUCCESS {
			read(&in, mig)
		} else {
			in.Problem = text(ret)
		}
		instances = append(instances, in)
	}
	if len(instances) == 0 {
		c.Problem = "MIG is on and the GPU has no instance: make some with `nvidia-smi mig -cgi`, or turn MIG off"
		return []gpu.Card{c}
	}
	return instances
}

// read reads what both a GPU and an instance have.
func read(c *gpu.Card, dev nvml.Device) {
	problem := func(ret nvml.Return) {
		if ret != nvml.SUCCESS && c.Problem == "" {
			c.Problem = text(ret)
		}
	}
	var ret nvml.Return
	c.UUID, ret = dev.GetUUID()
	problem(ret)
	c.Name, ret = dev.GetName()
	problem(ret)
	m, ret := dev.GetMemoryInfo()
	problem(ret)
	if ret == nvml.SUCCESS {
		c.Total, c.Free = bytes(m.Total), bytes(m.Free)
	}
	running, ret := dev.GetComputeRunningProcesses()
	if ret != nvml.SUCCESS { // no rights to see them, or not supported: the card works all the same
		return
	}
	for _, p := range running {
		c.Processes = append(c.Processes, gpu.CardProcess{PID: int(p.Pid), Used: bytes(p.UsedGpuMemory)})
	}
}

// bytes is a size as NVML gives it, whose largest value means that it is not known.
func bytes(n uint64) int64 {
	if n > math.MaxInt64 {
		return 0
	}
	return int64(n)
}

func ptr[T any](v T) *T { return &v }

// text is what a return code means; the library's own text needs the library.
func text(ret nvml.Return) string {
	if s, ok := meanings[ret]; ok {
		return s
	}
	return fmt.Sprintf("NVML error %d", ret)
}

var meanings = map[nvml.Return]string{
	nvml.ERROR_GPU_IS_LOST:             "the GPU is lost: it has fallen off the bus or cannot be reached; see dmesg for Xid errors",
	nvml.ERROR_RESET_REQUIRED:          "the GPU must be reset before it can be used",
	nvml.ERROR_NO_PERMISSION:           "no permission: give this user access to /dev/nvidia*",
	nvml.ERROR_LIB_RM_VERSION_MISMATCH: "the driver's library and its kernel module have different versions: restart the machine",
	nvml.ERROR_INSUFFICIENT_POWER:      "a power cable of the GPU is not attached",
	nvml.ERROR_IRQ_ISSUE:               "the kernel found an interrupt issue with the GPU",
	nvml.ERROR_UNKNOWN:                 "unknown error of the driver",
	nvml.ERROR_TIMEOUT:                 "the driver did not answer in time",
	nvml.ERROR_OPERATING_SYSTEM:        "the operating system blocks the GPU",
	nvml.ERROR_IN_USE:                  "the GPU is in use exclusively",
	nvml.ERROR_GPU_NOT_FOUND:           "no GPU was found",
	nvml.ERROR_MEMORY:                  "the driver has no memory left",
	nvml.ERROR_UNINITIALIZED:           "the management library was not opened",
	nvml.ERROR_NOT_SUPPORTED:           "the GPU does not support this",
	nvml.ERROR_CORRUPTED_INFOROM:       "the GPU's info ROM is corrupted",
}
