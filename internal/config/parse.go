package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes. It is written as a whole number or with a unit: 512MiB, 1.5GiB, 2GB.
type Bytes int64

// units are in the order that String tries them. The decimal ones have to be spelled out too: nobody knows what "4G" means.
var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// String writes b with the largest binary unit that leaves a whole number; ParseBytes reads it back unchanged.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// ParseBytes reads a size of zero or more.
func ParseBytes(text string) (Bytes, error) {
	bad := fmt.Errorf("%q is not a size: write bytes, or a unit as in 512MiB, 4GiB or 2GB", text)
	number, size := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			number, size = strings.TrimSpace(n), u.size
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/size {
			return 0, bad
		}
		return Bytes(n * size), nil
	}
	if strings.Trim(number, "0123456789.") != "" || size == 1 {
		return 0, bad
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(size) >= math.MaxInt64 {
		return 0, bad
	}
	return Bytes(math.Round(f * float64(size))), nil
}

// parse reads text into the value that ptr points to.
func parse(ptr any, text string) (err error) {
	switch p := ptr.(type) {
	case *string:
		*p = text
	case *int:
		if *p, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
	case *bool:
		return parseBool(p, text)
	case *Bytes:
		*p, err = ParseBytes(text)
		return err
	case *time.Duration:
		if *p, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("%q is not a duration: write it as in 90s, 10m or 1h30m", text)
		}
	case *[]string:
		*p = splitList(text)
	default:
		return fmt.Errorf("no parser for %T", ptr)
	}
	return nil
}

func parseBool(p *bool, text string) error {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		*p = true
	case "false", "0", "no", "off":
		*p = false
	default:
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}

// splitList splits at commas; empty parts are left out.
func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// format writes the value that ptr points to, so that parse reads it back.
func format(ptr any) string {
	switch p := ptr.(type) {
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, ",")
	case *int:
		return strconv.Itoa(*p)
	case *bool:
		return strconv.FormatBool(*p)
	case *Bytes:
		return p.String()
	case *time.Duration:
		return shortDuration(*p)
	}
	panic(errors.New("config: a field has a type that format does not know"))
}

// shortDuration leaves out the zero minutes and seconds of time.Duration's form: 24h, not 24h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
