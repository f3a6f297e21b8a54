// The threads behind run(): made at the first use, asleep between uses.
#include "threads.h"
#include "array.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MOST 64
#define SPINS 2000                      // looks at the next job before falling asleep, some 20 us

static int wanted = 1, made = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;       // of the fields up to `asleep`
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static int asleep = 0;
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;       // one run() at a time

static Work *job_work;
static void *job_context;
static intptr_t job_n;
static int job_hands;                   // how many of the threads take part
static atomic_intptr_t next_i;
static atomic_uint job;                 // the number of the job
static atomic_int still;                // threads that have not left it yet

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

static void *hand(void *number) {
    intptr_t me = (intptr_t)number;
    unsigned seen = atomic_load(&job) - 1;          // made inside run(), for the job that it sets
    for (;;) {
        int spins = 0;
        while (atomic_load(&job) == seen && ++spins < SPINS) rest();
        if (atomic_load(&job) == seen) {
            pthread_mutex_lock(&lock);
            asleep++;
            while (atomic_load(&job) == seen) pthread_cond_wait(&wake, &lock);
            asleep--;
            pthread_mutex_unlock(&lock);
        }
        seen = atomic_load(&job);
        if (me < job_hands) take();
        atomic_fetch_sub(&still, 1);
    }
    return NULL;
}

void run(Work *work, void *context, intptr_t n) {
    int hands = (int)smaller(wanted, n);
    // A second Python thread, or a kernel inside a kernel, does its work alone.
    if (hands < 2 || pthread_mutex_trylock(&busy)) {
        for (intptr_t i = 0; i < n; i++) work(context, i);
        return;
    }
    job_work = work, job_context = context, job_n = n, job_hands = hands - 1;
    atomic_store(&next_i, 0);
    int before = made;
    atomic_store(&still, made < hands - 1 ? hands - 1 : made);
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&job, 1);
    if (asleep) pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);
    for (; made < hands - 1; made++) {
        pthread_t t;
        if (pthread_create(&t, NULL, hand, (void *)(intptr_t)made)) break;
        pthread_detach(t);
    }
    if (made < hands - 1 && made >= before) atomic_fetch_sub(&still, hands - 1 - made);
    take();
    while (atomic_load(&still)) rest();
    pthread_mutex_unlock(&busy);
}

int threads(void) { return wanted; }

KERNEL set_threads(int n) { wanted = n < 1 ? 1 : n > MOST ? MOST : n; }

// A forked child has none of its parent's threads.
static void in_child(void) {
    made = asleep = 0;
    pthread_mutex_init(&lock, NULL);
    pthread_mutex_init(&busy, NULL);
    pthread_cond_init(&wake, NULL);
}

__attribute__((constructor)) static void begin(void) { pthread_atfork(NULL, NULL, in_child); }

// For compiled.py's check of array.h.
KERNEL address(const Array *a, Array *found) {
    int known = a->ndim == 2 && a->shape[1] == 3 && a->strides[0] == 12;
    indices(found)[0] = known ? (int64_t)a->data : 0;
}
