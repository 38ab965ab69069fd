//go:build !cgo || !linux

package main

import "errors"

func openDriver() (cards, error) {
	return nil, errors.New("this steno was built without cgo and cannot ask NVIDIA's driver: build it with `make build`")
}
