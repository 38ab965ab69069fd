// Package fault injects faults into real steno processes and finds out, from outside, whether what was promised held.
//
//	Run        one run of the programme: a tier, a seed, the rows of the fault table, a report
//	Ledger     every accepted id, every fault, every end, on the disk before the run goes on: what a failure is replayed from
//	Oracle     knows what was accepted and what must come of it, and checks the invariants I1 to I10
//	Node       a `steno up` on a folder of its own
//	Cluster    a NATS server, a gateway and workers, each a process, with a proxy before the server
//
// The oracle asks over HTTP as users do, and reads /proc, /metrics and the data folder as operators do. It shares no code with
// what it judges: of steno's packages it imports only the one that starts processes. Its program is internal/fault/stenofault;
// `make fault` builds and runs it.
//
// The steno under test is built with -tags failpoints and, where a row needs exact timing or a crash, plays the scripted engine
// of package script; all else in it is what users run: ffmpeg, the sandbox, JetStream, the database, processes and sockets.
package fault
