// Package bench measures what steno writes against what was said: the word error rate of transcripts over a corpus of
// recordings with reference texts, and whether the segments of a file whose layout is known stand where they belong.
//
// Texts are compared as OpenAI's evaluation of Whisper compares them: case, punctuation, contractions, spelled-out numbers and
// British spellings do not count as errors. See Normalize.
//
//	errs := bench.WER(bench.Normalize("en", reference), bench.Normalize("en", transcript.Text))
//	fmt.Printf("%.2f %%\n", 100*errs.Rate())
//
// RunCorpus does it for every clip of a corpus, CheckTimeline for the times of one long file. All functions of this package
// are safe for concurrent use.
package bench
