package models

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the pool's and the gates' series. Make one per process and hand it to NewPool.
type Metrics struct {
	loaded, leases, waiting             prometheus.Gauge
	bytes, budget                       *prometheus.GaugeVec
	loads, evictions, deaths, fallbacks *prometheus.CounterVec
	loadSeconds                         *prometheus.HistogramVec
	waitSeconds                         *prometheus.HistogramVec
	slots, slotsInUse, slotsWaiting     *prometheus.GaugeVec
	slotWaitSeconds                     *prometheus.HistogramVec
}

// NewMetrics makes the series and registers them on reg; with a nil reg they are counted but not shown. It panics when reg
// has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histograms := func(name, help string, labels ...string) *prometheus.HistogramVec {
		// From 1 ms (a warm lease) by factors of 3 to 3 minutes (a large model from a slow disk).
		return f.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 3, 12),
		}, labels)
	}
	m := &Metrics{
		loaded:      gauge("steno_model_pool_loaded", "Models in memory, loads in flight and models being closed included."),
		leases:      gauge("steno_model_pool_leases", "Leases that are held."),
		waiting:     gauge("steno_model_pool_waiting", "Requests that wait for a model."),
		bytes:       gauges("steno_model_pool_bytes", "Bytes of models, reserved for loads in flight included.", "device"),
		budget:      gauges("steno_model_pool_budget_bytes", "Bytes that models may take.", "device"),
		loads:       counters("steno_model_pool_loads_total", "Model loads by result: ok, error, oom, cancelled.", "model", "result"),
		loadSeconds: histograms("steno_model_pool_load_seconds", "Time of a successful load.", "model"),
		evictions:   counters("steno_model_pool_evictions_total", "Models closed, by reason.", "reason"),
		fallbacks:   counters("steno_model_pool_fallbacks_total", "Loads sent to the CPU because a device had no memory.", "device"),
		waitSeconds: histograms("steno_model_pool_wait_seconds", "Wait for a lease: warm, cold (with a load), failed.", "start"),
		deaths:      counters("steno_engine_deaths_total", "Engines that ended by themselves.", "model"),

		slots:           gauges("steno_decode_slots", "Decodes that may run at the same time.", "device"),
		slotsInUse:      gauges("steno_decode_slots_in_use", "Decode slots held, extra ones included.", "device"),
		slotsWaiting:    gauges("steno_decode_slots_waiting", "Decodes that wait for a slot.", "device"),
		slotWaitSeconds: histograms("steno_decode_slot_wait_seconds", "Wait for a decode slot.", "device"),
	}
	for _, reason := range []string{"room", "idle", "oom", "died", "unload", "forced"} {
		m.evictions.WithLabelValues(reason) // so that the first one is an increase, not a new series
	}
	return m
}

// know begins the series of a model, for the same reason.
func (m *Metrics) know(model string) {
	m.deaths.WithLabelValues(model)
	for _, result := range []string{"ok", "error", "oom", "cancelled"} {
		m.loads.WithLabelValues(model, result)
	}
}

// gate picks the series of one device's gate.
func (m *Metrics) gate(device string, slots int) gateMetrics {
	m.slots.WithLabelValues(device).Set(float64(slots))
	return gateMetrics{
		inUse:   m.slotsInUse.WithLabelValues(device),
		waiting: m.slotsWaiting.WithLabelValues(device),
		wait:    m.slotWaitSeconds.WithLabelValues(device),
	}
}

// gateMetrics are one gate's series; the zero value counts nothing.
type gateMetrics struct {
	inUse, waiting prometheus.Gauge
	wait           prometheus.Observer
}

func (m gateMetrics) set(inUse, waiting int) {
	if m.inUse != nil {
		m.inUse.Set(float64(inUse))
		m.waiting.Set(float64(waiting))
	}
}

func (m gateMetrics) waited(d time.Duration) {
	if m.wait != nil {
		m.wait.Observe(d.Seconds())
	}
}
