package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/job"
)

// vadFile is the content of the smallest model of the registry.
func vadFile(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(testmedia.Model(t, VADName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newStore returns a store in an empty folder, which holds the VAD model if data is given.
func newStore(t testing.TB, vad []byte) *Store {
	t.Helper()
	s := NewStore(Config{Dir: t.TempDir()})
	if vad != nil {
		write(t, filepath.Join(s.cfg.Dir, fileOf(VADName)), vad)
	}
	return s
}

// wantCode checks that err is one for users with the code, and that its message says all of says.
func wantCode(t *testing.T, err error, code string, says ...string) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want code %s", err, code)
		return
	}
	for _, text := range says {
		if !strings.Contains(e.Message, text) {
			t.Errorf("message %q lacks %q", e.Message, text)
		}
	}
}

func TestOpenGivesTheVerifiedFile(t *testing.T) {
	data := vadFile(t)
	s := newStore(t, data)
	f, e, err := s.Open(t.Context(), "ggml-silero-v6.2.0.bin")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, data) || e.Name != VADName {
		t.Errorf("%s: %d bytes, %v; want the whole file", e.Name, len(got), err)
	}
}

func TestVerifySaysWhatIsWrong(t *testing.T) {
	vad := vadFile(t)
	flipped := bytes.Clone(vad)
	flipped[len(flipped)/2] ^= 1
	tinyGGML := convert(t, newCT2(tinyShape, ctFloat16).write(t), F16)
	badLayers := bytes.Clone(tinyGGML)
	badLayers[5*4] = 99
	head := func(s string) []byte { return append([]byte(s), make([]byte, 100)...) }
	for _, c := range []struct {
		name  string
		model string
		data  []byte
		code  string
		says  string
	}{
		{"empty", "base", nil, "MODEL_FOREIGN", "is empty"},
		{"short", "base", tinyGGML[:100000], "MODEL_SHORT", "100000 of 147951465 bytes: run `steno models pull base`"},
		{"another model", "tiny", append(tinyGGML, make([]byte, 100<<20)...), "MODEL_DAMAGED", "checksum"},
		{"impossible numbers", "tiny", append(badLayers, make([]byte, 100<<20)...), "MODEL_DAMAGED", "audio layers is 99"},
		{"a bit flipped", VADName, flipped, "MODEL_DAMAGED", "steno models pull " + VADName},
		{"cut by one byte", VADName, vad[:len(vad)-1], "MODEL_SHORT", "885097 of 885098"},
		{"GGUF", "base", head("GGUF\x03"), "MODEL_FOREIGN", "GGUF"},
		{"web page", "base", []byte("\n <!DOCTYPE html><title>Log in</title>"), "MODEL_FOREIGN", "web page"},
		{"CTranslate2", "base", newCT2(tinyShape, ctFloat16).bin(), "MODEL_FOREIGN", "steno models convert"},
		{"safetensors", "base", head("\x10\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\""), "MODEL_FOREIGN", "safetensors"},
		{"checkpoint", "base", head("PK\x03\x04"), "MODEL_FOREIGN", "PyTorch"},
		{"LFS pointer", "base", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:60ed"), "MODEL_FOREIGN", "git lfs pull"},
		{"something else", "tiny", bytes.Repeat([]byte("x"), 80<<20), "MODEL_FOREIGN", "not a ggml file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t, nil)
			path, err := s.Path(c.model)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, c.data)
			_, err = s.Verify(t.Context(), c.model)
			wantCode(t, err, c.code, path, c.says)
		})
	}
	s := newStore(t, nil)
	_, err := s.Verify(t.Context(), "base")
	wantCode(t, err, "MODEL_MISSING", "steno models pull base")
	_, err = s.Verify(t.Context(), "huge")
	wantCode(t, err, "MODEL_UNKNOWN", "huge", "large-v3-turbo")
	if err := os.Mkdir(filepath.Join(s.cfg.Dir, "ggml-base.bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = s.Verify(t.Context(), "base")
	wantCode(t, err, "MODEL_FOREIGN", "not a regular file")
}

func TestVerifyNamesASwappedModel(t *testing.T) {
	s := newStore(t, nil)
	data, err := os.ReadFile(testmedia.Model(t, "base-q8_0"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.cfg.Dir, "ggml-tiny.bin"), data)
	_, err = s.Verify(t.Context(), "tiny")
	wantCode(t, err, "MODEL_FOREIGN", "another model than tiny")
}

// count makes a context that tells how often it was asked: reading a file asks it for each piece, a remembered checksum never.
type count struct {
	context.Context
	asked int
}

func (c *count) Err() error {
	c.asked++
	return c.Context.Err()
}

func TestVerifyReadsOnceButSeesASwap(t *testing.T) {
	vad := vadFile(t)
	s := newStore(t, vad)
	s.settle = -time.Hour // the file is new, and nothing writes to it within a tick of the clock here
	reads := func() bool {
		t.Helper()
		ctx := &count{Context: t.Context()}
		if _, err := s.Verify(ctx, VADName); err != nil {
			t.Error(err)
		}
		return ctx.asked > 0
	}
	if !reads() || reads() {
		t.Error("want the file read at first and not again")
	}
	path := filepath.Join(s.cfg.Dir, fileOf(VADName))
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(vad)
	bad[100000] ^= 1

	// In place, size and modification time as before.
	time.Sleep(20 * time.Millisecond) // the change time has steps of a few milliseconds
	write(t, path, bad)
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Verify(t.Context(), VADName)
	wantCode(t, err, "MODEL_DAMAGED")

	// By another file under the same name, there and back.
	write(t, path+".good", vad)
	if err := os.Rename(path+".good", path); err != nil {
		t.Fatal(err)
	}
	if !reads() {
		t.Error("a file swapped for another was not read")
	}
}

func TestVerifyDoesNotTrustAFreshFile(t *testing.T) {
	s := newStore(t, vadFile(t))
	for range 2 {
		ctx := &count{Context: t.Context()}
		if _, err := s.Verify(ctx, VADName); err != nil || ctx.asked == 0 {
			t.Errorf("error %v, read %t: want it read each time, for it may change without a trace", err, ctx.asked > 0)
		}
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	s := newStore(t, vadFile(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ctx, VADName); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// put lays a file of the right size, as List and Resolve look for, without its content.
func put(t *testing.T, s *Store, names ...string) {
	t.Helper()
	for _, name := range names {
		e, err := s.Entry(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.path(e), nil)
		if err := os.Truncate(s.path(e), e.Size); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		name   string
		have   []string
		ask    string
		prefer []Type
		want   string
		reason string
		code   string
		says   string
	}{
		{name: "the preferred type", have: []string{"base", "base-q8_0"}, ask: "base", prefer: []Type{Q8}, want: "base-q8_0",
			reason: "q8_0 is preferred"},
		{name: "only as named", have: []string{"base"}, ask: "whisper-base", prefer: []Type{Q8}, want: "base",
			reason: "no preferred type"},
		{name: "no preference", have: []string{"base", "base-q8_0"}, ask: "base", want: "base", reason: "base is here"},
		{name: "second choice", have: []string{"turbo-q5_0"}, ask: "turbo", prefer: []Type{Q8, "q5_0"}, want: "large-v3-turbo-q5_0",
			reason: "q5_0 is preferred"},
		{name: "by type", have: []string{"base", "base-q8_0", "base-q5_1"}, ask: "base-q5_1", prefer: []Type{Q8}, want: "base-q5_1",
			reason: "asked for"},
		{name: "by type, not here", have: []string{"base"}, ask: "base-q8_0", code: "MODEL_MISSING", says: "pull base-q8_0"},
		{name: "nothing", ask: "base", prefer: []Type{Q8}, code: "MODEL_MISSING", says: "steno models pull base-q8_0"},
		{name: "nothing, no preference", ask: "base", code: "MODEL_MISSING", says: "steno models pull base`"},
		{name: "another model", have: []string{"base"}, ask: "tiny", code: "MODEL_MISSING", says: "pull tiny"},
		{name: "unknown", ask: "huge", code: "MODEL_UNKNOWN", says: "choose one of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t, nil)
			put(t, s, c.have...)
			e, reason, err := s.Resolve(c.ask, c.prefer)
			if c.code != "" {
				wantCode(t, err, c.code, c.says)
				return
			}
			if err != nil || e.Name != c.want || !strings.Contains(reason, c.reason) {
				t.Errorf("%s, %q, %v; want %s, %q", e.Name, reason, err, c.want, c.reason)
			}
		})
	}
}

func TestResolveLeavesABrokenFileToVerify(t *testing.T) {
	s := newStore(t, nil)
	write(t, filepath.Join(s.cfg.Dir, "ggml-base-q8_0.bin"), []byte("cut off"))
	e, reason, err := s.Resolve("base", []Type{Q8})
	if err != nil || e.Name != "base-q8_0" || !strings.Contains(reason, "not whole") {
		t.Errorf("%q, %q, %v", e.Name, reason, err)
	}
	put(t, s, "base")
	if e, _, err := s.Resolve("base", []Type{Q8}); err != nil || e.Name != "base" {
		t.Errorf("%q, %v: want the file that is whole", e.Name, err)
	}
}

func TestConvertIntoTheStore(t *testing.T) {
	src := newCT2(tinyShape, ctFloat16).write(t)
	s := newStore(t, nil)
	e, err := s.Convert(t.Context(), src, "mine", Q8, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "mine-q8_0" || e.File != "ggml-mine-q8_0.bin" || e.Type != Q8 || !strings.Contains(e.Source, "SHA-256 ") {
		t.Errorf("entry %+v", e)
	}
	// Another process has only what is on the disk.
	fresh := NewStore(Config{Dir: s.cfg.Dir})
	if got, err := fresh.Verify(t.Context(), "mine-q8_0"); err != nil || got != e {
		t.Errorf("verified %+v, %v, want %+v", got, err, e)
	}
	if got, _, err := fresh.Resolve("mine-q8_0", nil); err != nil || got != e {
		t.Errorf("resolved %+v, %v", got, err)
	}
	list, err := fresh.List()
	if err != nil || len(list) != 37 || list[36].Entry != e || !list[36].Present || list[0].Present {
		t.Errorf("%d in the list, %v: %+v", len(list), err, list[len(list)-1])
	}
	path := s.path(e)
	write(t, path, convert(t, newCT2(shape{
		vocabulary: 300, audioContext: 6, audioState: 64, audioHeads: 1, audioLayers: 1,
		textContext: 4, textState: 64, textHeads: 1, textLayers: 1, mel: 80,
	}, ctFloat16).write(t), Q8))
	_, err = fresh.Verify(t.Context(), "mine-q8_0")
	wantCode(t, err, "MODEL_SHORT", "convert it again")
	if err := fresh.Remove("mine-q8_0"); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(s.cfg.Dir); len(left) != 0 {
		t.Errorf("left after Remove: %v", left)
	}
	_, err = fresh.Entry("mine-q8_0")
	wantCode(t, err, "MODEL_UNKNOWN")
}

func TestConvertKeepsRegistryNamesForThePublished(t *testing.T) {
	src := newCT2(tinyShape, ctFloat16).write(t)
	s := newStore(t, nil)
	_, err := s.Convert(t.Context(), src, "base", Q8, nil)
	wantCode(t, err, "MODEL_NAME", "not the published base-q8_0")
	_, err = s.Convert(t.Context(), src, "../base", Q8, nil)
	wantCode(t, err, "MODEL_NAME", "small letters")
	s.free = func(string) (int64, error) { return 1 << 20, nil }
	_, err = s.Convert(t.Context(), src, "mine", Q8, nil)
	wantCode(t, err, "DISK_FULL")
	if left, _ := os.ReadDir(s.cfg.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A record beside a file must not make the registry's name mean anything else, nor point out of the folder.
func TestRecordsCannotMislead(t *testing.T) {
	s := newStore(t, nil)
	forge := func(file string, e Entry) {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.cfg.Dir, file), raw)
	}
	sum := strings.Repeat("00", 32)
	forge("ggml-base.bin.json", Entry{Name: "base", Size: 1, SHA256: sum})
	forge("ggml-mine.bin.json", Entry{
		Name: "mine", File: "../../etc/passwd", Size: 1, SHA256: sum, Repo: "x", Model: "y", Type: "z",
	})
	forge("ggml-other.bin.json", Entry{Name: "mine", Size: 1, SHA256: sum})
	forge("ggml-nosum.bin.json", Entry{Name: "nosum", Size: 1})
	write(t, filepath.Join(s.cfg.Dir, "ggml-broken.bin.json"), []byte("{"))

	if e, err := s.Entry("base"); err != nil || e.Size != 147951465 {
		t.Errorf("base is %+v, %v", e, err)
	}
	want := Entry{Name: "mine", File: "ggml-mine.bin", Size: 1, SHA256: sum, Model: "mine", Type: F16}
	if e, err := s.Entry("mine"); err != nil || e != want {
		t.Errorf("mine is %+v, %v, want %+v", e, err, want)
	}
	for _, name := range []string{"other", "nosum", "broken"} {
		if e, err := s.Entry(name); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is %+v, %v, want an error about its record", name, e, err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 37 {
		t.Errorf("%d in the list, %v, want the registry and one more", len(list), err)
	}
}
