package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxFile bounds the files that are read whole. A file of settings has a few hundred bytes.
const maxFile = 1 << 20

// readFile reads the one YAML file: the named one, else STENO_CONFIG's, else the user's own where there is one.
func (l *loader) readFile(path string) error {
	if path == "" {
		path = l.env[configVar]
	}
	named := path != ""
	if !named {
		path = l.userFile()
	}
	if path == "" {
		return nil
	}
	path = l.expand(path)
	data, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return l.readYAML(path, data)
}

func (l *loader) userFile() string {
	base := l.env["XDG_CONFIG_HOME"]
	if !filepath.IsAbs(base) { // the specification says to ignore it then
		if base = ""; l.env["HOME"] != "" {
			base = filepath.Join(l.env["HOME"], ".config")
		}
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, "steno", "config.yaml")
}

func (l *loader) readYAML(path string, data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // empty, or comments alone
	} else if err != nil {
		return fmt.Errorf("read the configuration %s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the configuration %s: only one YAML document is allowed", path)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("read the configuration %s: write one \"key: value\" per line", path)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, value := root.Content[i], root.Content[i+1]
		where := fmt.Sprintf("%s line %d", path, name.Line)
		if seen[name.Value] {
			return wrong(name.Value, where, errors.New("the key is there twice: remove one"))
		}
		seen[name.Value] = true
		if err := l.setNode(path, where, name.Value, value); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) setNode(path, where, key string, value *yaml.Node) error {
	f, ok := lookup(key)
	if !ok {
		return wrong(fmt.Sprintf("unknown key %q", key), where, fmt.Errorf("the nearest known key is %s", nearest(key, keyNames())))
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if value.Kind == yaml.ScalarNode {
		if value.Tag == "!!null" {
			return nil // "nats:" with nothing after it is not set
		}
		return l.set(f, value.Value, "file "+path, where)
	}
	list, ok := f.ptr(&l.cfg).(*[]string)
	if !ok || value.Kind != yaml.SequenceNode {
		return wrong(key, where, errors.New("write a single value"))
	}
	parts := make([]string, len(value.Content))
	for i, item := range value.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || item.Value == "" {
			return wrong(key, where, errors.New("write a list of plain values"))
		}
		parts[i] = item.Value // not split: a folder's name may hold a comma
	}
	*list = parts
	l.origins[key], l.where[key] = "file "+path, where
	return nil
}

// readSmall reads a file of at most maxFile bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %s", path, Bytes(maxFile))
	}
	return data, nil
}

// expand makes a path absolute; "~/" is the home folder, for no shell reads a YAML file.
func (l *loader) expand(path string) string {
	if path == "" {
		return ""
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok && l.env["HOME"] != "" {
		path = filepath.Join(l.env["HOME"], rest)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
