// Command sbom adds to a bill of materials in CycloneDX's JSON what Go's modules do not tell of steno: the library that is linked
// in, the packages that the web page is built from, the weights that `make models` gets, and ffmpeg. `make sbom` runs it in the
// repository's folder on the file that it names.
package main

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"steno/audio"
	"steno/models/files"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("name the file to add to, or run `make sbom`")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	library, err := engine(".")
	if err != nil {
		return err
	}
	runtime, err := onnxRuntime(".")
	if err != nil {
		return err
	}
	page, err := page(".")
	if err != nil {
		return err
	}
	weights, err := weights(".")
	if err != nil {
		return err
	}
	tool, err := ffmpeg(ctx)
	if err != nil {
		return err
	}
	if data, err = add(data, slices.Concat([]component{library, runtime, tool}, page, weights)); err != nil {
		return err
	}
	return os.WriteFile(args[0], data, 0o600)
}

// component is one of CycloneDX 1.6, as far as it is written here.
type component struct {
	Ref        string      `json:"bom-ref"`
	Type       string      `json:"type"`
	Name       string      `json:"name"`
	Version    string      `json:"version,omitempty"`
	Scope      string      `json:"scope,omitempty"`
	Hashes     []hash      `json:"hashes,omitempty"`
	Licenses   []license   `json:"licenses,omitempty"`
	PURL       string      `json:"purl,omitempty"`
	Properties []property  `json:"properties,omitempty"`
	Components []component `json:"components,omitempty"` // that it is made of
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"` // hex
}

type license struct {
	License struct {
		ID string `json:"id"` // of SPDX
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func mit() []license { return licensed("MIT") }

func licensed(id string) []license {
	var l license
	l.License.ID = id
	return []license{l}
}

// licence is that of weights: Whisper's, Silero's and pyannote's are MIT, 3D-Speaker's Apache.
func licence(e files.Entry) []license {
	if e.Name == files.EmbeddingName {
		return licensed("Apache-2.0")
	}
	return mit()
}

func sha256(digest string) []hash { return []hash{{"SHA-256", digest}} }

// pinned finds what the first group of pattern matches in a file.
func pinned(root, file, pattern string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile("(?m)" + pattern).FindSubmatch(data)
	if m == nil {
		return "", fmt.Errorf("%s has no line like %s: has it changed?", file, pattern)
	}
	return string(m[1]), nil
}

// engine is whisper.cpp as scripts/engine.sh pins it, with the ggml in it.
func engine(root string) (component, error) {
	values := map[string]string{}
	for name, at := range map[string][2]string{
		"version": {"scripts/engine.sh", `^version=(\S+)`},
		"commit":  {"scripts/engine.sh", `^commit=([0-9a-f]{40})\b`},
		"content": {"scripts/engine.sh", `^content=([0-9a-f]{64})\b`},
		"major":   {".build/engine/src/ggml/CMakeLists.txt", `^set\(GGML_VERSION_MAJOR (\d+)\)`},
		"minor":   {".build/engine/src/ggml/CMakeLists.txt", `^set\(GGML_VERSION_MINOR (\d+)\)`},
		"patch":   {".build/engine/src/ggml/CMakeLists.txt", `^set\(GGML_VERSION_PATCH (\d+)\)`},
	} {
		value, err := pinned(root, at[0], at[1])
		if err != nil {
			return component{}, fmt.Errorf("find the engine's %s: %w", name, err)
		}
		values[name] = value
	}
	ggml := "v" + values["major"] + "." + values["minor"] + "." + values["patch"]
	c := github("whisper.cpp", values["version"])
	c.Hashes = sha256(values["content"])
	c.Properties = []property{
		{"steno:commit", values["commit"]},
		{"steno:hash-of", "the sorted SHA-256 of the source files, as scripts/engine.sh checks it"},
	}
	c.Components = []component{github("ggml", ggml)}
	return c, nil
}

// github is a library of ggml-org that is linked into the binary.
func github(name, version string) component {
	purl := "pkg:github/ggml-org/" + name + "@" + version
	return component{Ref: purl, Type: "library", Name: name, Version: version, Scope: "required", Licenses: mit(), PURL: purl}
}

// onnxRuntime is the library that scripts/onnxruntime.sh gets. It is loaded where speakers are to be told apart.
func onnxRuntime(root string) (component, error) {
	version, err := pinned(root, "scripts/onnxruntime.txt", `^onnxruntime==(\S+)`)
	if err != nil {
		return component{}, fmt.Errorf("find the version of ONNX Runtime: %w", err)
	}
	purl := "pkg:pypi/onnxruntime@" + version
	return component{
		Ref: purl, Type: "library", Name: "onnxruntime", Version: version, Scope: "optional", Licenses: mit(), PURL: purl,
		Properties: []property{{"steno:external", "libonnxruntime.so of the wheel, loaded at run time"}},
	}, nil
}

// page are the packages of npm that the web page is built from, as its lock file pins them: those that are no tools for the work
// on it. The bundler leaves out what of them is not called.
func page(root string) ([]component, error) {
	const file = "console/package-lock.json"
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct {
			Version, Integrity, License string
			Dev                         bool
		} `json:"packages"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var all []component
	for _, path := range slices.Sorted(maps.Keys(lock.Packages)) {
		p := lock.Packages[path]
		at := strings.LastIndex(path, "node_modules/")
		if p.Dev || at < 0 { // the one without a path is the page itself
			continue
		}
		digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Integrity, "sha512-"))
		if err != nil || len(digest) != sha512.Size {
			return nil, fmt.Errorf("%s gives no SHA-512 for %s", file, path)
		}
		name := path[at+len("node_modules/"):]
		purl := "pkg:npm/" + strings.Replace(name, "@", "%40", 1) + "@" + p.Version
		c := component{
			Ref: purl, Type: "library", Name: name, Version: p.Version, Scope: "required", PURL: purl,
			Hashes: []hash{{"SHA-512", hex.EncodeToString(digest)}},
		}
		if p.License != "" {
			c.Licenses = licensed(p.License)
		}
		same := func(other component) bool { return other.Ref == c.Ref }
		if !slices.ContainsFunc(all, same) { // two may want the same for themselves
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no packages: has it changed?", file)
	}
	return all, nil
}

// weights are the files that scripts/models.sh wants, and the models that find speech and voices.
func weights(root string) ([]component, error) {
	script, err := os.ReadFile(filepath.Join(root, "scripts/models.sh"))
	if err != nil {
		return nil, err
	}
	names := []string{files.VADName, files.SegmentationName, files.EmbeddingName}
	for _, m := range regexp.MustCompile(`(?m)^want \S+ \S+ (\S+)$`).FindAllSubmatch(script, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) == 3 {
		return nil, errors.New("scripts/models.sh wants no models: has it changed?")
	}
	var all []component
	for _, name := range names {
		e, err := files.Lookup(name)
		if err != nil {
			return nil, fmt.Errorf("look up what scripts/models.sh wants: %w", err)
		}
		all = append(all, component{
			Ref: "steno:weights/" + e.File, Type: "machine-learning-model", Name: e.File, Scope: "required",
			Hashes: sha256(e.SHA256), Licenses: licence(e), Properties: []property{{"steno:repository", cmp.Or(e.Repo, e.URL)}},
		})
	}
	return all, nil
}

// ffmpeg is the one that is found here: it is no part of the binary, and where that runs there may be another.
func ffmpeg(ctx context.Context) (component, error) {
	tools, err := audio.FindTools()
	if err != nil {
		return component{}, err
	}
	found, err := tools.Versions(ctx)
	if err != nil {
		return component{}, err
	}
	c := component{Type: "application", Name: "ffmpeg", Version: found[0].Text, Scope: "required"}
	c.PURL = "pkg:generic/ffmpeg@" + url.QueryEscape(c.Version) // a plus must be escaped in it
	c.Ref = c.PURL
	c.Properties = []property{{"steno:external", "found in PATH when this list was made; run as a process, not linked"}}
	for _, v := range found {
		c.Properties = append(c.Properties, property{"steno:" + v.Program, v.Text})
	}
	return c, nil
}

// add puts components into a list, and into the dependencies of what it lists. All else in it stays as it is.
func add(bom []byte, more []component) ([]byte, error) {
	var top map[string]json.RawMessage
	var components, dependencies []json.RawMessage
	var meta struct {
		Component component `json:"component"`
	}
	if err := errors.Join(json.Unmarshal(bom, &top), json.Unmarshal(top["components"], &components),
		json.Unmarshal(top["dependencies"], &dependencies), json.Unmarshal(top["metadata"], &meta)); err != nil {
		return nil, fmt.Errorf("read the list of modules: %w", err)
	}
	if string(top["bomFormat"]) != `"CycloneDX"` || meta.Component.Ref == "" {
		return nil, errors.New("read the list of modules: it is no CycloneDX of a program")
	}
	root := dependency{Ref: meta.Component.Ref}
	for _, c := range more {
		components = append(components, encode(c))
		root.DependsOn = append(root.DependsOn, c.Ref)
		inner := dependency{Ref: c.Ref}
		for _, part := range c.Components {
			inner.DependsOn = append(inner.DependsOn, part.Ref)
			dependencies = append(dependencies, encode(dependency{Ref: part.Ref}))
		}
		dependencies = append(dependencies, encode(inner))
	}
	for i, raw := range dependencies {
		var d dependency
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("read the list of dependencies: %w", err)
		}
		if d.Ref == root.Ref {
			root.DependsOn = append(d.DependsOn, root.DependsOn...)
			dependencies[i] = encode(root)
		}
	}
	top["components"], top["dependencies"] = encode(components), encode(dependencies)
	out := &strings.Builder{}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(top)
	return []byte(out.String()), err
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// encode cannot fail: what it is given here are strings in structs and lists.
func encode(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
