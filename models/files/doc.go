// Package files knows the model files: which exist and what their checksums are, how they get onto the disk, and whether what
// lies there is what it should be.
//
// The registry (Lookup, All) is a table of the files that the whisper.cpp project publishes. A Store is a folder of such files:
// it pulls, verifies, opens and removes them. Convert makes the same files out of a CTranslate2 folder, the form in which
// faster-whisper keeps its models: from the unchanged weights of base and tiny.en it makes the published files bit by bit, so
// that one table of checksums serves both ways.
//
// whisper.cpp ends its process on many broken model files, so nothing may load a file that Store.Open did not hand out.
package files
