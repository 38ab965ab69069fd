package bench

import "slices"

// Summary estimates what a contender takes. Ratios are of the two runs of a round, so that what drifts over minutes falls out.
type Summary struct {
	Wall   Estimate `json:"wall_s"`
	First  Estimate `json:"first_result_s"` // of those that show a result before the last
	CPU    Estimate `json:"cpu_s"`
	RSS    Estimate `json:"peak_rss_bytes"`
	Own    Estimate `json:"peak_own_bytes"`
	Energy Estimate `json:"energy_j"`
	// Ratio and CPURatio are wall and CPU time of this contender over those of the first of the table.
	Ratio    Estimate `json:"wall_ratio"`
	CPURatio Estimate `json:"cpu_ratio"`
	// Warm is the seconds that a file takes in a process that has its model loaded: of those that are given several copies.
	Warm   Estimate            `json:"warm_s"`
	Stages map[string]Estimate `json:"stages,omitempty"`
}

// SumUp fills in the summaries of all entries from their runs. RunSuite has done it.
func (r *SuiteReport) SumUp() {
	for i := range r.Cases {
		r.Cases[i].sumUp()
	}
}

func (c *Case) sumUp() {
	for i := range c.Entries {
		e := &c.Entries[i]
		single := e
		if j := slices.IndexFunc(c.Entries, func(o Entry) bool { return o.Name == e.Single }); j >= 0 {
			single = &c.Entries[j]
		}
		e.Quiet = e.sum(&c.Entries[0], single, false)
		e.Disturbed = e.sum(&c.Entries[0], single, true)
	}
}

// sum estimates over the runs that were disturbed or those that were not. A pair is disturbed where one of its runs is.
func (e *Entry) sum(first, single *Entry, disturbed bool) Summary {
	var wall, firsts, cpu, rss, own, energy, ratio, cpuRatio, warm []float64
	stages := map[string][]float64{}
	for _, r := range e.Runs {
		if o := first.round(r.Round); o != nil && e != first && (r.Disturbed || o.Disturbed) == disturbed {
			ratio, cpuRatio = append(ratio, r.Wall/o.Wall), append(cpuRatio, r.CPU/o.CPU)
		}
		if o := single.round(r.Round); o != nil && e.Copies > 1 && (r.Disturbed || o.Disturbed) == disturbed {
			warm = append(warm, (r.Wall-o.Wall)/float64(e.Copies-1))
		}
		if r.Disturbed != disturbed {
			continue
		}
		wall, cpu = append(wall, r.Wall), append(cpu, r.CPU)
		rss, own = append(rss, float64(r.RSS)), append(own, float64(r.Own))
		if r.First > 0 {
			firsts = append(firsts, r.First)
		}
		if r.Energy != nil {
			energy = append(energy, *r.Energy)
		}
		for name, seconds := range r.Stages {
			stages[name] = append(stages[name], seconds)
		}
	}
	s := Summary{
		Wall: EstimateOf(wall), First: EstimateOf(firsts), CPU: EstimateOf(cpu), RSS: EstimateOf(rss), Own: EstimateOf(own),
		Energy: EstimateOf(energy), Ratio: EstimateOf(ratio), CPURatio: EstimateOf(cpuRatio), Warm: EstimateOf(warm),
	}
	for name, seconds := range stages {
		if s.Stages == nil {
			s.Stages = map[string]Estimate{}
		}
		s.Stages[name] = EstimateOf(seconds)
	}
	return s
}

// round is the run of the round n; nil where there is none.
func (e *Entry) round(n int) *Run {
	i := slices.IndexFunc(e.Runs, func(r Run) bool { return r.Round == n })
	if i < 0 {
		return nil
	}
	return &e.Runs[i]
}

// score is what counts as the errors of e: those of the warm-up, whose text the other runs mostly repeat.
func (e *Entry) score() (words, chars *Errors) {
	if e.WarmUp == nil {
		return nil, nil
	}
	return e.WarmUp.Words, e.WarmUp.Chars
}

// changed counts the runs that wrote something else than the warm-up did.
func (e *Entry) changed() int {
	n := 0
	for _, r := range e.Runs {
		if r.Texts != nil {
			n++
		}
	}
	return n
}
