// A team decodes several windows side by side on one thread, and multiplies the weights by the columns of all of them at once.
//
// Each window runs whisper.cpp as it is, on a stack of its own. Where it multiplies weights by a few columns it waits, and when
// all windows of the team wait, those that stand at the same weights are served together. So weights are read once for the next
// token of all windows, which is what a decoder spends its time on. docs/adr/0010-teams.md has the reasons and the figures.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "columns.h"
#include "shim.h"

typedef struct steno_team steno_team;

// steno_team_new makes a team of up to size windows; NULL where there is no memory. One thread at a time may use it, and always
// the same one, except where something else is said.
steno_team *steno_team_new(int size);

// steno_team_free ends a team; no window may be under way.
void steno_team_free(steno_team *t);

// steno_team_start begins a window in a place (0 to size-1) that is free. All that it is given must stay until it has ended.
void steno_team_start(steno_team *t, int place, struct whisper_context *ctx, struct whisper_state *state, steno_window *w,
                      steno_abort *abort);

// steno_team_run goes on until a window has ended, or steno_team_nudge was called, or nothing is left to do.
void steno_team_run(steno_team *t);

// steno_team_nudge makes steno_team_run return soon. Any thread may call it at any time.
void steno_team_nudge(steno_team *t);

// steno_team_ended tells whether the window in a place has ended, with its result in *rc, and frees the place.
bool steno_team_ended(steno_team *t, int place, int *rc);

// steno_team_wait is for the product of a window: it returns true once rows [0, rows) of w have been multiplied by its columns
// together with those of others. It returns false at once on a thread that runs no team.
bool steno_team_wait(columns_weights w, size_t rows, const columns_vector *columns, size_t count);
