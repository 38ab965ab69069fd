package voices

import (
	"archive/zip"
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"steno/internal/mutate"
)

const (
	tensorOf  = "ctorch._utils\n_rebuild_tensor_v2\n"
	storageOf = "(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpuK\x06tQ"
	named     = "X\x01\x00\x00\x00w"
	hooks     = "\x89ccollections\nOrderedDict\n)R"
	small     = "\x80\x02}q\x00(" + named + tensorOf + "(" + storageOf + "K\x00K\x02K\x03\x86K\x03K\x01\x86" + hooks + "tRu."
)

func TestReadPickle(t *testing.T) {
	got, err := readPickle([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	w := got["w"]
	if len(got) != 1 || w.storage != (storage{"torch.FloatStorage", "a", 6}) || w.offset != 0 ||
		!slices.Equal(w.dims, []int{2, 3}) || !slices.Equal(w.strides, []int{3, 1}) {
		t.Errorf("it reads %+v", got)
	}
	for _, c := range []struct{ name, pickle, want string }{
		{"nothing", "", "it ends early"},
		{"no end", small[:len(small)-1], "it ends early"},
		{"a long text", "X\xff\xff\xff\xff.", "at byte 0 of the pickle: it ends early"},
		{"a name without its line", "ccollections", "it ends early"},
		{"no dict", "K\x01.", "it holds int, not a state dict"},
		{"no result", ".", "it holds <nil>, not a state dict"},
		{"no tensor", "}" + named + "K\x01s.", `"w" is int, not a tensor`},
		{"an unknown instruction", "\xff", "the instruction 0xff has no place in a state dict"},
		{"a list", "]", "the instruction 0x5d has no place in a state dict"},
		{"a new object", "\x81", "the instruction 0x81"},
		{"a built-in function", "cbuiltins\neval\n", `"builtins.eval" has no place in a state dict`},
		{"a function of torch", "ctorch\nload\n", `"torch.load" has no place in a state dict`},
		{"a storage's namesake", "cos\nmyStorage\n", `"os.myStorage" has no place in a state dict`},
		{"a call of a class", "ctorch\nFloatStorage\n)R", "it calls voices.global with 0 values"},
		{"a call of a text", named + ")R", "it calls string with 0 values"},
		{"a call without a tuple", "ccollections\nOrderedDict\nK\x01R", "it calls voices.global with 0 values"},
		{"a dict of something", "ccollections\nOrderedDict\n" + named + "\x85R", "it calls voices.global with 1 values"},
		{"a tensor of a text", tensorOf + "(" + named + "K\x00))tR", "a tensor is made of string, int, voices.tuple and voices.tuple"},
		{"a tensor of nothing", tensorOf + ")R", "it calls voices.global with 0 values"},
		{"dimensions of text", tensorOf + "(" + storageOf + "K\x00" + named + "\x85)tR", "a tensor is made of"},
		{"nine dimensions", tensorOf + "(" + storageOf + "K\x00(" + strings.Repeat("K\x01", 9) + "t)tR", "a tensor is made of"},
		{"a storage without a name", ")Q", "voices.tuple of 0 is not the name of a storage"},
		{"a storage by a number", "K\x01Q", "int of 0 is not the name of a storage"},
		{"a storage of numbers", "(X\x07\x00\x00\x00storageK\x01K\x01K\x01K\x01tQ", "a storage has int, int and int for class, key and size"},
		{"a key without a value", "}(" + named + "u", "it puts 1 keys and values into voices.dict"},
		{"a pair for a number", "K\x01" + named + "K\x01s", "it puts 2 keys and values into int"},
		{"a number as key", "}K\x01K\x01s", "a key is int"},
		{"no mark", "t", "it has no mark"},
		{"an empty stack", "\x85", "its stack is empty"},
		{"a value below the mark", "K\x01(\x85", "its stack is empty"},
		{"nothing to keep", "q\x00", "its stack is empty"},
		{"nothing kept", "h\x07", "it has kept no value 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := readPickle([]byte(c.pickle)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, error %v, want %q", got, err, c.want)
			}
		})
	}
}

// What a file claims is not what it has, and takes no memory.
func TestClaimsTakeNoMemory(t *testing.T) {
	tuple := "(" + strings.Repeat("K\x01", 1<<17) + "tq\x00" // named many times
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"a text", pack(t, map[string][]byte{"data.pkl": []byte("X\xff\xff\xff\x7f.")})},
		{"dimensions", pack(t, map[string][]byte{"data.pkl": []byte(tuple + strings.Repeat(tensorOf+"("+storageOf+"K\x00h\x00h\x00tR", 1000))})},
		{"a record", claim(t, 1<<40)},
		{"a record above the pickle's", claim(t, 1<<62)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Embedder(c.data)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 32<<20 {
				t.Errorf("it takes %d bytes, error %v", took, err)
			}
		})
	}
}

// claim makes an archive whose pickle says that it has so many bytes.
func claim(t *testing.T, size uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if _, err := w.CreateRaw(&zip.FileHeader{Name: "archive/data.pkl", UncompressedSize64: size, CompressedSize64: size}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMutantsDoNotPanic(t *testing.T) {
	file := weights(t)
	c, err := openCheckpoint(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	c.left = int64(len(file))
	good, err := c.read("data.pkl", maxPickle)
	if err != nil {
		t.Fatal(err)
	}
	const seed, mutants = 20261128, 400
	rnd := rand.New(rand.NewPCG(seed, 0))
	way := mutate.Any(mutate.Bits, mutate.Number, mutate.Cut, mutate.Repeat, mutate.Bytes, mutate.Swap, mutate.Zeros)
	refused := 0
	for range mutants {
		if _, err := readPickle(mutate.Apply(rnd, way, good, rnd.IntN(len(good)))); err != nil {
			refused++
		}
	}
	// Of the rest most have another name for a tensor or another size, which are looked at when it is read.
	if refused < mutants/2 {
		t.Errorf("seed %d: %d of %d mutants are refused", seed, refused, mutants)
	}
}

// The pickle comes a second time in an archive of its own: chance finds no checksum.
func FuzzEmbedder(f *testing.F) {
	records := map[string][]byte{"data.pkl": []byte(small), "data/a": make([]byte, 24)}
	f.Add(pack(f, records), []byte(small))
	f.Add([]byte("PK\x05\x06"+strings.Repeat("\x00", 18)), []byte("}"+named+"K\x01s."))
	head := strings.NewReplacer(named, "X\x11\x00\x00\x00head.conv1.weight", "K\x06tQ", "M\x20\x01tQ",
		"K\x02K\x03\x86K\x03K\x01\x86", "(K\x20K\x01K\x03K\x03t(K\x09K\x09K\x03K\x01t").Replace(small)
	f.Add([]byte{}, []byte(head))
	f.Fuzz(func(t *testing.T, archive, pickle []byte) {
		around := pack(t, map[string][]byte{"data.pkl": pickle, "data/a": make([]byte, 4*288)})
		for _, data := range [][]byte{archive, around} {
			// The weights of CAM++ are 28 MB.
			if model, err := Embedder(data); err == nil || model != nil {
				t.Errorf("%d bytes give a model of %d, error %v", len(data), len(model), err)
			}
		}
	})
}
