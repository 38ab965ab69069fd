// Package engine runs a model in a process of its own, so that a failed assertion, a segmentation fault or a full GPU costs
// the chunks in that process and nothing else, and so that ending it surely returns its memory.
//
// # Two sides
//
// The parent calls [Start] (or a [Loader], which the pool uses) and gets a [models.Engine]. The child is the same binary with
// the hidden subcommand "engine"; it calls [OpenChild] for its end of a Unix socket pair, inherited as file descriptor 3, and
// then [Serve] with a function that loads the model. Standard output and input stay free; standard error is kept for the
// error that tells how the child ended.
//
// # The protocol
//
// A frame is {length u32, type u8, request u32} and a payload, all little-endian; every type has a size it may not pass.
// Metadata is JSON, audio raw 16-bit PCM.
//
//	child  → hello         protocol and steno version
//	parent → load          model file with its checksum, device, states
//	child  → loaded | failed
//	parent → transcribe    options and audio; as many at once as the engine has states
//	child  → segments …    as they are final, so that a late crash loses none
//	child  → result | failed
//	parent → cancel        of one request
//	child  → heartbeat     ten times in Limits.Silence, with a counter per request that moves while its decode moves
//	parent → shutdown
//
// # Who ends whom
//
// The child ends when the socket does, and the kernel ends it when its parent dies. The parent kills a child that is silent for
// Limits.Silence, that has a request without progress for Limits.Stall or four times what it should take, that does not answer a
// cancel within Limits.Cancel, that takes more than Limits.Memory, or that breaks the protocol. Its requests then get an error
// that is [models.ErrEngineDied] and tells the signal and the end of stderr.
package engine
