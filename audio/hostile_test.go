package audio

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"steno/job"
)

// playlists are files that name another one, by the form in which they do: %s is what they name.
var playlists = map[string]string{
	"hls":        "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n%s\n#EXT-X-ENDLIST\n",
	"hls master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n%s\n",
	"hls key":    "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXT-X-KEY:METHOD=AES-128,URI=\"%[1]s\"\n#EXT-X-MAP:URI=\"%[1]s\"\n#EXTINF:20,\n%[1]s\n",
	"concat":     "ffconcat version 1.0\nfile '%s'\n",
	"dash": `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" ` +
		`type="static"><Period><AdaptationSet><Representation><BaseURL>%s</BaseURL></Representation></AdaptationSet></Period></MPD>`,
	"sdp":  "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=control:%s\n",
	"asx":  `<asx version="3.0"><entry><ref href="%s"/></entry></asx>`,
	"smil": `<smil><body><audio src="%s"/></body></smil>`,
	"imf":  `<?xml version="1.0"?><AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><Path>%s</Path></AssetMap>`,
	"pls":  "[playlist]\nFile1=%s\nNumberOfEntries=1\n",
}

// Nothing that a file names is opened, on the disk or by the network, whatever the file calls itself: a playlist is no audio.
func TestPlaylistsReachNothing(t *testing.T) {
	tl := tools(t)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			conn.Close()
		}
	}()
	canary := media(t, "canary.mp3", "-f", "lavfi", "-i", "sine=440:d=20")
	tried := 0
	for form, text := range playlists {
		for _, target := range []string{
			canary, "file:" + canary, "canary.mp3", "http://" + ln.Addr().String() + "/a.mp3", "concat:" + canary + "|" + canary,
			"subfile,,start,0,end,0,,:" + canary, "crypto:" + canary, "tcp://" + ln.Addr().String(),
		} {
			name := []string{"a.mp3", "a.mp4", "a.wav", "a.m3u8", "a.ogg"}[tried%5]
			tried++
			path := write(t, name, fmt.Appendf(nil, text, target))
			if data, err := os.ReadFile(canary); err == nil && target == "canary.mp3" { // a neighbour, where the folder has one
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), "canary.mp3"), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, chunks, err := all(t.Context(), tl, path, Want{})
			var je *job.Error
			if !errors.As(err, &je) || je.Class != job.Input || len(chunks) > 0 {
				t.Errorf("%s of %s as %s: %d chunks, %v", form, target, name, len(chunks), err)
			}
		}
	}
	ln.Close()
	<-done
	if reached.Load() != 0 || tried < 60 {
		t.Errorf("of %d files some made %d connections", tried, reached.Load())
	}
	t.Logf("%d files; the listener was reached %d times", tried, reached.Load())
}

// A small file that holds much more than it may is decoded no further than its plan allows, whether it says how long it is or lies, and what is kept of
// it on the disk stays within that.
func TestBombs(t *testing.T) {
	const limit = 20 * time.Second
	tried := 0
	for name, codec := range map[string][]string{
		"a.flac": {"-c:a", "flac"}, "a.ogg": {"-c:a", "libopus", "-b:a", "6k"}, "a.m4a": {"-c:a", "aac", "-b:a", "8k"}, "a.mp3": {"-b:a", "8k"},
	} {
		path := media(t, name, append([]string{"-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono:d=2400"}, codec...)...)
		info, err := Probe(t.Context(), tools(t), path)
		if err != nil {
			t.Fatal(err)
		}
		size, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for how, lie := range map[string]func(*Info){
			"it says so":                 func(*Info) {},
			"it says that it is short":   func(i *Info) { i.Duration = 5 },
			"it does not say how long":   func(i *Info) { i.Duration, i.Exact = 0, false },
			"it says so, and is guessed": func(i *Info) { i.Exact = false },
		} {
			tried++
			tl := keeping(t)
			told := info
			lie(&told)
			began, most := time.Now(), int64(0)
			plan, err := NewPlan(told, Want{}, Resources{Slots: 2, MaxDuration: limit})
			if err == nil {
				stop, watched := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(watched)
					for {
						select {
						case <-stop:
							return
						case <-time.After(5 * time.Millisecond):
							most = max(most, heldBytes(tl.Scratch))
						}
					}
				}()
				var s *Stream
				if s, err = Prepare(t.Context(), tl, path, told, plan); err == nil {
					s.Close()
				}
				close(stop)
				<-watched
			}
			var je *job.Error
			if !errors.As(err, &je) || je.Class != job.Input {
				t.Errorf("%s, %d bytes for forty minutes, %s: %v", name, size.Size(), how, err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%s, %s: it took %v", name, how, took)
			}
			if budget := int64(limit.Seconds()) * Rate * 4; most > budget {
				t.Errorf("%s, %s: %d bytes on the disk, more than %d", name, how, most, budget)
			}
			if left := held(t, tl.Scratch); len(left) > 0 {
				t.Errorf("%s, %s: left are %v", name, how, left)
			}
		}
	}
	t.Logf("%d bombs", tried)
	if tried < 12 {
		t.Errorf("only %d", tried)
	}
}

// heldBytes is the size of the files of a folder that this process has open: they have no names.
func heldBytes(dir string) (n int64) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			if info, err := os.Stat(link); err == nil {
				n += info.Size()
			}
		}
	}
	return n
}
