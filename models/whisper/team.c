//go:build cgo

#include "team.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum {
	STACK = 1 << 20, // bytes, of which the system gives what is touched
	GUARD = 1 << 16,
	// COLUMNS is how many columns are served at once at most; those beyond wait for the next turn.
	COLUMNS = 4 * COLUMNS_TOGETHER,
};

typedef enum { FREE, READY, WAITING, ENDED } status;

// member is a place in a team: a window that runs on its own stack.
typedef struct {
	status status;
	steno_team *team;
	ucontext_t self;
	char *stack;

	struct whisper_context *ctx;
	struct whisper_state *state;
	steno_window *window;
	steno_abort *abort;
	int rc;

	// at counts the products since the last token; equal ones stand at the same weights.
	int at;
	// The product it waits for.
	columns_weights weights;
	size_t rows, count;
	const columns_vector *columns;
} member;

struct steno_team {
	int size;
	atomic_bool nudged;
	ucontext_t home;
	member members[];
};

// current is the window that runs on this thread.
static _Thread_local member *current;

static char *new_stack(void) {
	char *p = mmap(NULL, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		return NULL;
	}
	mprotect(p, GUARD, PROT_NONE); // what overflows ends the process and no other's memory
	return p;
}

steno_team *steno_team_new(int size) {
	steno_team *t = calloc(1, sizeof *t + size * sizeof t->members[0]);
	if (t == NULL) {
		return NULL;
	}
	t->size = size;
	for (int i = 0; i < size; i++) {
		t->members[i].team = t;
		t->members[i].stack = new_stack();
		if (t->members[i].stack == NULL) {
			steno_team_free(t);
			return NULL;
		}
	}
	return t;
}

void steno_team_free(steno_team *t) {
	for (int i = 0; i < t->size; i++) {
		if (t->members[i].stack != NULL) {
			munmap(t->members[i].stack, STACK + GUARD);
		}
	}
	free(t);
}

// member_main is where a stack begins; makecontext hands over nothing larger than an int.
static void member_main(unsigned high, unsigned low) {
	member *m = (member *)((uintptr_t)high << 32 | low);
	m->rc = steno_run(m->ctx, m->state, m->window, m->abort);
	m->status = ENDED;
}

void steno_team_start(steno_team *t, int place, struct whisper_context *ctx, struct whisper_state *state, steno_window *w,
                      steno_abort *abort) {
	member *m = &t->members[place];
	m->ctx = ctx;
	m->state = state;
	m->window = w;
	m->abort = abort;
	m->at = 0;
	getcontext(&m->self);
	m->self.uc_stack.ss_sp = m->stack + GUARD;
	m->self.uc_stack.ss_size = STACK;
	m->self.uc_link = &t->home;
	makecontext(&m->self, (void (*)(void))member_main, 2, (unsigned)((uintptr_t)m >> 32), (unsigned)(uintptr_t)m);
	m->status = READY;
}

bool steno_team_ended(steno_team *t, int place, int *rc) {
	member *m = &t->members[place];
	if (m->status != ENDED) {
		return false;
	}
	*rc = m->rc;
	m->status = FREE;
	return true;
}

void steno_team_nudge(steno_team *t) { atomic_store(&t->nudged, true); }

bool steno_team_wait(columns_weights w, size_t rows, const columns_vector *columns, size_t count) {
	member *m = current;
	if (m == NULL || count > COLUMNS) {
		return false;
	}
	m->weights = w;
	m->rows = rows;
	m->columns = columns;
	m->count = count;
	m->status = WAITING;
	swapcontext(&m->self, &m->team->home);
	m->at = rows >= STENO_VOCABULARY ? 0 : m->at + 1;
	return true;
}

// behind is the member that all others wait for: of those within a token the one least far, so that those ahead can be joined. Who
// stands before its next token waits until all do. NULL where nobody waits.
static member *behind(steno_team *t) {
	member *first = NULL;
	for (int i = 0; i < t->size; i++) {
		member *m = &t->members[i];
		if (m->status == WAITING && (first == NULL || (m->at > 0 && (first->at == 0 || m->at < first->at)))) {
			first = m;
		}
	}
	return first;
}

// serve multiplies for a member and for all who stand where it does.
static void serve(steno_team *t, const member *first) {
	columns_vector columns[COLUMNS];
	size_t n = 0;
	int served = 0;
	bool here[t->size];
	for (int i = 0; i < t->size; i++) {
		member *m = &t->members[i];
		here[i] = false;
		if (m->status == WAITING && m->weights.data == first->weights.data && m->at == first->at && n + m->count <= COLUMNS) {
			memcpy(columns + n, m->columns, m->count * sizeof columns[0]);
			n += m->count;
			m->status = READY;
			here[i] = true;
			served++;
		}
	}
	const double start = steno_clock();
	columns_multiply(first->weights, 0, first->rows, columns, n);
	const double share = (steno_clock() - start) / served;
	for (int i = 0; i < t->size; i++) {
		if (here[i]) {
			steno_charge(t->members[i].window, share);
		}
	}
}

void steno_team_run(steno_team *t) {
	for (;;) {
		bool ended = false;
		for (int i = 0; i < t->size; i++) {
			member *m = &t->members[i];
			if (m->status == READY) {
				current = m;
				steno_running = m->window;
				steno_take_up(m->window);
				swapcontext(&t->home, &m->self);
				steno_lay_down(m->window);
				current = NULL;
				steno_running = NULL;
			}
			ended = ended || m->status == ENDED;
		}
		if (ended || atomic_exchange(&t->nudged, false)) {
			return;
		}
		member *next = behind(t);
		if (next == NULL) {
			return;
		}
		serve(t, next);
	}
}
