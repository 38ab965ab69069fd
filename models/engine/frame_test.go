package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"steno/models"
)

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom([]kind{kindHello, kindLoad, kindSegments, kindTranscribe}).Draw(t, "kind")
		id := rapid.Uint32().Draw(t, "id")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 4096).Draw(t, "payload")
		b, err := encode(k, id, payload)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readFrame(bytes.NewReader(b))
		if err != nil || f.kind != k || f.id != id || !bytes.Equal(f.payload, payload) {
			t.Fatalf("read %+v, %v", f, err)
		}
	})
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := models.Request{
			PCM:        rapid.SliceOfN(rapid.Int16(), 1, 5000).Draw(t, "pcm"),
			Language:   rapid.StringN(0, 8, -1).Draw(t, "language"),
			Prompt:     rapid.StringN(0, 100, -1).Draw(t, "prompt"),
			DetectOnly: rapid.Bool().Draw(t, "detect"),
			Translate:  rapid.Bool().Draw(t, "translate"),
			Words:      rapid.Bool().Draw(t, "words"),
			Threads:    rapid.IntRange(1, 64).Draw(t, "threads"),
		}
		b, err := marshalRequest(7, r)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readFrame(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		got, err := unmarshalRequest(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.PCM) != len(r.PCM) || got.Prompt != r.Prompt || got.Language != r.Language || got.Threads != r.Threads ||
			got.DetectOnly != r.DetectOnly || got.Translate != r.Translate || got.Words != r.Words {
			t.Fatalf("sent %+v, got %+v", r, got)
		}
		for i := range r.PCM {
			if got.PCM[i] != r.PCM[i] {
				t.Fatalf("sample %d: sent %d, got %d", i, r.PCM[i], got.PCM[i])
			}
		}
	})
}

func TestRequestLimits(t *testing.T) {
	for name, r := range map[string]models.Request{
		"no samples":  {},
		"too long":    {PCM: make([]int16, maxSamples+1)},
		"long prompt": {PCM: make([]int16, 1), Prompt: string(bytes.Repeat([]byte("a"), maxMeta))},
	} {
		if _, err := marshalRequest(1, r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b, err := marshalRequest(1, models.Request{PCM: make([]int16, maxSamples)})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := readFrame(bytes.NewReader(b)); err != nil || len(f.payload) < 2*maxSamples {
		t.Errorf("the longest request: %d bytes, %v", len(f.payload), err)
	}
}

func header(n uint32, k byte) []byte {
	b := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(b, n)
	b[4] = k
	return b
}

func TestReadFrameErrors(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"between frames":   {nil, io.EOF},
		"in a header":      {[]byte{1, 0, 0}, io.ErrUnexpectedEOF},
		"in a payload":     {append(header(9, byte(kindHello)), 'a'), io.ErrUnexpectedEOF},
		"before a payload": {header(9, byte(kindHello)), io.ErrUnexpectedEOF},
		"no such type":     {header(0, 99), ErrProtocol},
		"type zero":        {header(0, 0), ErrProtocol},
		"huge":             {header(1<<32-1, byte(kindTranscribe)), ErrProtocol},
		"over its type":    {header(1, byte(kindCancel)), ErrProtocol},
	} {
		if _, err := readFrame(bytes.NewReader(c.in)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := encode(kindHello, 0, make([]byte, 5<<10)); !errors.Is(err, ErrProtocol) {
		t.Errorf("a frame over its limit was encoded: %v", err)
	}
}

// A header may claim megabytes: they are not allocated before they arrive.
func TestReadFrameAllocatesWhatArrives(t *testing.T) {
	in := header(uint32(kindTranscribe.limit()), byte(kindTranscribe))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := readFrame(bytes.NewReader(in)); err == nil {
			t.Fatal("a frame without its payload was read")
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 128<<10 {
		t.Errorf("%d bytes allocated for an empty payload", got)
	}
}

// FuzzFrames feeds a stream to both sides' decoders: none may panic, and what reads as frames must write back as the same bytes.
func FuzzFrames(f *testing.F) {
	seed := func(b []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(marshal(kindHello, 0, hello{Protocol: protocol, Version: "v1", PID: 1}))
	seed(marshal(kindLoad, 0, load{LoadRequest: LoadRequest{Model: "base", States: 1}, Beat: 1}))
	seed(marshal(kindLoaded, 0, models.Info{Model: "base"}))
	seed(marshal(kindResult, 3, models.Result{Language: "en"}))
	seed(marshal(kindFailed, 3, failure{Kind: failMemory}))
	seed(marshal(kindHeartbeat, 0, []pulse{{ID: 1, Activity: 2}}))
	seed(marshalRequest(1, chunk("echo")))
	seed(encode(kindCancel, 1))
	f.Add(header(1<<31, byte(kindTranscribe)))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for at := 0; ; {
			fr, err := readFrame(r)
			if err != nil {
				return
			}
			if b, err := encode(fr.kind, fr.id, fr.payload); err != nil || !bytes.Equal(b, in[at:at+len(b)]) {
				t.Fatalf("frame at %d writes back as %x, %v", at, b, err)
			}
			at += headerSize + len(fr.payload)
			if req, err := unmarshalRequest(fr); err == nil && 2*len(req.PCM) > len(fr.payload) {
				t.Fatalf("%d samples out of %d bytes", len(req.PCM), len(fr.payload))
			}
			// The parent's whole dispatch, on a process without a child.
			p := &Process{calls: map[uint32]*call{3: {answer: make(chan answer, 1)}}, control: make(chan frame, 2)}
			_ = p.handle(fr)
			if fl, err := unmarshal[failure](fr); err == nil {
				_ = fl.toError().Error()
			}
			_, _ = unmarshal[load](fr)
			_, _ = unmarshal[hello](fr)
		}
	})
}
