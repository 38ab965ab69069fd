// Package fault injects faults into real steno processes and finds out, from outside, whether what was promised held.
//
//	Run        one run of the programme: a tier, a seed, the rows of the fault table, a report
//	Soak       an hour or a day of work at a share of what can be done, a fault each minute, and samples of what is held
//	Ledger     every accepted id, every fault, every end, on the disk before the run goes on: what a failure is replayed from
//	Oracle     knows what was accepted and what must come of it, and checks the invariants
//	Node       a `steno up` on a folder of its own
//	Cluster    a NATS server, a gateway and workers, each a process, with a proxy before the server
//
// The oracle asks over HTTP as users do, and reads /proc, /metrics and the data folder as operators do. It shares no code with
// what it judges: of steno's packages it imports the one that starts processes and the names of failpoints. Its program is
// internal/fault/stenofault; `make fault` builds and runs it.
//
// The invariants: each accepted job ends once, and no other does (I1, I8), with the transcript that its recording got before the
// first fault (I2), its end never changes (I3), a failure says why and is one dead letter (I4), nothing is left on disk, in
// processes or waiting (I5, I7), nothing grows (I6), times rise and lie within the recording (I9), and what hostile files name is
// touched by nobody (I10).
//
// Rows whose faults are made within a package are tests of that package, which Run starts with the size and seed of package
// faultsize: F10, F11, F18; F19 is scripts/fuzz.sh.
//
// The steno under test is built with -tags failpoints and, where a row needs exact timing or a crash, plays the scripted engine
// of package script; all else in it is what users run: ffmpeg, the sandbox, JetStream, the database, processes and sockets.
package fault
