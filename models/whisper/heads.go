//go:build cgo

package whisper

// #include <whisper.h>
import "C"

import "strings"

// alignmentHeads is the library's preset of attention heads that follow the audio, by model name; 0 where none is known.
func alignmentHeads(model string) int {
	return map[string]int{
		"tiny.en":        C.WHISPER_AHEADS_TINY_EN,
		"tiny":           C.WHISPER_AHEADS_TINY,
		"base.en":        C.WHISPER_AHEADS_BASE_EN,
		"base":           C.WHISPER_AHEADS_BASE,
		"small.en":       C.WHISPER_AHEADS_SMALL_EN,
		"small":          C.WHISPER_AHEADS_SMALL,
		"medium.en":      C.WHISPER_AHEADS_MEDIUM_EN,
		"medium":         C.WHISPER_AHEADS_MEDIUM,
		"large-v1":       C.WHISPER_AHEADS_LARGE_V1,
		"large-v2":       C.WHISPER_AHEADS_LARGE_V2,
		"large-v3":       C.WHISPER_AHEADS_LARGE_V3,
		"large-v3-turbo": C.WHISPER_AHEADS_LARGE_V3_TURBO,
	}[size(model)]
}

// size is a model's name without the coding of its weights.
func size(model string) string {
	for _, suffix := range []string{"-q4_0", "-q4_1", "-q5_0", "-q5_1", "-q8_0", "-f16"} {
		model = strings.TrimSuffix(model, suffix)
	}
	return model
}

// attentionLag is by how many steps of 20 ms a model's alignment heads are late, by the name of its size; less than 0 where they
// are early. Measured with make wordtimes, as the median of what words are off by without it.
func attentionLag(model string) int {
	return map[string]int{"base": -1, "tiny.en": 5}[size(model)]
}
