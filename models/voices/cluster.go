package voices

import (
	"cmp"
	"math"
	"slices"
)

const (
	// sameVoice is the cosine distance up to which two groups of pieces are one speaker, as the mean over their pairs:
	// docs/SPEAKERS.md has what others do.
	sameVoice = 0.52
	// firm is how many frames a piece must have to found a speaker: 1.5 s. Shorter ones join one that is there.
	firm = 89
	// enough is how many frames of all windows together make a speaker where their number is not given: 3.4 s, for windows overlap
	// by half.
	enough = 400
	// most is how many pieces are compared with each other: 18 MB of distances. Of more, the longest are.
	most = 3000
)

// speakersOf finds who the voices of all windows are: for each window the speaker of each piece, and the number of speakers.
// count is how many speakers there are, or 0 where that is to be found.
func speakersOf(windows []window, count int) (of [][]int, n int) {
	founded := centroids(windows, count)
	// Once more with what became of all pieces, not only of the firm ones.
	centers := means(windows, assignAll(windows, founded), founded)
	return assignAll(windows, centers), len(centers)
}

// centroids founds the speakers: the mean directions of groups of firm pieces.
func centroids(windows []window, count int) [][]float64 {
	var all []piece
	for _, w := range windows {
		all = append(all, w.pieces...)
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b piece) int { return cmp.Compare(b.frames, a.frames) })
	n := 0
	for n < min(len(all), most) && all[n].frames >= firm {
		n++
	}
	founders := all[:max(n, min(len(all), max(1, count)))]
	merges := linkage(founders)
	var chosen [][]piece
	if count == 0 {
		groups := cut(founders, merges, func(height float64, _ int) bool { return height <= sameVoice })
		chosen = groups[:max(1, weighty(groups))]
	} else {
		chosen = inGroups(founders, merges, count)
	}
	centers := make([][]float64, len(chosen))
	for i, g := range chosen {
		centers[i] = mean(g)
	}
	return centers
}

// inGroups are as many groups as are asked for: of the coarsest grouping in which so many have enough speech, else the longest.
func inGroups(all []piece, merges []merge, count int) [][]piece {
	into := func(n int) [][]piece {
		return cut(all, merges, func(_ float64, after int) bool { return after >= n })
	}
	for n := count; n <= len(all); n++ {
		if groups := into(n); weighty(groups) >= count {
			return groups[:count]
		}
	}
	groups := into(count)
	return groups[:min(count, len(groups))]
}

// weighty is how many of groups, which stand in the order of their speech, have enough of it: of a short recording a fifth.
func weighty(groups [][]piece) int {
	all := 0
	for _, g := range groups {
		all += length(g)
	}
	n := 0
	for n < len(groups) && length(groups[n]) >= min(enough, all/5) {
		n++
	}
	return n
}

func length(g []piece) int {
	sum := 0
	for _, m := range g {
		sum += m.frames
	}
	return sum
}

// mean is the direction of a group, each voice for as much as was heard of it.
func mean(g []piece) []float64 {
	sum := make([]float64, len(g[0].vector))
	for _, m := range g {
		for i, v := range m.vector {
			sum[i] += v * float64(max(1, m.frames))
		}
	}
	return normed(sum)
}

func normed(x []float64) []float64 {
	if n := math.Sqrt(dot(x, x)); n > 0 {
		for i := range x {
			x[i] /= n
		}
	}
	return x
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// merge joins the groups of two members at the mean distance of their pairs.
type merge struct {
	a, b   int
	height float64
}

// linkage is agglomerative clustering with average linkage, by chains of nearest neighbours: n² steps for n voices, and n²/2
// distances in memory. The merges are in the order of their heights. (F. Murtagh, A survey of recent advances in hierarchical
// clustering algorithms, 1983.)
func linkage(all []piece) []merge {
	n := len(all)
	d := make([][]float32, n) // d[i][j] for j < i
	for i := range d {
		d[i] = make([]float32, i)
		for j := range i {
			d[i][j] = float32(1 - dot(all[i].vector, all[j].vector))
		}
	}
	at := func(i, j int) *float32 { return &d[max(i, j)][min(i, j)] }
	size := make([]int, n)
	for i := range size {
		size[i] = 1
	}
	var merges []merge
	var chain []int
	for len(merges) < n-1 {
		if len(chain) == 0 {
			chain = append(chain, slices.IndexFunc(size, func(s int) bool { return s > 0 }))
		}
		last := chain[len(chain)-1]
		next := -1
		if len(chain) > 1 {
			next = chain[len(chain)-2] // preferred among equals, or the chain might not end
		}
		for j := range n {
			if j != last && size[j] > 0 && (next < 0 || *at(last, j) < *at(last, next)) {
				next = j
			}
		}
		if len(chain) < 2 || next != chain[len(chain)-2] {
			chain = append(chain, next)
			continue
		}
		chain = chain[:len(chain)-2]
		merges = append(merges, merge{last, next, float64(*at(last, next))})
		for j := range n {
			if j != last && j != next && size[j] > 0 {
				*at(last, j) = (*at(last, j)*float32(size[last]) + *at(next, j)*float32(size[next])) / float32(size[last]+size[next])
			}
		}
		size[last] += size[next]
		size[next] = 0
	}
	slices.SortStableFunc(merges, func(a, b merge) int { return cmp.Compare(a.height, b.height) })
	return merges
}

// cut joins what the first merges join, for as long as join agrees: it is told the height of a merge and the number of groups
// after it. The groups are in the order of their speech, longest first.
func cut(all []piece, merges []merge, join func(height float64, after int) bool) [][]piece {
	parent := make([]int, len(all))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	for i, m := range merges {
		if !join(m.height, len(all)-i-1) {
			break
		}
		parent[root(m.b)] = root(m.a)
	}
	at := map[int]int{}
	var groups [][]piece
	for i, m := range all {
		r := root(i)
		g, known := at[r]
		if !known {
			g = len(groups)
			at[r] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], m)
	}
	slices.SortStableFunc(groups, func(a, b []piece) int { return cmp.Compare(length(b), length(a)) })
	return groups
}

func assignAll(windows []window, centers [][]float64) [][]int {
	of := make([][]int, len(windows))
	for w := range windows {
		of[w] = assign(windows[w].pieces, centers)
	}
	return of
}

// assign gives each piece the speaker that it is most like.
func assign(pieces []piece, centers [][]float64) []int {
	of := make([]int, len(pieces))
	for i, p := range pieces {
		best := math.Inf(-1)
		for s, c := range centers {
			if like := dot(p.vector, c); like > best {
				best, of[i] = like, s
			}
		}
	}
	return of
}

// means are the directions of the speakers as they were assigned. One without voices stays as it was.
func means(windows []window, of [][]int, centers [][]float64) [][]float64 {
	groups := make([][]piece, len(centers))
	for w := range windows {
		for i, s := range of[w] {
			if p := windows[w].pieces[i]; p.frames >= clean {
				groups[s] = append(groups[s], p)
			}
		}
	}
	out := slices.Clone(centers)
	for s, g := range groups {
		if len(g) > 0 {
			out[s] = mean(g)
		}
	}
	return out
}
