// Package bench measures steno. What it writes is held against what was said: the word error rate of transcripts over a corpus
// of recordings with reference texts, and whether the segments of a file whose layout is known stand where they belong. What it
// takes is measured beside other programs on the same weights: time, memory, CPU and, where the machine tells, energy.
//
// Texts are compared as OpenAI's evaluation of Whisper compares them: case, punctuation, contractions, spelled-out numbers and
// British spellings do not count as errors. See Normalize.
//
//	errs := bench.WER(bench.Normalize("en", reference), bench.Normalize("en", transcript.Text))
//	fmt.Printf("%.2f %%\n", 100*errs.Rate())
//
// RunCorpus does it for every clip of a corpus, CheckTimeline for the times of one long file.
//
// RunSuite runs scenarios: contenders, ours and peers, transcribe the same recordings as child processes that one runner
// (Measure) measures alike, in paired rounds of random order. Runs that others disturbed are marked and shown apart.
// ComparePaired and CompareReports tell from such reports whether a version is slower than another, and LoadReport holds the
// results of a load test to thresholds.
//
// All functions of this package are safe for concurrent use, but those that measure tell nothing when several run at a time.
package bench
