package testmedia

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Model is the path of a model file that `make models` put in place: "base-q8_0", "tiny.en-q8_0" or "silero-v6.2.0".
// The test fails, and is not skipped, where it is missing.
func Model(t testing.TB, name string) string {
	t.Helper()
	return built(t, filepath.Join("models", "ggml-"+name+".bin"))
}

// Voices is the path of a file that `make models` put in place to tell voices apart: "campplus.pt",
// "pyannote-segmentation-3.0.onnx" or "libonnxruntime.so".
func Voices(t testing.TB, name string) string {
	t.Helper()
	return built(t, filepath.Join("models", name))
}

// Sample is the path of a speech sample that `make samples` put in place, such as "jfk.wav".
func Sample(t testing.TB, name string) string {
	t.Helper()
	return built(t, filepath.Join("samples", name))
}

// JFK is what is said in the sample jfk.wav, as the base model writes it.
const JFK = "And so my fellow Americans ask not what your country can do for you, ask what you can do for your country."

func built(t testing.TB, name string) string {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("the test binary does not know its source")
	}
	path := filepath.Join(filepath.Dir(here), "..", "..", ".build", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run the tests with make test, which fetches it", err)
	}
	return path
}
