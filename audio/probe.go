package audio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"steno/internal/proc"
	"steno/job"
)

// Tools are the programs that decode. Copies share the limit.
type Tools struct {
	FFmpeg, FFprobe string // paths
	// Limit bounds how many of them run at the same time over all jobs; nil does not.
	Limit Limit
	// Scratch is the folder for audio that is kept between measuring and reading: 32 kB for each second of a file, without a
	// name and gone with its Stream. It should be on a disk, not in memory. Default: the system's folder for temporary files.
	Scratch string
	// MaxScratch is the most bytes that one Stream keeps there. A longer file is decoded a second time instead. Default 1 GiB,
	// nine hours; a negative number keeps nothing.
	MaxScratch int64
	// Sandbox confines both programs to the file that they read. nil is one that does so where it can.
	Sandbox *proc.Sandbox
}

// confinement is all that ffprobe and ffmpeg need for a file: they write to pipes alone. An hour is ten times what the longest
// file takes.
func confinement(path string) proc.Confinement {
	return proc.Confinement{Read: []string{path}, CPU: time.Hour, Memory: 4 << 30}
}

// Limit is taken before a program starts and given back when it has ended.
type Limit interface {
	Acquire(ctx context.Context, n int64) error
	Release(n int64)
}

// FindTools looks both programs up in the search path.
func FindTools() (Tools, error) {
	var t Tools
	for name, path := range map[string]*string{"ffmpeg": &t.FFmpeg, "ffprobe": &t.FFprobe} {
		p, err := exec.LookPath(name)
		if err != nil {
			return Tools{}, job.Errorf(job.Internal, "FFMPEG_MISSING",
				"%s is not installed: install the package ffmpeg, or name its path in the configuration", name)
		}
		*path = p
	}
	return t, nil
}

// Info is what ffprobe says of a file's first audio stream. It is a claim: what decodes decides.
type Info struct {
	Format     string  `json:"format"` // ffprobe's name of the container
	Codec      string  `json:"codec"`
	Duration   float64 `json:"duration"` // seconds, 0 where the container does not say
	Exact      bool    `json:"exact"`    // whether the container records Duration, rather than ffprobe guessing it from the bit rate
	Size       int64   `json:"size"`     // bytes
	BitRate    int64   `json:"bit_rate"` // bits per second of the stream, or of the file where the stream does not say
	Channels   int     `json:"channels"`
	SampleRate int     `json:"sample_rate"` // Hz
}

// formats are the demuxers that may touch a user's file: those of audio and video files, and none that reads other files
// or the network (hls, dash, concat, sdp …). Without the list a playlist named song.mp3 is followed.
const formats = "wav,w64,mp3,aac,flac,ogg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts," +
	"aiff,caf,au,amr,ac3,ape,wv,tta,gsm"

// exactFormats record how long they are. An mp3 without a Xing header does not, and neither do raw streams.
var exactFormats = []string{"wav", "w64", "flac", "mov", "aiff", "caf", "matroska", "au"}

// inputArgs keep a decoder to this one local file.
func inputArgs(path string) []string {
	return []string{"-protocol_whitelist", "file", "-format_whitelist", formats, "-max_alloc", "268435456", "-i", "file:" + path}
}

// Probe asks ffprobe what the file is. Errors are of class INPUT: FILE_NOT_FOUND, FILE_EMPTY, NOT_MEDIA, FORMAT_NOT_ALLOWED,
// NO_AUDIO_STREAM, ENCRYPTED.
func Probe(ctx context.Context, t Tools, path string) (Info, error) {
	abs, size, err := regular(path)
	if err != nil {
		return Info{}, err
	}
	args := append([]string{"-v", "error", "-of", "json", "-show_format", "-show_streams"}, inputArgs(abs)...)
	out, stderr, err := t.output(ctx, t.FFprobe, args, abs)
	if ctx.Err() != nil {
		return Info{}, context.Cause(ctx)
	}
	var exit *proc.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Info{}, job.Errorf(job.Internal, "FFPROBE", "run ffprobe: %w", err)
	}
	if err != nil {
		return Info{}, refused(abs, stderr)
	}
	info, err := parseProbe(out)
	if err != nil {
		return Info{}, err
	}
	info.Size = size
	return info, nil
}

// regular checks that path is a file with something in it.
func regular(path string) (abs string, size int64, err error) {
	abs, err = filepath.Abs(path)
	if err != nil {
		return "", 0, job.Errorf(job.Input, "FILE_NOT_FOUND", "%q is no path: %w", path, err)
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, job.Errorf(job.Input, "FILE_NOT_FOUND", "there is no file %s: check the path", filepath.Base(abs))
	case err != nil:
		return "", 0, job.Errorf(job.Input, "FILE_NOT_FOUND", "%s cannot be read: %w", filepath.Base(abs), err)
	case !st.Mode().IsRegular():
		return "", 0, job.Errorf(job.Input, "FILE_NOT_FOUND", "%s is not a regular file: name an audio or video file",
			filepath.Base(abs))
	case st.Size() == 0:
		return "", 0, job.Errorf(job.Input, "FILE_EMPTY", "the file is empty: upload it again")
	}
	return abs, st.Size(), nil
}

// refused names why ffprobe would not open a file.
func refused(path, stderr string) error {
	switch {
	case strings.Contains(stderr, "not on whitelist") || strings.Contains(stderr, "Format not on whitelist"):
		return job.Errorf(job.Input, "FORMAT_NOT_ALLOWED",
			"the file is a playlist or of a format that is not taken: send the audio or video file itself")
	case strings.Contains(stderr, "moov atom not found") && isMP4(path):
		return job.Errorf(job.Input, "TRUNCATED", "the file ends before its index (no moov atom): get the whole file and send it again")
	case isText(path):
		return job.Errorf(job.Input, "NOT_MEDIA", "the file is text, not audio or video: send a recording")
	}
	// Where the file lies is nobody's business but ours.
	why := strings.TrimPrefix(strings.TrimPrefix(lastLine(stderr), "file:"+path), ": ")
	return job.Errorf(job.Input, "NOT_MEDIA", "the file is not audio or video that ffmpeg can read: send a recording (%s)", why)
}

// isMP4 reports whether the file starts as an MP4 does: its name alone makes ffprobe say that the index is missing.
func isMP4(path string) bool { return len(head(path)) >= 8 && string(head(path)[4:8]) == "ftyp" }

// isText reports whether the file starts like text: a web page that was saved instead of a download is the usual case.
func isText(path string) bool {
	h := head(path)
	return len(h) > 0 && !bytes.ContainsFunc(h, func(r rune) bool { return r < 9 || (r > 13 && r < 32) || r == 0xfffd })
}

// head is the first 512 bytes of a file, or what can be read of them.
func head(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	h := make([]byte, 512)
	n, _ := io.ReadFull(f, h)
	return h[:n]
}

type probeJSON struct {
	Format struct {
		Name     string `json:"format_name"`
		Duration string `json:"duration"`
		BitRate  string `json:"bit_rate"`
	} `json:"format"`
	Streams []struct {
		Type       string `json:"codec_type"`
		Codec      string `json:"codec_name"`
		Tag        string `json:"codec_tag_string"`
		Channels   int    `json:"channels"`
		SampleRate string `json:"sample_rate"`
		BitRate    string `json:"bit_rate"`
		Duration   string `json:"duration"`
	} `json:"streams"`
}

func parseProbe(out []byte) (Info, error) {
	var p probeJSON
	if err := json.Unmarshal(out, &p); err != nil {
		return Info{}, job.Errorf(job.Internal, "FFPROBE", "read what ffprobe says: %w", err)
	}
	for _, s := range p.Streams {
		if s.Type != "audio" {
			continue
		}
		if s.Tag == "enca" || s.Tag == "drms" {
			return Info{}, job.Errorf(job.Input, "ENCRYPTED", "the audio is encrypted (DRM): send a copy without protection")
		}
		info := Info{
			Format: p.Format.Name, Codec: s.Codec, Channels: s.Channels,
			SampleRate: int(number(s.SampleRate)), BitRate: int64(first(number(s.BitRate), number(p.Format.BitRate))),
			Duration: first(number(s.Duration), number(p.Format.Duration)),
		}
		for _, f := range exactFormats {
			info.Exact = info.Exact || (info.Duration > 0 && strings.HasPrefix(info.Format, f))
		}
		if s.Codec == "" || s.Codec == "unknown" {
			return Info{}, job.Errorf(job.Input, "ENCRYPTED",
				"the audio stream's codec is not known to ffmpeg: convert the file to mp3, m4a or wav")
		}
		return info, nil
	}
	return Info{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "the file has no audio stream: send one with sound")
}

// number is what ffprobe wrote, or 0 for "N/A" and nonsense.
func number(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > 1e12 {
		return 0
	}
	return f
}

func first(fs ...float64) float64 {
	for _, f := range fs {
		if f > 0 {
			return f
		}
	}
	return 0
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// environment is all that a decoder sees of ours.
func environment() []string { return []string{"LC_ALL=C", "PATH=/usr/bin:/bin"} }

// output runs a program on the file at path to its end and returns what it printed.
func (t Tools) output(ctx context.Context, program string, args []string, path string) (stdout []byte, stderr string, err error) {
	if t.Limit != nil {
		if err := t.Limit.Acquire(ctx, 1); err != nil {
			return nil, "", fmt.Errorf("wait for a free %s: %w", filepath.Base(program), err)
		}
		defer t.Limit.Release(1)
	}
	var out bytes.Buffer
	tail := &proc.Tail{}
	cmd, err := t.Sandbox.Start(func() (*exec.Cmd, error) {
		cmd := proc.Command(ctx, program, args...)
		cmd.Env = environment()
		cmd.Stdout, cmd.Stderr = &out, tail
		return cmd, nil
	}, confinement(path))
	if err != nil {
		return nil, "", fmt.Errorf("start %s: %w", program, err)
	}
	err = proc.Explain(ctx, cmd, cmd.Wait())
	return out.Bytes(), tail.String(), err
}
