package relay

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"steno/store"
)

// metrics are the relay's series. They are safe for concurrent use.
type metrics struct {
	done, retries, updates, findings, deliveries *prometheus.CounterVec
	recordErrors                                 prometheus.Counter
	reg                                          prometheus.Registerer
}

func newMetrics(cfg Config) *metrics {
	f := promauto.With(cfg.Metrics)
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value) // so that the first event is an increase, not a new series
		}
		return v
	}
	kinds := []string{
		string(store.Publish), string(store.Cancel), string(store.Delete), string(store.Purge), string(store.Webhook),
	}
	m := &metrics{
		done: counters("steno_outbox_commands_done_total", "Commands of the outbox that were carried out, or given up, by kind.",
			"kind", kinds...),
		retries: counters("steno_outbox_retries_total", "Commands that failed and are tried again, by kind.", "kind", kinds...),
		updates: counters("steno_recorder_updates_total", "States of jobs that were brought to the record, by what became of them.",
			"effect", string(store.Applied), string(store.Duplicate), string(store.Late), string(store.Ended), string(store.Unknown)),
		findings: counters("steno_reconciler_findings_total", "Tasks that record and queue disagreed about, by what was done.",
			"finding", string(foundLost), string(foundEnded), string(foundCancel), string(foundHopeless), string(foundBehind)),
		deliveries: counters("steno_webhook_deliveries_total", "Calls of webhooks, by how they ended.", "outcome",
			string(delivered), string(refused), string(blocked), string(gaveUp), string(disabled)),
		recordErrors: f.NewCounter(prometheus.CounterOpts{
			Name: "steno_recorder_errors_total", Help: "States of jobs that could not be recorded and are tried again.",
		}),
		reg: cfg.Metrics,
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(backlogCollector{cfg})
	}
	return m
}

// waiting shows how many states wait to be recorded.
func (m *metrics) waiting(n func() int) {
	promauto.With(m.reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "steno_recorder_pending_updates", Help: "Jobs whose state waits to be recorded.",
	}, func() float64 { return float64(n()) })
}

// backlogCollector asks the database at each scrape, so that every gateway shows the same truth without a timer of its own.
type backlogCollector struct{ cfg Config }

// scrapeTimeout stays below Prometheus' default of 10 s.
const scrapeTimeout = 3 * time.Second

var (
	backlogDesc = prometheus.NewDesc("steno_outbox_commands", "Commands in the outbox, by lane.", []string{"lane"}, nil)
	oldestDesc  = prometheus.NewDesc("steno_outbox_oldest_command_age_seconds",
		"How long the oldest command of the outbox has been waiting, by lane.", []string{"lane"}, nil)
)

// Describe implements prometheus.Collector.
func (c backlogCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- backlogDesc
	ch <- oldestDesc
}

// Collect implements prometheus.Collector. While the database is away there are no values, rather than old ones.
func (c backlogCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	for _, lane := range []store.Lane{store.LaneQueue, store.LaneWebhook} {
		n, age, err := c.cfg.Store.Backlog(ctx, lane)
		if err != nil {
			c.cfg.Log.Warn("read the outbox's backlog for metrics", "error", err)
			return
		}
		ch <- prometheus.MustNewConstMetric(backlogDesc, prometheus.GaugeValue, float64(n), string(lane))
		ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age.Seconds(), string(lane))
	}
}
