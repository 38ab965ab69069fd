package voices

import (
	"math"
	"testing"
)

// The values are those of kaldi-native-fbank 1.22 for the same samples, of every eighth band.
func TestFilterBankIsKaldis(t *testing.T) {
	pcm := make([]float32, 1600)
	for n := range pcm {
		x := float64(n)
		pcm[n] = float32(0.3*math.Sin(2*math.Pi*440*x/Rate) + 0.1*math.Sin(2*math.Pi*3000*x/Rate+1) + 0.02*math.Cos(0.001*x*x))
	}
	got := newFilterBank().features(pcm)
	if len(got) != 8*Bands || frames(399) != 0 || frames(400) != 1 || frames(559) != 1 || frames(560) != 2 {
		t.Fatalf("%d values", len(got))
	}
	for frame, want := range map[int][]float64{
		0: {-12.1648, -8.2753, -1.3032, -3.1032, -2.2123, -5.1007, -10.0104, -9.7363, -15.9424, -15.9424},
		5: {-12.6605, -9.7038, -1.1683, -12.2010, -15.9424, -15.9424, -10.0736, -9.7237, 0.4119, -4.5047},
	} {
		for i, w := range want {
			// The faintest bands are what rounding to 32 bits leaves, in Kaldi.
			if v := float64(got[frame*Bands+8*i]); math.Abs(v-w) > 0.02*max(1, -w-8) {
				t.Errorf("frame %d, band %d is %.4f, want %.4f", frame, 8*i, v, w)
			}
		}
	}
}
