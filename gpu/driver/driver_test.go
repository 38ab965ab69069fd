//go:build cgo && linux

package driver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/gpus"
	mock "github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"steno/gpu"
	"steno/internal/fakegpu"
)

const gib = fakegpu.GiB

// server is a machine with eight A100 of 40 GB.
func server(t *testing.T) *mock.Server {
	t.Helper()
	s, err := fakegpu.New(8)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cards(t *testing.T, s nvml.Interface) []gpu.Card {
	t.Helper()
	d, err := OpenWith(s)
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.Cards()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	return all
}

func TestEightGPUs(t *testing.T) {
	t.Parallel()
	s := server(t)
	all := cards(t, s)
	if len(all) != 8 {
		t.Fatalf("%d cards, want 8", len(all))
	}
	for i, c := range all {
		uuid, _ := s.Devices[i].GetUUID()
		want := gpu.Device{
			ID: fmt.Sprintf("cuda:%d", i), Name: "Mock NVIDIA A100-SXM4-40GB", Kind: gpu.CUDA, UUID: uuid,
			Total: 40 * gib, Free: 37 * gib,
		}
		if got := c.Device(); got != want {
			t.Errorf("device %d is %+v, want %+v", i, got, want)
		}
		if *c.Utilization != float64(i)/10 || *c.MemoryUtilization != float64(5*i)/100 || *c.Temperature != float64(40+i) ||
			*c.Power != 61.5 || *c.PowerLimit != 400 {
			t.Errorf("card %d: %v, %v, %v °C, %v of %v W", i, *c.Utilization, *c.MemoryUtilization, *c.Temperature, *c.Power, *c.PowerLimit)
		}
		if p := c.Processes; len(p) != 2 || p[0] != (gpu.CardProcess{PID: 100 + i, Used: 3 * gib}) || p[1] != (gpu.CardProcess{PID: 7}) {
			t.Errorf("card %d has the processes %+v", i, c.Processes)
		}
	}
}

// TestMIG cuts the second GPU into two instances, and turns MIG on for the third without any.
func TestMIG(t *testing.T) {
	t.Parallel()
	s := server(t)
	second, third := s.Devices[1].(*mock.Device), s.Devices[2].(*mock.Device)
	second.MigMode, third.MigMode = nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE
	second.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 0 && i != 3 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		mig := mock.NewDeviceFromConfig(gpus.A100_SXM4_40GB, i)
		mig.UUID = fmt.Sprintf("MIG-%d", i)
		mig.Config.Name = "A100 MIG 3g.20gb"
		mig.MemoryInfo = nvml.Memory{Total: 20 * gib, Free: 19 * gib}
		mig.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.ERROR_NO_PERMISSION }
		return mig, nvml.SUCCESS
	}
	third.GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_NOT_FOUND }
	all := cards(t, s)
	var ids []string
	for _, c := range all {
		ids = append(ids, c.ID())
	}
	if got := strings.Join(ids, " "); got != "cuda:0 cuda:1.0 cuda:1.3 cuda:2 cuda:3 cuda:4 cuda:5 cuda:6 cuda:7" {
		t.Fatalf("cards %s", got)
	}
	want := gpu.Device{ID: "cuda:1.3", Name: "A100 MIG 3g.20gb", Kind: gpu.CUDA, UUID: "MIG-3", Total: 20 * gib, Free: 19 * gib}
	if got := all[2].Device(); got != want {
		t.Errorf("instance %+v, want %+v", got, want)
	}
	if c := all[2]; *c.Temperature != 41 || c.Utilization != nil {
		t.Errorf("instance at %v °C with utilisation %v, want its GPU's temperature alone", *c.Temperature, c.Utilization)
	}
	if !strings.Contains(all[3].Problem, "no instance") {
		t.Errorf("a GPU with MIG and no instance has the problem %q", all[3].Problem)
	}
}

// TestLostGPUs: one cannot be opened, one falls off the bus while it is read; the other six are as they were.
func TestLostGPUs(t *testing.T) {
	t.Parallel()
	s := server(t)
	byIndex := s.DeviceGetHandleByIndexFunc
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 3 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return byIndex(i)
	}
	fakegpu.Lose(s, 5)
	for i, c := range cards(t, s) {
		broken := i == 3 || i == 5
		if strings.Contains(c.Problem, "lost") != broken {
			t.Errorf("card %d has the problem %q", i, c.Problem)
		}
		if broken && (c.Total != 0 || c.Free != 0 || c.Temperature != nil) {
			t.Errorf("card %d is lost and has %+v", i, c)
		}
	}
}

func TestNoDriver(t *testing.T) {
	t.Parallel()
	for _, ret := range []nvml.Return{nvml.ERROR_LIBRARY_NOT_FOUND, nvml.ERROR_DRIVER_NOT_LOADED} {
		s := server(t)
		s.InitFunc = func() nvml.Return { return ret }
		if all := cards(t, s); len(all) != 0 {
			t.Errorf("%d cards without a driver", len(all))
		}
	}
}

// TestBrokenDriver: what is wrong is said in words.
func TestBrokenDriver(t *testing.T) {
	t.Parallel()
	s := server(t)
	s.InitFunc = func() nvml.Return { return nvml.ERROR_LIB_RM_VERSION_MISMATCH }
	if _, err := OpenWith(s); err == nil || !strings.Contains(err.Error(), "restart the machine") {
		t.Errorf("a library that does not fit the driver gives %v", err)
	}
	s = server(t)
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	d, err := OpenWith(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cards(); err == nil || !strings.Contains(err.Error(), "count the GPUs") {
		t.Errorf("a driver that cannot count gives %v", err)
	}
}

// TestThisMachine reads the driver of the machine, where there is one, and none where there is none.
func TestThisMachine(t *testing.T) {
	t.Parallel()
	for _, c := range cards(t, nvml.New()) {
		if c.UUID == "" && c.Problem == "" {
			t.Errorf("card without a name: %+v", c)
		}
	}
}
