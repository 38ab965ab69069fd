package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// modules is what cyclonedx-gomod writes, cut down to one module.
const modules = `{
  "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
  "serialNumber": "urn:uuid:dcc9c195-9a77-4134-af8d-201cfec8cf41",
  "metadata": {"component": {"bom-ref": "pkg:golang/steno@v1?type=module#cmd/steno", "type": "application", "name": "steno"}},
  "components": [{"bom-ref": "pkg:golang/std@1", "type": "library", "name": "std", "evidence": {"licenses": [{"license": {"id": "BSD-3-Clause"}}]}}],
  "dependencies": [{"ref": "pkg:golang/steno@v1?type=module#cmd/steno", "dependsOn": ["pkg:golang/std@1"]}, {"ref": "pkg:golang/std@1"}]
}`

var hexadecimal = regexp.MustCompile(`^[0-9a-f]+$`)

// TestRun adds to a list all that is pinned in this repository, and holds it against the rules of CycloneDX 1.6 for what it has.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(path, []byte(modules), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(repository(t))
	if err := run(t.Context(), []string{path}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SpecVersion, SerialNumber string
		Version                              int
		Components                           []component
		Dependencies                         []dependency
	}
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || bom.Version != 1 || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") {
		t.Errorf("%+v", bom)
	}
	if !strings.Contains(string(data), `"id": "BSD-3-Clause"`) {
		t.Error("what was known of a module is gone")
	}
	refs := map[string]bool{}
	parts := slices.Clone(bom.Components)
	for i := 0; i < len(parts); i++ {
		c := parts[i]
		parts = append(parts, c.Components...)
		if refs[c.Ref] || c.Ref == "" || c.Name == "" || !slices.Contains([]string{"library", "application", "machine-learning-model"}, c.Type) {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
		for _, h := range c.Hashes {
			if digits := map[string]int{"SHA-256": 64, "SHA-512": 128}[h.Alg]; len(h.Content) != digits || !hexadecimal.MatchString(h.Content) {
				t.Errorf("%s: hash %+v", c.Name, h)
			}
		}
	}
	for name, want := range map[string]struct{ version, purl string }{
		"whisper.cpp":            {`v1\.\d+\.\d+`, `pkg:github/ggml-org/whisper\.cpp@v1\.\d+\.\d+`},
		"ggml":                   {`v\d+\.\d+\.\d+`, `pkg:github/ggml-org/ggml@v\d+\.\d+\.\d+`},
		"ffmpeg":                 {`\S+`, `pkg:generic/ffmpeg@[^+ ]+`},
		"ggml-base.bin":          {``, ``},
		"ggml-base-q8_0.bin":     {``, ``},
		"ggml-tiny.en-q8_0.bin":  {``, ``},
		"ggml-silero-v6.2.0.bin": {``, ``},
		"svelte":                 {`5\.\S+`, `pkg:npm/svelte@5\.\S+`},
		"@types/estree":          {`\S+`, `pkg:npm/%40types/estree@\S+`},
		"@playwright/test":       {`not listed`, ``},
		"std":                    {``, ``},
		"ggml-large-v3.bin":      {`not listed`, ``},
	} {
		i := slices.IndexFunc(parts, func(c component) bool { return c.Name == name })
		if listed := want.version != "not listed"; listed != (i >= 0) {
			t.Errorf("%s is listed: %v", name, i >= 0)
		}
		if i < 0 {
			continue
		}
		c := parts[i]
		whole := func(pattern, s string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(s) }
		if !whole(want.version, c.Version) || !whole(want.purl, c.PURL) || name != "std" && c.Scope != "required" {
			t.Errorf("%+v", c)
		}
		if hashed := len(c.Hashes) == 1; hashed != (c.Type == "machine-learning-model" || name == "whisper.cpp" || strings.HasPrefix(c.PURL, "pkg:npm/")) {
			t.Errorf("%s is hashed: %v", name, hashed)
		}
	}
	seen := 0
	for _, d := range bom.Dependencies {
		for _, on := range d.DependsOn {
			seen++
			if !refs[on] {
				t.Errorf("%s depends on %s, which is not listed", d.Ref, on)
			}
		}
	}
	if seen != len(refs) { // each once: ggml by whisper.cpp, the rest by the program
		t.Errorf("%d of %d components are depended on", seen, len(refs))
	}
}

// repository is the folder that this file's package lies in.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRefusals(t *testing.T) {
	for name, bom := range map[string]string{
		"no JSON":        "",
		"another format": strings.Replace(modules, "CycloneDX", "SPDX", 1),
		"no program":     strings.Replace(modules, `"bom-ref": "pkg:golang/steno@v1?type=module#cmd/steno", `, "", 1),
		"no components":  strings.Replace(modules, `"components"`, `"parts"`, 1),
	} {
		if out, err := add([]byte(bom), nil); err == nil {
			t.Errorf("%s: made %s", name, out)
		}
	}
	if err := run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "make sbom") {
		t.Errorf("no file: %v", err)
	}
	if _, err := engine(t.TempDir()); err == nil {
		t.Error("an engine without a pin")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "scripts"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "scripts", "models.sh"), []byte("pull base\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "console"), 0o700); err != nil {
		t.Fatal(err)
	}
	for lock, want := range map[string]string{
		`{"packages": {"": {}, "node_modules/a": {"dev": true}}}`:                        "has it changed?",
		`{"packages": {"node_modules/a": {"version": "1", "integrity": "sha512-AAAA"}}}`: "no SHA-512 for node_modules/a",
	} {
		if err := os.WriteFile(filepath.Join(dir, "console", "package-lock.json"), []byte(lock), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := page(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", lock, err, want)
		}
	}
	if _, err := weights(dir); err == nil || !strings.Contains(err.Error(), "has it changed?") {
		t.Errorf("a script that wants nothing: %v", err)
	}
}
