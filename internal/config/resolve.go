package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const off = "off"

// resolve fills in the defaults that depend on the machine or on other keys, and makes paths absolute.
func (l *loader) resolve() error {
	c := &l.cfg
	if c.Data == "" {
		if c.Data = l.userData(); c.Data == "" {
			return errors.New("data: neither XDG_DATA_HOME nor HOME is set: name the folder with --data or STENO_DATA")
		}
	}
	c.Data = l.expand(c.Data)
	if c.Models == "" {
		c.Models = filepath.Join(c.Data, "models")
	}
	c.Models, c.NATSCreds, c.PasswordFile = l.expand(c.Models), l.expand(c.NATSCreds), l.expand(c.PasswordFile)
	if c.DB == "" {
		c.DB = filepath.Join(c.Data, "steno.db")
	}
	if c.Keys == "" {
		c.Keys = filepath.Join(c.Data, "token.keys")
	}
	c.DB, c.Keys = l.database(c.DB), l.expand(c.Keys)
	for i, root := range c.Roots {
		c.Roots[i] = l.expand(root)
	}
	if c.CUDA != "" {
		c.CUDA = l.expand(c.CUDA)
	}
	if c.ONNXRuntime != "" {
		c.ONNXRuntime = l.expand(c.ONNXRuntime)
	}
	c.FFmpeg, c.FFprobe = l.findProgram(c.FFmpeg), l.findProgram(c.FFprobe)
	if c.Admin == off {
		c.Admin = ""
	}
	return l.readPassword()
}

// database makes the path of an SQLite file absolute. All else stays as it is: a URL, and what package store will refuse.
func (l *loader) database(dsn string) string {
	path := strings.TrimPrefix(strings.TrimPrefix(dsn, "sqlite:"), "//")
	if path == "" || strings.Contains(path, "://") || strings.HasPrefix(path, ":memory:") {
		return dsn
	}
	return l.expand(path)
}

func (l *loader) userData() string {
	if base := l.env["XDG_DATA_HOME"]; filepath.IsAbs(base) {
		return filepath.Join(base, "steno")
	}
	if home := l.env["HOME"]; home != "" {
		return filepath.Join(home, ".local", "share", "steno")
	}
	return ""
}

// findProgram looks a bare name up in PATH; os/exec would ask this process's environment instead of the one we were handed.
func (l *loader) findProgram(name string) string {
	if strings.ContainsRune(name, filepath.Separator) {
		return l.expand(name)
	}
	for _, dir := range filepath.SplitList(l.env["PATH"]) {
		if !filepath.IsAbs(dir) {
			continue // a program of the working folder is not what anyone means, as os/exec has it too
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return name
}

func (l *loader) readPassword() error {
	c := &l.cfg
	if c.PasswordFile == "" {
		return nil
	}
	if c.Password != "" {
		return fmt.Errorf("password (from %s) and password_file (from %s) are both set: keep one",
			l.where["password"], l.where["password_file"])
	}
	data, err := readSmall(c.PasswordFile)
	if err != nil {
		return wrong("password_file", l.where["password_file"], err)
	}
	c.Password = string(bytes.TrimRight(data, "\r\n"))
	if c.Password == "" {
		return wrong("password_file", l.where["password_file"], fmt.Errorf("%s holds no password", c.PasswordFile))
	}
	l.origins["password"] = "file " + c.PasswordFile
	return nil
}
