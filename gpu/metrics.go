package gpu

import "github.com/prometheus/client_golang/prometheus"

// Collector shows what a Monitor's cards do, as the driver said it last. Labels: gpu is the device's ID ("cuda:0"), uuid names it
// across machines; DCGM's exporter has the same under UUID.
type Collector struct{ Monitor *Monitor }

var labels = []string{"gpu", "uuid"}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("steno_gpu_"+name, help, labels, nil)
}

var (
	usedDesc    = desc("memory_used_bytes", "Memory of the GPU that is taken, by whomever.")
	totalDesc   = desc("memory_total_bytes", "Memory of the GPU.")
	utilDesc    = desc("utilization_ratio", "Share of the driver's last sample period in which something was computed, 0 to 1.")
	tempDesc    = desc("temperature_celsius", "Temperature of the GPU.")
	powerDesc   = desc("power_watts", "Power that the GPU draws.")
	limitDesc   = desc("power_limit_watts", "Power that the GPU may draw.")
	problemDesc = desc("problem", "1 where the GPU cannot be used, 0 where it can.")
)

// Describe implements prometheus.Collector.
func (c Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	cards, err := c.Monitor.Known()
	for _, card := range cards {
		show := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, card.ID(), card.UUID)
		}
		if err != nil || card.Problem != "" {
			show(problemDesc, 1)
			continue
		}
		show(problemDesc, 0)
		show(totalDesc, float64(card.Total))
		show(usedDesc, float64(card.Total-card.Free))
		for d, v := range map[*prometheus.Desc]*float64{
			utilDesc: card.Utilization, tempDesc: card.Temperature, powerDesc: card.Power, limitDesc: card.PowerLimit,
		} {
			if v != nil {
				show(d, *v)
			}
		}
	}
}
