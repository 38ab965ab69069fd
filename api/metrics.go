package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the gateway's series.
type metrics struct {
	requests    *prometheus.HistogramVec
	inFlight    prometheus.Gauge
	limited     *prometheus.CounterVec
	logins      *prometheus.CounterVec
	cache       *prometheus.CounterVec
	cacheTime   *prometheus.HistogramVec
	uploads     prometheus.Gauge
	uploaded    prometheus.Counter
	subscribers prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "steno_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"route", "method", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "steno_http_requests_in_flight", Help: "Requests under way.",
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_http_limited_total", Help: "Requests that were refused by a limit.",
		}, []string{"limit"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_logins_total", Help: "Attempts to get a token by a password.",
		}, []string{"result"}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_cache_requests_total", Help: "Requests that the response cache could have answered.",
		}, []string{"result"}),
		cacheTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "steno_cache_operation_seconds", Help: "Time that the response cache takes.",
			Buckets: []float64{1e-6, 5e-6, 2.5e-5, 1e-4, 5e-4, .001, .0025, .005, .01, .05, .25, 1},
		}, []string{"operation"}),
		uploads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "steno_uploads_in_flight", Help: "Uploads under way.",
		}),
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "steno_uploaded_bytes_total", Help: "Bytes of accepted uploads.",
		}),
		subscribers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "steno_event_subscribers", Help: "Event streams that are open.",
		}),
	}
	reg.MustRegister(m.requests, m.inFlight, m.limited, m.logins, m.cache, m.cacheTime, m.uploads, m.uploaded, m.subscribers)
	for _, result := range []string{"hit", "miss", "error"} {
		m.cache.WithLabelValues(result) // so that the first one is an increase, not a new series
	}
	return m
}

// methods are those that get a series of their own: a client may send any word.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "DELETE": true, "OPTIONS": true}

func (m *metrics) observe(q *request, method string, status int, took time.Duration) {
	if !methods[method] {
		method = "other"
	}
	m.requests.WithLabelValues(or(q.route, "none"), method, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *metrics) timed(operation string, began time.Time) {
	m.cacheTime.WithLabelValues(operation).Observe(time.Since(began).Seconds())
}
