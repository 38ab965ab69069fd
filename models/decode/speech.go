package decode

import "slices"

// VADFrame is the number of samples per speech probability: 32 ms at 16 kHz, what Silero's model takes.
const VADFrame = 512

const (
	// speechOn and speechOff are Silero's own hysteresis: speech starts at 0.5 and lasts until below 0.35.
	speechOn, speechOff = 0.5, 0.35
	// sureSpeech is reached somewhere by every chunk that has speech: 0.98 and more on all of the corpus, noisy and telephone
	// clips too, while music and film sound that hold speech at 0.5 stop at 0.92.
	sureSpeech = 0.95
	// minSpeech is the shortest sound taken for speech: 0.1 s. A click is shorter, "no" is not.
	minSpeech = rate / 10
	// joinGap joins stretches of speech that are less than 0.3 s apart: a breath, not a pause.
	joinGap = rate * 3 / 10
	// speechPad is left on both sides of speech, since a soft consonant lies below the VAD's threshold.
	speechPad = rate * 2 / 10

	// leftOverSlack is how far after the last timestamp speech may go on before it counts as left over: Whisper's timestamps
	// and the VAD's padded ends differ by that much on clean speech.
	leftOverSlack = speechPad + rate*3/10
	// minLeftOver is the least speech worth another run of the model: 0.4 s, a short word.
	minLeftOver = rate * 4 / 10
	// minHole is the least speech before a timestamp and after the one before it that is worth another run: 1 s, more than a slip
	// of the two.
	minHole = rate
	// minStep is the least progress of a window that lets the next one start at its last timestamp.
	minStep = rate / 2
)

// span is a half-open range of samples.
type span struct{ start, end int }

// voiceSpans turns frame probabilities into sorted, disjoint spans within n samples, just as long as the voice; none if no frame
// is sure.
func voiceSpans(probs []float32, n int) []span {
	if len(probs) == 0 || slices.Max(probs) < sureSpeech {
		return nil
	}
	var spans []span
	start := -1
	flush := func(end int) {
		if start >= 0 && end-start >= minSpeech {
			spans = append(spans, span{start, min(n, end)})
		}
		start = -1
	}
	for i, p := range probs {
		switch at := i * VADFrame; {
		case start < 0 && p >= speechOn:
			start = at
		case start >= 0 && p < speechOff:
			flush(at)
		}
	}
	flush(n)
	return spans
}

// joined widens spans by pad on both sides, within n samples, and joins those that are nearer to each other than joinGap then.
func joined(spans []span, pad, n int) []span {
	var out []span
	for _, s := range spans {
		out = appendSpan(out, span{max(0, s.start-pad), min(n, s.end+pad)})
	}
	return out
}

// appendSpan adds s, joined to the last span when they touch or nearly do.
func appendSpan(spans []span, s span) []span {
	if last := len(spans) - 1; last >= 0 && s.start-spans[last].end < joinGap {
		spans[last].end = max(spans[last].end, s.end)
		return spans
	}
	return append(spans, s)
}

// speechIn is the number of samples of speech in [from, to).
func (d *decoder) speechIn(from, to int) int {
	n := 0
	for _, s := range d.speech {
		n += max(0, min(s.end, to)-max(s.start, from))
	}
	return n
}

// holes are the stretches before pieces, and between them, in which the VAD hears speech and the model says that there is none.
// The pieces' window starts at sample from.
func (d *decoder) holes(pieces []piece, from int) []span {
	var hs []span
	end := from
	for _, p := range pieces {
		start := from + int(p.start*rate)
		if h := d.clip(end, start); h.end-h.start >= minHole && d.speechIn(end+leftOverSlack, start-leftOverSlack) >= minHole {
			hs = append(hs, h)
		}
		end = from + int(p.end*rate)
	}
	return hs
}

// clip is [from, to) without the silence at its ends.
func (d *decoder) clip(from, to int) span {
	first, last := to, from
	for _, s := range d.speech {
		if s.end > from && s.start < to {
			first, last = min(first, max(s.start, from)), max(last, min(s.end, to))
		}
	}
	return span{first, last}
}

// skipSilence is the first sample of speech at or after pos, or the chunk's end.
func (d *decoder) skipSilence(pos int) int {
	for _, s := range d.speech {
		if pos < s.end {
			return max(pos, s.start)
		}
	}
	return len(d.samples)
}

const (
	// faintPeak is the level below which a voice is raised for the VAD, and raisedPeak the level that it is raised to: -40 and
	// -20 dBFS. Silero misses voices much fainter than those that it was trained on.
	faintPeak, raisedPeak = 0.01, 0.1
	// maxRaise is the most that anything is raised by: 36 dB. What is below -70 dBFS is background.
	maxRaise = 63
	// levelStep is the grid on which the level is taken, in samples: 0.1 s; minFaintSteps is how long it must be faint: 2 s. The
	// pauses and the last words of a common voice are shorter.
	levelStep, minFaintSteps = rate / 10, 20
)

// audible raises faint stretches to a level at which the VAD hears a voice in them, and leaves all else as it is. Where there
// are none it returns the samples themselves.
func audible(samples []float32) []float32 {
	out := samples
	from, steps, loudest := 0, 0, float32(0)
	raise := func(to int) {
		if steps >= minFaintSteps && loudest > 0 {
			if &out[0] == &samples[0] {
				out = slices.Clone(samples)
			}
			gain := min(raisedPeak/loudest, maxRaise)
			for i := from; i < to; i++ {
				out[i] *= gain
			}
		}
	}
	for at := 0; at < len(samples); at += levelStep {
		peak := float32(0)
		for _, v := range samples[at:min(at+levelStep, len(samples))] {
			peak = max(peak, v, -v)
		}
		if peak < faintPeak {
			steps++
			loudest = max(loudest, peak)
			continue
		}
		raise(at)
		from, steps, loudest = at+levelStep, 0, 0
	}
	raise(len(samples))
	return out
}
