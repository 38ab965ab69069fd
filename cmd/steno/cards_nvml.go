//go:build cgo && linux

package main

import "steno/gpu/driver"

func openDriver() (cards, error) { return driver.Open() }
