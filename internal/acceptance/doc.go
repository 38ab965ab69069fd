// Package acceptance measures what the project promises: memory that does not grow with the file, and how much faster it is than
// the classic preparation and than whisper-cli. The tests run minutes and want a quiet machine, so they are behind the build
// tag acceptance; `make acceptance` runs them. docs/ACCEPTANCE.md holds the figures.
package acceptance
