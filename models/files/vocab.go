package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// textTokens is the number of tokens that stand for text in every Whisper vocabulary. whisper.cpp names the ones above by
// itself, and published files hold no more.
const textTokens = 50257

// maxVocabularyBytes bounds what is read: the vocabulary of Whisper is 0.5 MB as lines and 1.1 MB as JSON.
const maxVocabularyBytes = 16 << 20

// readVocabulary reads the vocabulary of a CTranslate2 folder and gives the raw bytes of each token for text by its id.
func readVocabulary(dir string) ([][]byte, error) {
	lines, err := readBounded(filepath.Join(dir, "vocabulary.txt"), maxVocabularyBytes)
	if err == nil {
		return decodeTokens(strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n"))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list, err := readBounded(filepath.Join(dir, "vocabulary.json"), maxVocabularyBytes)
	if err != nil {
		return nil, err
	}
	var tokens []string
	if err := json.Unmarshal(list, &tokens); err != nil {
		return nil, fmt.Errorf("read vocabulary.json: %w", err)
	}
	return decodeTokens(tokens)
}

func decodeTokens(tokens []string) ([][]byte, error) {
	if len(tokens) > textTokens {
		tokens = tokens[:textTokens]
	}
	byteOf := gpt2Bytes()
	raw := make([][]byte, len(tokens))
	for id, token := range tokens {
		if !utf8.ValidString(token) {
			return nil, fmt.Errorf("token %d of the vocabulary is not UTF-8", id)
		}
		raw[id] = make([]byte, 0, len(token))
		for _, r := range token {
			b, ok := byteOf[r]
			if !ok {
				return nil, fmt.Errorf("token %d of the vocabulary holds %q, which stands for no byte", id, r)
			}
			raw[id] = append(raw[id], b)
		}
	}
	return raw, nil
}

// gpt2Bytes turns GPT-2's writing of bytes as letters back: printable Latin-1 stands for itself, every other byte for the
// next letter from U+0100 on (bytes_to_unicode in encoder.py of openai/gpt-2).
func gpt2Bytes() map[rune]byte {
	byteOf := make(map[rune]byte, 256)
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if r >= '!' && r <= '~' || r >= '¡' && r <= '¬' || r >= '®' && r <= 'ÿ' {
			byteOf[r] = byte(b)
			continue
		}
		byteOf[next] = byte(b)
		next++
	}
	return byteOf
}

// readBounded reads a whole file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that it may have", filepath.Base(path), st.Size(), limit)
	}
	var buf bytes.Buffer
	_, err = buf.ReadFrom(f)
	return buf.Bytes(), err
}
