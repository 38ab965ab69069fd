package decode

import (
	"math"
	"slices"
	"unicode"

	"steno/transcript"
)

// The attention of the decoder follows what is said, to a few hundredths of a second, but rests on the pause before a word, too,
// and now and then on something else. So each word is given the stretch that fits three things best: how much of the word's
// attention lies there, how long a word of its length takes at the pace of its segment, and where somebody speaks. What the
// attention has in pauses does not count.

const (
	// stepSeconds is the grid of word times, that of the attention.
	stepSeconds = 0.02
	// attentionWeight weighs what lies in a word's stretch of its attention, in standard deviations times steps. Between 0.02 and
	// 0.3 the errors hardly differ. attentionMost keeps a broken model's in bounds.
	attentionWeight, attentionMost = 0.05, 100
	// paceWeight weighs the squared logarithm of how much longer or shorter than expected a word is, against the attention. pacePad
	// in steps is added to both, for short words vary more.
	paceWeight, pacePad = 1.5, 2.0
	// silentStart is the cost of a word that begins where nobody speaks, and tornWord of one that goes on after a pause.
	silentStart, tornWord = 4.0, 6.0
	// lateStart is the cost of each spoken step before the first word: the start of a segment is good to a second only.
	lateStart = 0.04
	// longestWord is how many times as long as expected a word is at most, with longestPad steps more for the short ones.
	longestWord, longestPad = 4, 12.0
	// wordPad is how many letters a word counts more than it has, and figureLetters how many a figure counts for: 7 is spoken seven.
	wordPad, figureLetters = 2, 4
)

// placeWords gives the words of a piece their starts and ends, in seconds from the window's start. heard[i] is how much the i-th
// word rests on each step of the window, in standard deviations over all tokens; it may end early, as where nothing is known.
// spoken[k] is in how many steps from the piece's start to step k somebody speaks.
func placeWords(ws []transcript.Word, heard [][]float32, p piece, spoken []int) {
	n, last := len(ws), len(spoken)-1
	if n == 0 {
		return
	}
	if last < n { // no room to choose
		for i := range ws {
			ws[i].Start = p.start + (p.end-p.start)*float64(i)/float64(n)
			ws[i].End = p.start + (p.end-p.start)*float64(i+1)/float64(n)
		}
		return
	}
	var letters float64
	for _, w := range ws {
		letters += weigh(w.Text)
	}
	cost := make([]float64, last+1) // of the words so far, where the next one begins at a step
	for k := range cost {
		cost[k] = lateStart*float64(spoken[k]) + startCost(k, spoken)
	}
	until := runs(spoken)
	from := make([][]int16, n) // where a word begins, by where the next one does
	pace := make([]float64, last+1)
	held := make([]float64, last+1) // of the attention of a word, from the piece's start to a step
	for i, w := range ws {
		expected := float64(spoken[last])*weigh(w.Text)/letters + pacePad
		longest := longestWord * int(expected+longestPad)
		for v := range pace {
			away := math.Log((float64(v) + pacePad) / expected)
			pace[v] = paceWeight * away * away
		}
		hold(held, heard[i], int(math.Round(p.start/stepSeconds)), spoken)
		next := make([]float64, last+1)
		from[i] = make([]int16, last+1)
		for k := range next {
			next[k] = math.Inf(1)
			if k <= i || i == n-1 && k != last || last-k < n-1-i {
				continue
			}
			for b := k - 1; b >= i && spoken[k]-spoken[b] <= longest; b-- {
				c := cost[b] + pace[spoken[k]-spoken[b]] + held[b] - held[k]
				if spoken[k] > until[b] {
					c += tornWord
				}
				if c <= next[k] {
					next[k], from[i][k] = c, int16(b)
				}
			}
			if i+1 < n {
				next[k] += startCost(k, spoken)
			}
		}
		cost = next
	}
	for i, k := n-1, last; i >= 0; i-- {
		b := int(from[i][k])
		end := k
		for end > b+1 && spoken[end] == spoken[end-1] { // the pause after a word is not the word's
			end--
		}
		ws[i].Start, ws[i].End = p.start+float64(b)*stepSeconds, min(p.end, p.start+float64(end)*stepSeconds)
		k = b
	}
}

// runs gives for each step how many steps are spoken until the pause after it, or after the next voice where it is in a pause.
func runs(spoken []int) []int {
	last := len(spoken) - 1
	until := make([]int, last+1)
	until[last] = spoken[last]
	for k := last - 1; k >= 0; k-- {
		until[k] = until[k+1]
		if spoken[k+1] > spoken[k] && (k+2 > last || spoken[k+2] == spoken[k+1]) { // the last step before a pause
			until[k] = spoken[k+1]
		}
	}
	return until
}

// hold adds up what a word's attention has in the spoken steps of a piece that starts at a step of the window.
func hold(held []float64, attention []float32, from int, spoken []int) {
	for k := range len(held) - 1 {
		held[k+1] = held[k]
		if at := from + k; at < len(attention) && spoken[k+1] > spoken[k] {
			if v := float64(attention[at]); !math.IsNaN(v) {
				held[k+1] += attentionWeight * max(-attentionMost, min(attentionMost, v))
			}
		}
	}
}

// startCost is what it costs that a word begins at step k.
func startCost(k int, spoken []int) float64 {
	if k+1 < len(spoken) && spoken[k+1] == spoken[k] {
		return silentStart
	}
	return 0
}

// weigh is how long a word takes, in letters.
func weigh(word string) float64 {
	n := float64(wordPad)
	for _, r := range word {
		switch {
		case unicode.IsDigit(r):
			n += figureLetters
		case spaceless(string(r)):
			n += wordPad
		case unicode.IsLetter(r):
			n++
		}
	}
	return n
}

const (
	// pauseDepth in dB is how far below its loud steps a segment is silent, and minPause the shortest pause in steps: 0.2 s, for the
	// closure of a consonant is shorter.
	pauseDepth, minPause = 24, 10
	// pauseShare of the way from the softest to the loud steps is silent, too: pauses hold the noise of the room.
	pauseShare = 0.3
)

// spokenIn counts the steps of a piece in which somebody speaks: where the VAD hears a voice, which for a pause in a hall or over
// a breath is too often, and the sound is not far below the loud parts. The window starts at sample from.
func (d *decoder) spokenIn(p piece, from int) []int {
	steps := max(1, int(math.Ceil((p.end-p.start)/stepSeconds)))
	level := make([]float64, steps)
	voiced := make([]bool, steps)
	const size = stepSeconds * rate
	i := 0
	for k := range steps {
		a := min(len(d.samples), from+int(p.start*rate+float64(k)*size))
		part := d.samples[a:min(len(d.samples), a+size)]
		sum := 1e-9
		for _, v := range part {
			sum += float64(v) * float64(v)
		}
		level[k] = 10 * math.Log10(sum/size)
		for i < len(d.voice) && d.voice[i].end <= a+size/2 {
			i++
		}
		voiced[k] = len(d.voice) == 0 || i < len(d.voice) && d.voice[i].start <= a+size/2
	}
	sorted := slices.Sorted(slices.Values(level))
	loud, floor := sorted[steps*9/10], sorted[steps/20]
	silence := max(loud-pauseDepth, floor+pauseShare*(loud-floor))
	for k := range voiced {
		voiced[k] = voiced[k] && level[k] > silence
	}
	fillGaps(voiced)
	spoken := make([]int, steps+1)
	for k, v := range voiced {
		spoken[k+1] = spoken[k]
		if v {
			spoken[k+1]++
		}
	}
	return spoken
}

// fillGaps makes what is too short for a pause part of what is said after it.
func fillGaps(voiced []bool) {
	quiet := 0
	for k, v := range voiced {
		if !v {
			quiet++
			continue
		}
		if quiet < minPause {
			for q := range quiet {
				voiced[k-1-q] = true
			}
		}
		quiet = 0
	}
}
