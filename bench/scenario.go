package bench

import (
	"fmt"
	"strconv"
)

// Input says which recordings a scenario transcribes.
type Input string

// The inputs of scenarios.
const (
	Short Input = "short" // one file of seconds
	Long  Input = "long"  // each long file by itself
	Many  Input = "many"  // many files in one call
)

// A Scenario is a question that contenders answer on the same input. The first contender is the one that others are compared
// with.
type Scenario struct {
	Name  string
	Asks  string
	Input Input
	Quick bool // among those that run where none is named

	contenders func(k Kit, model string) []Contender
}

// Scenarios returns all scenarios.
func Scenarios() []Scenario {
	return []Scenario{
		{"short", "How long does one short file take, cold start included?", Short, true, peers},
		{"long", "How long does one long file take, cold start included?", Long, true, peers},
		{"many", "How long do many files take in one call?", Many, false, peers},
		{"variants", "What do the peers' other settings give?", Long, false, variants},
		{"warm", "What does a file cost once the model is loaded?", Short, false, warm},
		{"parallel", "What does transcribing several files and windows at once gain?", Many, false, parallel},
		{"cores", "What does another core gain?", Long, false, cores},
		{"files", "What do several files at once take?", Long, false, filesAtOnce},
		{"length", "How do time and memory grow with the length of a file?", Long, false, alone},
		{"plan", "What do the choices of the plan cost and gain?", Long, false, plan},
		{"chunks", "How long should a chunk be?", Long, false, chunks},
		{"states", "How many decode states, with how many threads each?", Long, false, states},
		{"weights", "What do smaller weights gain and lose?", Long, false, weightTypes},
		{"kernels", "What do steno's own matrix kernels gain?", Long, false, kernels},
		{"flash", "What does flash attention gain on a CPU?", Long, false, flash},
		{"context", "What does a shorter encoder context gain?", Short, false, context1500},
		{"formats", "What does the format of the file cost?", Long, false, formats},
	}
}

// peers is the comparison that counts: steno as it comes, and each peer at its fastest on the same weights, greedy as steno is.
func peers(k Kit, model string) []Contender {
	return []Contender{
		k.steno("steno", model, "q8_0", live),
		k.whisperCLI("whisper-cli f16", model, "f16", "-bs", "1"),
		k.whisperCLI("whisper-cli q8_0", model, "q8_0", "-bs", "1"),
		k.fasterWhisper("faster-whisper int8", model, "int8", 1, 0),
		k.fasterWhisper("faster-whisper int8, batched", model, "int8", 1, 8),
	}
}

func variants(k Kit, model string) []Contender {
	return []Contender{
		k.steno("steno", model, "q8_0", live),
		k.whisperCLI("whisper-cli f16, its defaults (5 beams)", model, "f16"),
		k.whisperCLI("whisper-cli q8_0, 5 beams", model, "q8_0"),
		k.whisperCLI("whisper-cli f16, VAD", model, "f16", append([]string{"-bs", "1"}, k.vadFlags()...)...),
		k.whisperCLI("whisper-cli q8_0, VAD", model, "q8_0", append([]string{"-bs", "1"}, k.vadFlags()...)...),
		k.whisperServer("whisper-server f16", model, "f16"),
		k.fasterWhisper("faster-whisper int8, 5 beams", model, "int8", 5, 0),
		k.fasterWhisper("faster-whisper int8, batched, 5 beams", model, "int8", 5, 8),
		k.fasterWhisper("faster-whisper float32", model, "float32", 1, 0),
		k.fasterWhisper("faster-whisper float32, batched", model, "float32", 1, 8),
		k.openAIWhisper("openai-whisper", model),
	}
}

// warm gives each contender the file once and five times in one process: the difference is what four files cost warm.
func warm(k Kit, model string) []Contender {
	var all []Contender
	for _, c := range []Contender{
		k.steno("steno", model, "q8_0", "--jobs", "1", live),
		k.whisperCLI("whisper-cli q8_0", model, "q8_0", "-bs", "1"),
		k.whisperServer("whisper-server q8_0", model, "q8_0"),
		k.fasterWhisper("faster-whisper int8", model, "int8", 1, 0),
		k.fasterWhisper("faster-whisper int8, batched", model, "int8", 1, 8),
		k.openAIWhisper("openai-whisper", model),
	} {
		again := c
		again.Name, again.Copies, again.Single = c.Name+", 5 times", 5, c.Name
		all = append(all, c, again)
	}
	return all
}

func parallel(k Kit, model string) []Contender {
	return []Contender{
		k.steno("steno", model, "q8_0"),
		k.steno("steno, one file after the other", model, "q8_0", "--jobs", "1"),
		k.steno("steno, one window after the other", model, "q8_0", "--jobs", "1", "--states", "1", "--threads", "1"),
		k.steno("steno, one window after the other, all threads", model, "q8_0", "--jobs", "1", "--states", "1",
			"--threads", strconv.Itoa(k.Threads)),
	}
}

// cores gives steno and the fastest peer a part of the machine.
func cores(k Kit, model string) []Contender {
	var all []Contender
	for n := 1; n <= max(4, k.Threads); n *= 2 {
		few := k
		few.Threads = n
		for _, c := range []Contender{
			few.steno("steno", model, "q8_0", live), few.fasterWhisper("faster-whisper int8, batched", model, "int8", 1, 8),
		} {
			c = k.onCores(c, n)
			c.Name += fmt.Sprintf(", cores: %d", n)
			all = append(all, c)
		}
	}
	return all
}

func filesAtOnce(k Kit, model string) []Contender {
	var all []Contender
	for n := 1; n <= 16; n *= 2 {
		c := k.steno(fmt.Sprintf("steno, files at once: %d", n), model, "q8_0", "--jobs", strconv.Itoa(n), live)
		if n > 1 {
			c.Copies, c.Single = n, all[0].Name
		}
		all = append(all, c)
	}
	return all
}

func alone(k Kit, model string) []Contender {
	return []Contender{k.steno("steno", model, "q8_0", live)}
}

func plan(k Kit, model string) []Contender {
	return []Contender{
		k.steno("default", model, "q8_0"),
		k.steno("loudness classic", model, "q8_0", "--loudness", "classic"),
		k.steno("loudness off", model, "q8_0", "--loudness", "off"),
		k.steno("silence kept", model, "q8_0", "--silence", "keep"),
		k.steno("classic, silence kept", model, "q8_0", "--loudness", "classic", "--silence", "keep"),
	}
}

func chunks(k Kit, model string) []Contender {
	all := []Contender{k.steno("default", model, "q8_0")}
	for _, s := range []string{"10", "15", "20", "25", "30", "60", "120", "300"} {
		all = append(all, k.steno(s+" s", model, "q8_0", "--chunk", s))
	}
	return all
}

func states(k Kit, model string) []Contender {
	all := []Contender{k.steno("default", model, "q8_0")}
	for s := 1; s <= 4*k.Threads; s *= 2 {
		for t := 1; t <= k.Threads; t *= 2 {
			all = append(all, k.steno(fmt.Sprintf("%d × %d", s, t), model, "q8_0",
				"--states", strconv.Itoa(s), "--threads", strconv.Itoa(t)))
		}
	}
	return all
}

func weightTypes(k Kit, model string) []Contender {
	var all []Contender
	for _, w := range []string{"q8_0", "f16", "q5_1"} {
		all = append(all, k.steno("steno "+w, model, w))
	}
	for _, w := range []string{"q8_0", "f16", "q5_1"} {
		all = append(all, k.whisperCLI("whisper-cli "+w, model, w, "-bs", "1"))
	}
	return all
}

func kernels(k Kit, model string) []Contender {
	var all []Contender
	for _, w := range []string{"q8_0", "f16"} {
		all = append(all, k.steno("auto, "+w, model, w), k.steno("ggml, "+w, model, w, "--kernels", "ggml"))
	}
	return all
}

// flash and context1500 ask the engine that steno is built on: steno chooses both for itself and has no setting.
func flash(k Kit, model string) []Contender {
	return []Contender{
		k.steno("steno", model, "q8_0"),
		k.whisperCLI("whisper-cli q8_0, with", model, "q8_0", "-bs", "1", "-fa"),
		k.whisperCLI("whisper-cli q8_0, without", model, "q8_0", "-bs", "1", "-nfa"),
		k.whisperCLI("whisper-cli f16, with", model, "f16", "-bs", "1", "-fa"),
		k.whisperCLI("whisper-cli f16, without", model, "f16", "-bs", "1", "-nfa"),
	}
}

func context1500(k Kit, model string) []Contender {
	all := []Contender{k.steno("steno, sized to the audio", model, "q8_0")}
	for _, positions := range []string{"1500", "1200", "900", "600"} { // of 20 ms
		all = append(all, k.whisperCLI("whisper-cli q8_0, "+positions, model, "q8_0", "-bs", "1", "-ac", positions))
	}
	return all
}

func formats(k Kit, model string) []Contender {
	all := []Contender{k.steno("as it is", model, "q8_0")}
	for _, f := range encodings {
		c := k.steno(f.name, model, "q8_0")
		c.Format = f.name
		all = append(all, c)
	}
	return all
}

// encoding is a format with what ffmpeg has to be told for it.
type encoding struct {
	name, ext string
	args      []string
}

// encodings are the formats that contenders can be given.
var encodings = []encoding{
	{"wav", "wav", []string{"-ar", "16000", "-ac", "1", "-c:a", "pcm_s16le"}}, // what Whisper itself takes
	{"flac", "flac", []string{"-c:a", "flac"}},
	{"mp3", "mp3", []string{"-c:a", "libmp3lame", "-b:a", "128k"}},
	{"m4a", "m4a", []string{"-c:a", "aac", "-b:a", "96k"}},
	{"opus", "opus", []string{"-c:a", "libopus", "-b:a", "32k"}},
	{"vorbis", "ogg", []string{"-c:a", "libvorbis", "-q:a", "4"}},
}
