package queue

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"steno/job"
)

// metrics are the queue's series. They are safe for concurrent use.
type metrics struct {
	completed, failures, retries, chunks, leasesLost *prometheus.CounterVec
	spread, helped                                   *prometheus.CounterVec
	redelivered, routed                              prometheus.Counter
	wait, ack                                        prometheus.Histogram
	inFlight, slots                                  prometheus.Gauge
}

// newMetrics makes the series and registers them on reg. With a nil reg they are counted but not shown.
func newMetrics(reg prometheus.Registerer, q *Queue) *metrics {
	f := promauto.With(reg)
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value) // so that the first event is an increase, not a new series
		}
		return v
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		completed: counters("steno_jobs_completed_total", "Jobs that reached a terminal state, by outcome.", "outcome",
			string(OutcomeDone), string(OutcomeFailed), string(OutcomeCancelled)),
		failures: counters("steno_job_failures_total", "Jobs that failed, by class of their error.", "class",
			string(job.Input), string(job.Transient), string(job.Engine), string(job.Resource), string(job.Internal)),
		retries: counters("steno_job_retries_total", "Attempts that ended with the job back on the queue, by outcome.", "outcome",
			string(OutcomeRetried), string(OutcomeRequeued), string(OutcomeHandedOn), string(OutcomeLost)),
		chunks: counters("steno_queue_chunk_results_total",
			"Results of chunks: kept, reused by a later attempt, absent when asked for.", "result", "kept", "reused", "absent"),
		leasesLost: counters("steno_queue_leases_lost_total",
			"Leases this worker lost: taken by another, or given up because of a stall.", "reason", "taken", "stalled"),
		spread: counters("steno_spread_chunks_total",
			"Chunks of this worker's jobs on offer to others, by how that ended: done by another; refused by one; taken back, for "+
				"nobody took it or who did fell silent; unsent, for the broker did not take it.", "outcome",
			"done", "refused", "taken back", "unsent"),
		helped: counters("steno_helped_chunks_total",
			"Chunks of others' jobs that this worker took, by how that ended: done, refused for an error, handed back in a drain.",
			"outcome", "done", "refused", "handed back"),
		redelivered: f.NewCounter(prometheus.CounterOpts{
			Name: "steno_queue_redelivered_total", Help: "Messages that were delivered before: retries, drains and dead workers.",
		}),
		routed: f.NewCounter(prometheus.CounterOpts{
			Name: "steno_queue_routed_total", Help: "Jobs that this worker left to another which has their model in memory.",
		}),
		// From 10 ms (an idle worker) by factors of 4 to 3 hours (a backlog).
		wait: histogram("steno_queue_wait_seconds", "Time from queued to claimed.", prometheus.ExponentialBuckets(0.01, 4, 11)),
		// From 0.5 ms (one write) by factors of 4 to 8 s (the broker is away).
		ack: histogram("steno_queue_ack_seconds", "Time to acknowledge an ended attempt.",
			prometheus.ExponentialBuckets(0.0005, 4, 8)),
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: "steno_jobs_in_flight", Help: "Jobs that this worker runs."}),
		slots:    f.NewGauge(prometheus.GaugeOpts{Name: "steno_job_slots", Help: "Jobs that this worker may run at the same time."}),
	}
	if reg != nil {
		reg.MustRegister(depthCollector{q})
	}
	return m
}

// ended counts the end of an attempt.
func (m *metrics) ended(v verdict) {
	switch v.outcome {
	case OutcomeDone, OutcomeCancelled:
		m.completed.WithLabelValues(string(v.outcome)).Inc()
	case OutcomeFailed:
		m.completed.WithLabelValues(string(v.outcome)).Inc()
		m.failures.WithLabelValues(string(v.err.Class)).Inc()
	default:
		m.retries.WithLabelValues(string(v.outcome)).Inc()
	}
}

// depthCollector asks the broker at each scrape, so that every process shows the same truth without a timer of its own.
type depthCollector struct{ q *Queue }

// scrapeTimeout stays below Prometheus' default of 10 s.
const scrapeTimeout = 3 * time.Second

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

func (c depthCollector) descs() (pending, flying, oldest, dead *prometheus.Desc) {
	return desc("steno_queue_pending_jobs", "Jobs that no worker has been given yet."),
		desc("steno_queue_in_flight_jobs", "Jobs that run, or wait for another try, over all workers."),
		desc("steno_queue_oldest_job_age_seconds", "How long the oldest pending job has been waiting."),
		desc("steno_queue_dead_jobs", "Dead letters.")
}

// Describe implements prometheus.Collector.
func (c depthCollector) Describe(ch chan<- *prometheus.Desc) {
	pending, flying, oldest, dead := c.descs()
	for _, d := range []*prometheus.Desc{pending, flying, oldest, dead} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. While the broker is away there are no values, rather than old ones.
func (c depthCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	d, err := c.q.Depth(ctx)
	if err != nil {
		c.q.cfg.Log.Warn("read queue depth for metrics", "error", err)
		return
	}
	pending, flying, oldest, dead := c.descs()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(pending, float64(d.Pending))
	gauge(flying, float64(d.InFlight))
	gauge(oldest, d.OldestAge.Seconds())
	gauge(dead, float64(d.Dead))
}
