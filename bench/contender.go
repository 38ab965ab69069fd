package bench

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"steno/transcript"
)

// A Contender is a named way to transcribe files. Ours and every peer is a child process that reads files and writes text, so
// that one runner measures them all alike. It is not changed once it is made.
type Contender struct {
	Name  string `json:"name"`
	Model string `json:"model"`
	// Weights is the file or folder of weights.
	Weights string `json:"weights"`
	// Format is what the files are converted to beforehand, unmeasured: wav for peers that read little else, which is to their
	// advantage. Empty leaves them as they are.
	Format string `json:"format,omitempty"`
	// Copies is how often each file is given; 0 means once. More than once tells what a file costs when the model is loaded.
	Copies int `json:"copies,omitempty"`
	// Single is the contender that does the same with one copy.
	Single string `json:"single,omitempty"`
	// Streams is set where the first line on standard output is the first segment, so that its time is that of a first result.
	Streams bool `json:"streams"`
	// Absent is why it cannot run here; empty where it can.
	Absent string `json:"absent,omitempty"`

	command func(task) Command
	read    func(stdout []byte, t task) ([]Output, error)
}

// task is what one run of a contender has to do.
type task struct {
	files    []string // absolute
	language string   // ISO 639-1
	scratch  string   // a folder for this run alone
}

// Output is what a contender wrote for one file.
type Output struct {
	Text string
	// Stages are seconds by stage, where the contender tells.
	Stages map[string]float64
}

// Kit says where the programs and weights are. Paths are absolute.
type Kit struct {
	Steno  string // the binary that is measured
	Self   string // this program, for children that ask a server
	Models string // folder of ggml files, as steno keeps it
	CT2    string // folder of CTranslate2 folders, by model
	Peers  string // folder that scripts/peers.sh makes
	// Threads is what every peer is given. Ours chooses for itself.
	Threads int
	Env     []string // environment of every child; nil means that of this process
}

// weights is the file of a model's weights of a type such as q8_0, or why there is none.
func (k Kit) weights(model, kind string) (path, absent string) {
	name := model + "-" + kind
	if kind == "f16" { // what whisper.cpp publishes under the bare name
		name = model
	}
	path = filepath.Join(k.Models, "ggml-"+name+".bin")
	if _, err := os.Stat(path); err != nil {
		return path, fmt.Sprintf("no %s weights of %s in the folder of models", kind, model)
	}
	return path, ""
}

// live is the flag with which ours prints segments before the end. Versions before 2026-11-26 do not know it.
const live = "--live"

// steno is ours with more flags. weights is the type after the dash of a model's name: q8_0 is what it prefers itself.
func (k Kit) steno(name, model, weights string, flags ...string) Contender {
	c := Contender{Name: name, Model: model, Streams: slices.Contains(flags, live)}
	c.Weights, c.Absent = k.weights(model, weights)
	c.command = func(t task) Command {
		args := []string{"transcribe", "-m", model + "-" + weights, "-l", t.language, "--models", k.Models, "--json"}
		args = append(append(args, flags...), t.files...)
		return Command{Path: k.Steno, Args: args, Env: k.Env}
	}
	c.read = readSteno
	return c
}

// onCores is c with no more than the first n cores.
func (k Kit) onCores(c Contender, n int) Contender {
	if n > k.Threads {
		c.Absent = fmt.Sprintf("this machine has fewer cores than %d", n)
	}
	whole := c.command
	c.command = func(t task) Command {
		r := whole(t)
		r.Args = append([]string{"-c", fmt.Sprintf("0-%d", n-1), r.Path}, r.Args...)
		r.Path = "taskset"
		return r
	}
	return c
}

// readSteno reads the objects that steno transcribe prints with --json, one per file beside those of single segments.
func readSteno(stdout []byte, _ task) ([]Output, error) {
	var all []Output
	for dec := json.NewDecoder(bytes.NewReader(stdout)); ; {
		var t struct {
			Segment *transcript.Segment
			transcript.Transcript
		}
		if err := dec.Decode(&t); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what steno wrote: %w", err)
		}
		if t.Segment != nil {
			continue
		}
		s := t.Timings
		all = append(all, Output{Text: t.Text, Stages: map[string]float64{
			"probe": s.Probe, "prepare": s.Prepare, "split": s.Split, "load": s.ModelLoad, "transcribe": s.Transcribe,
			"merge": s.Merge, "total": s.Total,
		}})
	}
}

// whisperCLI is whisper.cpp's own program on the same files of weights.
func (k Kit) whisperCLI(name, model, weights string, flags ...string) Contender {
	c := Contender{Name: name, Model: model, Format: "wav", Streams: true}
	c.Weights, c.Absent = k.weights(model, weights)
	bin := filepath.Join(k.Peers, "bin", "whisper-cli")
	if _, err := os.Stat(bin); err != nil {
		c.Absent = "whisper-cli is not built: run scripts/peers.sh"
	}
	c.command = func(t task) Command {
		args := []string{"-m", c.Weights, "-l", t.language, "-t", strconv.Itoa(k.Threads), "-np", "-oj"}
		args = append(args, flags...)
		for i, file := range t.files {
			args = append(args, "-of", filepath.Join(t.scratch, strconv.Itoa(i)), "-f", file)
		}
		return Command{Path: bin, Args: args, Env: k.Env}
	}
	c.read = func(_ []byte, t task) ([]Output, error) {
		all := make([]Output, len(t.files))
		for i := range t.files {
			data, err := os.ReadFile(filepath.Join(t.scratch, strconv.Itoa(i)+".json"))
			if err != nil {
				return nil, fmt.Errorf("read what whisper-cli wrote: %w", err)
			}
			tr, err := parseWhisperCLI(data)
			if err != nil {
				return nil, fmt.Errorf("read what whisper-cli wrote: %w", err)
			}
			all[i].Text = tr.Text
		}
		return all, nil
	}
	return c
}

// vadFlags give whisper-cli the voice activity model that steno uses, too.
func (k Kit) vadFlags() []string {
	return []string{"--vad", "-vm", filepath.Join(k.Models, "ggml-silero-v6.2.0.bin")}
}

//go:embed peers/fasterwhisper.py
var fasterWhisperRunner []byte

//go:embed peers/openaiwhisper.py
var openAIWhisperRunner []byte

// fasterWhisper is the Python package on the CTranslate2 form of the same weights. batch is how many windows it decodes
// together; 0 is its plain mode.
func (k Kit) fasterWhisper(name, model, compute string, beam, batch int) Contender {
	c := Contender{Name: name, Model: model, Weights: filepath.Join(k.CT2, model), Streams: true}
	if _, err := os.Stat(filepath.Join(c.Weights, "model.bin")); err != nil {
		c.Absent = "no CTranslate2 weights of " + model
	}
	return k.python(c, "faster_whisper", fasterWhisperRunner,
		"--compute", compute, "--beam", strconv.Itoa(beam), "--batch", strconv.Itoa(batch))
}

// openAIWhisper is the original, which wants torch and weights of its own form.
func (k Kit) openAIWhisper(name, model string) Contender {
	c := Contender{Name: name, Model: model, Weights: filepath.Join(k.Peers, "openai", model+".pt")}
	if _, err := os.Stat(c.Weights); err != nil {
		c.Absent = "no weights of " + model + " in OpenAI's own form"
	}
	return k.python(c, "whisper", openAIWhisperRunner)
}

// python completes c, a package of the environment in Peers that a program of ours runs.
func (k Kit) python(c Contender, module string, program []byte, flags ...string) Contender {
	bin := filepath.Join(k.Peers, "python", "bin", "python")
	installed, _ := filepath.Glob(filepath.Join(k.Peers, "python", "lib", "python3*", "site-packages", module)) // well-formed
	if len(installed) == 0 {
		c.Absent = "its Python package is not installed: run scripts/peers.sh"
	}
	weights := c.Weights
	c.command = func(t task) Command {
		// -I leaves out what the user has installed, -c takes the program as it is in this binary.
		args := []string{"-I", "-c", string(program), "--weights", weights, "--language", t.language,
			"--threads", strconv.Itoa(k.Threads)}
		args = append(append(args, flags...), t.files...)
		return Command{Path: bin, Args: args, Env: withEnv(k.environ(), "HF_HUB_OFFLINE=1")}
	}
	c.read = readPython
	return c
}

func (k Kit) environ() []string {
	if k.Env == nil {
		return os.Environ()
	}
	return k.Env
}

// readPython reads the lines of the programs in peers/: segments as they come, then one result per file.
func readPython(stdout []byte, _ task) ([]Output, error) {
	var all []Output
	for line := range bytes.Lines(stdout) {
		var result struct {
			Text *string
			Load float64
			Run  float64
		}
		if err := json.Unmarshal(line, &result); err != nil {
			return nil, fmt.Errorf("read what the peer wrote: %w: %q", err, line)
		}
		if result.Text != nil {
			all = append(all, Output{Text: *result.Text, Stages: map[string]float64{"load": result.Load, "transcribe": result.Run}})
		}
	}
	return all, nil
}
