package files

import "fmt"

// headSize is the width of one attention head in every Whisper model.
const headSize = 64

// plausible checks that the hyperparameters are those of a Whisper model: whisper.cpp asserts, overflows or allocates without
// bound on others.
func (s shape) plausible() error {
	for _, f := range []struct {
		name        string
		value       int
		least, most int
	}{
		{"vocabulary", s.vocabulary, 1, 1 << 18},
		{"audio context", s.audioContext, 1, 1500},
		{"audio state", s.audioState, headSize, 1280},
		{"audio heads", s.audioHeads, 1, 20},
		{"audio layers", s.audioLayers, 1, 32},
		{"text context", s.textContext, 1, 448},
		{"text state", s.textState, s.audioState, s.audioState},
		{"text heads", s.textHeads, 1, 20},
		{"text layers", s.textLayers, 1, 32},
		{"mel bands", s.mel, 80, 128},
	} {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("its %s is %d, not between %d and %d", f.name, f.value, f.least, f.most)
		}
	}
	return nil
}
