package models

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"steno/gpu"
)

// Spec names a loaded model; equal specs share one. Word timestamps need a variant of their own, for they exclude flash
// attention.
type Spec struct {
	// Model is the registry's name, not an alias.
	Model string `json:"model"`
	// Device is a gpu.Device's ID, or Auto. Empty means PoolConfig.ModelDevice, then PoolConfig.Device.
	Device string `json:"device"`
	// Words tells that word timestamps will be asked for.
	Words bool `json:"words,omitempty"`
}

func (s Spec) String() string {
	name := s.Model
	if s.Words {
		name += " with words"
	}
	if s.Device != "" {
		name += " on " + s.Device
	}
	return name
}

// Loader makes engines.
type Loader interface {
	// Load returns a running engine. It must end soon after ctx does. Its error wraps ErrOutOfMemory where the device has too
	// little memory, and is a *job.Error where a user can act on it.
	Load(ctx context.Context, s Spec) (Engine, error)
	// Estimate predicts the bytes of the device's memory that the engine takes, weights and states: rather more than too few. It
	// must be quick; its error is as Load's.
	Estimate(s Spec) (bytes int64, err error)
}

// Inventory tells what there is to run models on; gpu.Host is one.
type Inventory interface {
	Devices() []gpu.Device
	// Process reads the memory of a process, 0 being this one.
	Process(pid int) (gpu.Process, error)
}

// DeviceSlots is the number of decodes that run at the same time on a device other than the CPU, where nothing else is said:
// they take turns anyhow, and the second fills the gaps of the first.
const DeviceSlots = 2

// Limits bounds one device.
type Limits struct {
	// Bytes that models may take.
	Bytes int64
	// Slots is the number of decodes that may run at the same time, extra ones (PoolConfig.Burst) not counted.
	Slots int
}

// PoolConfig says how much a pool may hold and how long things may take. The zero value of a field means its default.
type PoolConfig struct {
	// MaxModels is the number of models in memory, on all devices together. Default 2.
	MaxModels int
	// MaxBytes is the RAM that models on the CPU may take. Default 60 % of what is available at start: the rest is for audio in
	// flight, ffmpeg and the page cache.
	MaxBytes int64
	// Slots is the number of decodes that may run at the same time on the CPU. Default one per core within our quota.
	Slots int
	// SlotsPerCore is how many of the CPU's slots one core serves by turns; a decode with several threads takes as many for each.
	// Default 1.
	SlotsPerCore int
	// Burst is the number of extra slots per device for jobs that hold none (see Gate). Default 1; negative means none.
	Burst int
	// Limits bounds the devices other than the CPU, by ID. Default 80 % of the memory that is free at start, and DeviceSlots.
	Limits map[string]Limits

	// Device is where a model runs for which nobody chose one: a device's ID, or Auto. Default "cpu".
	Device string
	// ModelDevice chooses the device by model, or Auto. Default empty.
	ModelDevice map[string]string
	// FallbackCPU loads a model on the CPU when its device has no memory left even after eviction. It stays there until it is
	// evicted. Default off.
	FallbackCPU bool

	// IdleTimeout is how long a model that nobody uses stays. Default 10 minutes; negative means for ever.
	IdleTimeout time.Duration
	// Patience is how long a request for a model that finds no room lets newcomers use the models that are in its way. It runs
	// anew after each load, so that every model gets to work for that long. After it, only jobs that hold a lease on such a
	// model get more of it. A smaller value makes waits shorter and reloads more frequent. Default 5 seconds; negative means none.
	Patience time.Duration
	// AcquireTimeout bounds the wait for a lease, load included. Default 10 minutes.
	AcquireTimeout time.Duration
	// LoadTimeout bounds one load. Default 5 minutes, or AcquireTimeout where that is less.
	LoadTimeout time.Duration
	// StallTimeout is after how long Health reports a request that waits while nothing moves. It is more than a job takes to
	// measure its audio while it holds a model: 24 hours of audio take 80 s on two idle cores. Default 5 minutes, or half of
	// AcquireTimeout where that is less.
	StallTimeout time.Duration
	// AnswerTimeout is how long the pool may take to answer Health. Default 1 second, where its own answer takes microseconds.
	AnswerTimeout time.Duration
	// ReturnTimeout is how long a load waits for the memory of a GPU that those who ended still seem to have. Default 10 seconds.
	ReturnTimeout time.Duration
	// CloseTimeout is after how long Health reports a close that does not end, and how long Close waits for those that it has to
	// force. Default 10 seconds.
	CloseTimeout time.Duration

	// A model whose engine dies BreakerDeaths times within BreakerWindow on a device is not loaded there for Quarantine. Default
	// 5 times, 1 minute, 1 minute.
	BreakerDeaths int
	BreakerWindow time.Duration
	Quarantine    time.Duration

	// Inventory tells the devices; they are read once, by NewPool. Default this machine.
	Inventory Inventory
	// Log takes loads, evictions and deaths. Default none.
	Log *slog.Logger
}

// WithDefaults returns c with every field that has a constant default set to it. Those that depend on the machine are set by
// NewPool.
func (c PoolConfig) WithDefaults() PoolConfig {
	set(&c.MaxModels, 2)
	set(&c.SlotsPerCore, 1)
	set(&c.Burst, 1)
	set(&c.Device, gpu.CPUID)
	set(&c.IdleTimeout, 10*time.Minute)
	set(&c.Patience, 5*time.Second)
	set(&c.AcquireTimeout, 10*time.Minute)
	set(&c.LoadTimeout, min(5*time.Minute, c.AcquireTimeout))
	set(&c.StallTimeout, min(5*time.Minute, c.AcquireTimeout/2))
	set(&c.AnswerTimeout, time.Second)
	set(&c.ReturnTimeout, 10*time.Second)
	set(&c.CloseTimeout, 10*time.Second)
	set(&c.BreakerDeaths, 5)
	set(&c.BreakerWindow, time.Minute)
	set(&c.Quarantine, time.Minute)
	if c.Inventory == nil {
		c.Inventory = gpu.Host{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate says what is wrong with a configuration that went through WithDefaults.
func (c PoolConfig) Validate() error {
	switch {
	case c.MaxModels < 1:
		return fmt.Errorf("model pool: MaxModels is %d; at least 1 is needed", c.MaxModels)
	case c.MaxBytes < 0:
		return fmt.Errorf("model pool: MaxBytes is %d; leave it 0 for a share of what is free", c.MaxBytes)
	case c.Slots < 0:
		return fmt.Errorf("model pool: Slots is %d; leave it 0 for one per core", c.Slots)
	case c.SlotsPerCore < 1:
		return fmt.Errorf("model pool: SlotsPerCore is %d; at least 1 is needed", c.SlotsPerCore)
	case c.AcquireTimeout < 0 || c.LoadTimeout < 0 || c.CloseTimeout < 0:
		return fmt.Errorf("model pool: AcquireTimeout %s, LoadTimeout %s and CloseTimeout %s must not be negative",
			c.AcquireTimeout, c.LoadTimeout, c.CloseTimeout)
	case c.StallTimeout < 0 || c.AnswerTimeout < 0 || c.ReturnTimeout < 0:
		return fmt.Errorf("model pool: StallTimeout %s, AnswerTimeout %s and ReturnTimeout %s must not be negative",
			c.StallTimeout, c.AnswerTimeout, c.ReturnTimeout)
	case c.LoadTimeout > c.AcquireTimeout:
		return fmt.Errorf("model pool: LoadTimeout %s is longer than AcquireTimeout %s, so nobody would wait for such a load",
			c.LoadTimeout, c.AcquireTimeout)
	case c.BreakerDeaths < 1 || c.BreakerWindow < 0 || c.Quarantine < 0:
		return fmt.Errorf("model pool: BreakerDeaths %d must be at least 1, BreakerWindow %s and Quarantine %s not negative",
			c.BreakerDeaths, c.BreakerWindow, c.Quarantine)
	}
	for id, l := range c.Limits {
		if l.Bytes < 0 || l.Slots < 0 {
			return fmt.Errorf("model pool: limits of device %s are negative: %d bytes, %d slots", id, l.Bytes, l.Slots)
		}
		if id == gpu.CPUID {
			return fmt.Errorf("model pool: the CPU's limits are MaxBytes and Slots, not Limits[%q]", id)
		}
	}
	return nil
}

// Budget is the RAM that models on the CPU may take.
func (c PoolConfig) Budget() (int64, error) {
	all, err := c.WithDefaults().limits()
	return all[gpu.CPUID].Bytes, err
}

// limits finds each device's limits. Call it on a valid configuration with defaults.
func (c PoolConfig) limits() (map[string]Limits, error) {
	all := map[string]Limits{}
	for _, d := range c.Inventory.Devices() {
		if d.Problem != "" {
			c.Log.Warn("a device is left out until the next start", "device", d.ID, "name", d.Name, "problem", d.Problem)
			continue
		}
		l := Limits{Bytes: c.MaxBytes, Slots: c.Slots}
		share, slots := int64(60), max(1, d.Cores)
		if d.Kind != gpu.CPU {
			l, share, slots = c.Limits[d.ID], 80, DeviceSlots
		}
		set(&l.Bytes, d.Free*share/100)
		set(&l.Slots, slots)
		if l.Bytes == 0 {
			return nil, fmt.Errorf("model pool: the memory of device %s is unknown; set its limit in bytes", d.ID)
		}
		all[d.ID] = l
	}
	for id := range c.Limits {
		if _, ok := all[id]; !ok {
			return nil, fmt.Errorf("model pool: limits are given for device %s, which is not on this machine", id)
		}
	}
	if _, ok := all[c.Device]; !ok && c.Device != Auto {
		return nil, fmt.Errorf("model pool: device %s is not on this machine", c.Device)
	}
	for model, id := range c.ModelDevice {
		if _, ok := all[id]; !ok && id != Auto {
			return nil, fmt.Errorf("model pool: device %s, chosen for model %s, is not on this machine", id, model)
		}
	}
	return all, nil
}
