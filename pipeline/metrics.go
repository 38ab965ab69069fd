package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/models"
	"steno/transcript"
)

// Metrics are the pipeline's collectors. Safe for concurrent use.
type Metrics struct {
	stage     *prometheus.HistogramVec
	audio     prometheus.Counter
	realtime  prometheus.Histogram
	chunks    *prometheus.CounterVec
	chunkTime prometheus.Histogram
	inFlight  prometheus.Gauge
	passes    *prometheus.CounterVec
	engine    *prometheus.CounterVec
	tokens    prometheus.Counter
	retries   prometheus.Counter
	starts    *prometheus.CounterVec
}

// NewMetrics makes the collectors and registers them with reg, unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	seconds := []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	m := &Metrics{
		stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "steno_stage_duration_seconds", Help: "Time a job spent in a stage.", Buckets: seconds,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"stage"}),
		audio: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "steno_audio_processed_seconds_total", Help: "Audio of finished jobs, by its own clock.",
		}),
		realtime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "steno_realtime_factor", Help: "Seconds of audio per second of work, per finished job.",
			Buckets: []float64{.25, .5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 500},
		}),
		chunks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_chunks_total",
			Help: "Chunks by where their result came from: computed here, elsewhere by another machine, or reused from before.",
		}, []string{"source"}),
		chunkTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "steno_chunk_duration_seconds", Help: "Time to transcribe one chunk, waiting for a decode slot included.",
			Buckets: seconds,
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "steno_chunks_in_flight", Help: "Chunks in memory, waiting or being decoded.",
		}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_decode_passes_total",
			Help: "Runs of the model, and of those the repeated ones: full_size after a guard spoke, seek for speech left over.",
		}, []string{"kind"}),
		engine: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_engine_seconds_total",
			Help: "Time that engine threads spent on chunks: vad, mel, encode (with the prompt), decode.",
		}, []string{"phase"}),
		tokens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "steno_engine_tokens_total", Help: "Steps of the decoder, those of repeated decodes and of timestamps included.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "steno_chunk_engine_deaths_total", Help: "Chunks whose engine died under them.",
		}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steno_job_starts_total", Help: "Finished jobs by whether they waited for their model to load.",
		}, []string{"start"}),
	}
	for _, source := range []string{"computed", "elsewhere", "reused"} {
		m.chunks.WithLabelValues(source)
	}
	if reg != nil {
		reg.MustRegister(m.stage, m.audio, m.realtime, m.chunks, m.chunkTime, m.inFlight, m.passes, m.engine, m.tokens, m.retries,
			m.starts)
	}
	return m
}

// finished counts a job that ended well.
func (m *Metrics) finished(t transcript.Transcript) {
	m.audio.Add(t.Duration)
	if t.Timings.Total > 0 {
		m.realtime.Observe(t.Duration / t.Timings.Total)
	}
	start := "warm"
	if t.ColdStart {
		start = "cold"
	}
	m.starts.WithLabelValues(start).Inc()
}

// computed counts a chunk that was decoded.
func (m *Metrics) computed(r models.Request, res models.Result, took time.Duration) {
	m.passes.WithLabelValues("all").Add(float64(res.Stats.Passes))
	m.passes.WithLabelValues("full_size").Add(float64(res.Stats.FullSize))
	m.passes.WithLabelValues("seek").Add(float64(res.Stats.Seeks))
	s := res.Stats.Seconds
	for phase, seconds := range map[string]float64{"vad": s.VAD, "mel": s.Mel, "encode": s.Encode, "decode": s.Decode} {
		m.engine.WithLabelValues(phase).Add(seconds)
	}
	m.tokens.Add(float64(res.Stats.Tokens))
	if r.DetectOnly {
		return
	}
	m.chunks.WithLabelValues("computed").Inc()
	m.chunkTime.Observe(took.Seconds())
}
