// The threads behind share(): made at the first use, asleep between uses.
//
// `state` is the number of the current job, whether it is open, and how many threads are in it. A
// thread joins an open job that it has not seen; the caller takes its share, closes the job, and waits
// for those that are still in it. So nobody waits for a thread that is slow to wake up.
#include "threads.h"
#include "array.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST 64
#define SPINS 2000                      // looks at the next job before falling asleep, some 50 us
#define LARGE (1 << 22)               // floats that are not kept for calls that need few
#define OPEN 0x80000000u                // of state, whose upper half is the number

static int wanted = 1, made = 0;
static double few = 1 << 20;            // operations not worth a second thread, some 20 us
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;       // for falling asleep
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;       // one run() at a time
static atomic_int asleep, hands;        // hands: how many threads may join, beside the caller
static _Atomic uint64_t state;
static Work *job_work;
static void *job_context;
static intptr_t job_n;
static atomic_intptr_t next_i;

static inline void rest(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take(void) {
    intptr_t i;
    while ((i = atomic_fetch_add(&next_i, 1)) < job_n) job_work(job_context, i);
}

static int is_new(uint64_t s, uint32_t seen) { return (s & OPEN) && (uint32_t)(s >> 32) != seen; }

static void *hand(void *first) {
    uint32_t seen = (uint32_t)(uintptr_t)first;
    for (;;) {
        int spins = 0;
        uint64_t s;
        while (!is_new(s = atomic_load(&state), seen) && ++spins < SPINS) rest();
        if (!is_new(s, seen)) {
            pthread_mutex_lock(&lock);
            atomic_fetch_add(&asleep, 1);
            while (!is_new(s = atomic_load(&state), seen)) pthread_cond_wait(&wake, &lock);
            atomic_fetch_sub(&asleep, 1);
            pthread_mutex_unlock(&lock);
        }
        if ((int)(s & ~OPEN & 0xffffffffu) >= atomic_load(&hands)) {
            seen = (uint32_t)(s >> 32);
        } else if (atomic_compare_exchange_strong(&state, &s, s + 1)) {
            seen = (uint32_t)(s >> 32);
            take();
            atomic_fetch_sub(&state, 1);
        }
    }
    return NULL;
}

static void run(Work *work, void *context, intptr_t n) {
    int most = (int)smaller(wanted, n);
    // A second Python thread, or a kernel inside a kernel, does its work alone.
    if (most < 2 || pthread_mutex_trylock(&busy)) {
        for (intptr_t i = 0; i < n; i++) work(context, i);
        return;
    }
    uint32_t last = (uint32_t)(atomic_load(&state) >> 32);
    for (; made < most - 1; made++) {
        pthread_t t;
        if (pthread_create(&t, NULL, hand, (void *)(uintptr_t)last)) break;
        pthread_detach(t);
    }
    job_work = work, job_context = context, job_n = n;
    atomic_store(&hands, most - 1);
    atomic_store(&next_i, 0);
    atomic_store(&state, (uint64_t)(last + 1) << 32 | OPEN);
    if (atomic_load(&asleep)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
    }
    take();
    atomic_fetch_and(&state, ~(uint64_t)OPEN);
    // A thread that isn't running may be waiting for this very core.
    for (int spins = 0; atomic_load(&state) & 0xffffffffu; spins++) spins < 200 ? rest() : (void)sched_yield();
    pthread_mutex_unlock(&busy);
}

void share(Work *work, void *context, intptr_t n, double each) {
    // To wake a thread takes longer than to have one that is looking for work join.
    if (each * n < few * (atomic_load(&asleep) ? 4 : 1)) for (intptr_t i = 0; i < n; i++) work(context, i);
    else run(work, context, n);
}

int threads(void) { return wanted; }

KERNEL set_threads(int n) { wanted = n < 1 ? 1 : n > MOST ? MOST : n; }
KERNEL set_few(double operations) { few = operations; }         // for tests

// Scratch memory ----------------------------------------------------------------------------------

typedef struct { float *memory[PLACES]; intptr_t n[PLACES]; } Scratch;

static __thread Scratch *mine;
static pthread_key_t key;               // frees it when a thread ends

static void drop(void *of_thread) {
    Scratch *s = of_thread;
    for (int i = 0; i < PLACES; i++) free(s->memory[i]);
    free(s);
}

static void *sure(void *memory) {
    if (!memory) {
        fprintf(stderr, "gpugrad: no memory left for the compiled kernels\n");
        abort();
    }
    return memory;
}

float *scratch(int place, intptr_t n) {
    if (!mine) pthread_setspecific(key, mine = sure(calloc(1, sizeof(Scratch))));
    intptr_t had = mine->n[place];
    if (had < n || (had > LARGE && n < had / 4)) {
        free(mine->memory[place]);
        mine->n[place] = (n + 1023) / 1024 * 1024;
        mine->memory[place] = sure(aligned_alloc(64, mine->n[place] * sizeof(float)));
    }
    return mine->memory[place];
}

// A forked child has none of its parent's threads.
static void in_child(void) {
    made = 0;
    atomic_store(&asleep, 0);
    atomic_fetch_and(&state, ~(uint64_t)0xffffffffu);
    pthread_mutex_init(&lock, NULL);
    pthread_mutex_init(&busy, NULL);
    pthread_cond_init(&wake, NULL);
}

__attribute__((constructor)) static void begin(void) {
    pthread_key_create(&key, drop);
    pthread_atfork(NULL, NULL, in_child);
}

// For compiled.py's check of array.h.
KERNEL address(const Array *a, Array *found) {
    int known = a->ndim == 2 && a->shape[1] == 3 && a->strides[0] == 12;
    indices(found)[0] = known ? (int64_t)a->data : 0;
}
