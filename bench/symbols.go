package bench

import (
	"debug/dwarf"
	"debug/elf"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// symbols gives names to addresses of C code, which Go's profiler leaves bare. Files are read when they are needed first.
type symbols map[string]*object

// object is a program or library on disk.
type object struct {
	file  *elf.File
	funcs []elf.Symbol // by address
	dwarf *dwarf.Data  // nil where there is none
}

// name fills in the function of a location that has none, and the source file of it where that is known.
func (s symbols) name(p *profile.Profile, l *profile.Location) {
	if len(l.Line) > 0 && l.Line[0].Function.Name != "" || l.Mapping == nil {
		return
	}
	o, known := s[l.Mapping.File]
	if !known {
		o = openObject(l.Mapping.File)
		s[l.Mapping.File] = o
	}
	f := &profile.Function{ID: uint64(len(p.Function) + 1), Name: filepath.Base(l.Mapping.File), Filename: l.Mapping.File}
	if o != nil {
		at := o.address(l)
		if sym := o.at(at); sym != "" {
			f.Name = sym
		}
		if source := o.source(at); source != "" {
			f.Filename = source
		}
	}
	p.Function = append(p.Function, f)
	l.Line = []profile.Line{{Function: f}}
}

// openObject returns nil for what is no file or has no symbols, such as the kernel's own page.
func openObject(name string) *object {
	f, err := elf.Open(name)
	if err != nil {
		return nil
	}
	o := &object{file: f}
	o.dwarf, _ = f.DWARF() // a name is enough
	static, _ := f.Symbols()
	dynamic, _ := f.DynamicSymbols()
	for _, sym := range slices.Concat(static, dynamic) {
		if elf.ST_TYPE(sym.Info) == elf.STT_FUNC && sym.Value != 0 {
			o.funcs = append(o.funcs, sym)
		}
	}
	slices.SortStableFunc(o.funcs, func(a, b elf.Symbol) int {
		switch {
		case a.Value < b.Value:
			return -1
		case a.Value > b.Value:
			return 1
		}
		return 0
	})
	return o
}

// address is where the file has what the process had at l.
func (o *object) address(l *profile.Location) uint64 {
	inFile := l.Address - l.Mapping.Start + l.Mapping.Offset
	for _, p := range o.file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && inFile >= p.Off && inFile < p.Off+p.Filesz {
			return inFile - p.Off + p.Vaddr
		}
	}
	return l.Address
}

// at is the function that holds an address, empty where it lies in none.
func (o *object) at(address uint64) string {
	i, found := slices.BinarySearchFunc(o.funcs, address, func(s elf.Symbol, a uint64) int {
		switch {
		case s.Value < a:
			return -1
		case s.Value > a:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 || o.funcs[i].Size > 0 && address >= o.funcs[i].Value+o.funcs[i].Size {
		return ""
	}
	return o.funcs[i].Name
}

// source is the file that an address was compiled from, where the compiler has written it down.
func (o *object) source(address uint64) string {
	if o.dwarf == nil {
		return ""
	}
	unit, err := o.dwarf.Reader().SeekPC(address)
	if err != nil || unit == nil {
		return ""
	}
	name, _ := unit.Val(dwarf.AttrName).(string)
	return name
}

// part is what of the program a function belongs to: a package of Go, a file of C, or a library.
func part(f *profile.Function) string {
	switch {
	case f.Filename == "" || strings.HasSuffix(f.Filename, ".go"):
		dir, base := path.Split(f.Name)
		pkg, _, _ := strings.Cut(base, ".")
		return dir + pkg
	case strings.HasSuffix(f.Filename, ".c"):
		return filepath.Base(f.Filename)
	case strings.HasPrefix(f.Name, "ggml_") || strings.Contains(f.Name, "ggml") || strings.Contains(f.Name, "tinyBLAS"):
		return "ggml"
	case strings.Contains(f.Name, "whisper"):
		return "whisper.cpp"
	}
	return filepath.Base(f.Filename)
}
