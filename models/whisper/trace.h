// What Go's profiler asks of C: where a thread is.
#pragma once

// steno_trace has the form of runtime.SetCgoTraceback's first function. It gives the place alone, not its callers: C is built without
// frame pointers, and windows run on stacks of their own.
void steno_trace(void *arg);
