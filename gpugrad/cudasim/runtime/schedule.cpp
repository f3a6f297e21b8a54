// Runs a grid: blocks one after another, the threads of a block on fibers that start late.
//
// A fiber runs thread after thread as a plain loop. Only where a thread waits for others does the
// next one start on another fiber, so a kernel without barriers never switches.
#include "device.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "switch.h"

struct Fiber {
    Context context;
    char* stack;
};

extern "C" {
Position cs_position;
char* cs_dynamic_shared;        // what `extern __shared__` names
}

Thread threads[MAX_THREADS];
int current = -1, thread_count, alive;
unsigned alive_mask[MAX_WARPS];
const Launch* launched;
uint64_t block_number;
bool failed;

namespace {

constexpr size_t STACK = 256 << 10, GUARD = 64 << 10, MAX_ARGUMENTS = 32764;

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
alignas(64) char arguments[MAX_ARGUMENTS];
char* shared_memory;
size_t shared_capacity;

Index3 thread_index[MAX_THREADS];       // for blocks of the shape indexed
unsigned indexed[3];
int start_order[MAX_THREADS], started;

int ready[MAX_THREADS];                 // a ring of threads that can go on
unsigned ready_head, ready_tail;

Fiber scheduler;                        // the caller's own stack
Fiber fibers[MAX_THREADS];
Fiber* idle[MAX_THREADS];               // fibers that no thread waits on
int fiber_count, idle_count;
Fiber* running;

uint64_t random_state;

uint64_t random_bits() {                // splitmix64
    uint64_t z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void fiber_main();

Fiber* idle_fiber() {
    if (idle_count) return idle[--idle_count];
    Fiber* f = &fibers[fiber_count];
    char* memory = (char*) mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == (char*) MAP_FAILED) abort();
    mprotect(memory, GUARD, PROT_NONE);
    f->stack = memory + GUARD;
    new_context(&f->context, f->stack, STACK, fiber_main);
    ++fiber_count;
    return f;
}

void run_as(int thread) {
    current = thread;
    cs_position.thread = thread_index[thread];
}

int take_ready() {
    if (launched->order == FORWARD) return ready[ready_head++ % MAX_THREADS];
    unsigned last = --ready_tail % MAX_THREADS;
    if (launched->order == SEEDED) {
        unsigned pick = (ready_head + random_below(ready_tail + 1 - ready_head)) % MAX_THREADS;
        int t = ready[pick];
        ready[pick] = ready[last];
        return t;
    }
    return ready[last];
}

// The fiber that goes on now: a ready thread's, else one to start threads on, else the scheduler.
Fiber* next() {
    if (failed) return &scheduler;
    if (ready_head != ready_tail) {
        int t = take_ready();
        run_as(t);
        return threads[t].fiber;
    }
    return started < thread_count ? idle_fiber() : &scheduler;
}

void fiber_main() {
    for (;;) {
        while (started < thread_count && !failed && ready_head == ready_tail) {
            int t = start_order[started++];
            threads[t].fiber = running;
            threads[t].wait = NOT;
            run_as(t);
            launched->kernel->call(launched->kernel->function, arguments);
            threads[t].wait = EXITED;
            --alive;
            alive_mask[t / WARP] &= ~(1u << t % WARP);
            thread_exited(t);
        }
        idle[idle_count++] = running;
        leave();
    }
}

void shuffle(int* v, int n) {
    for (int i = n - 1; i > 0; --i) {
        unsigned j = random_below(i + 1);
        int x = v[i];
        v[i] = v[j];
        v[j] = x;
    }
}

void index_threads(const uint32_t* block) {
    if (!memcmp(indexed, block, sizeof indexed)) return;
    memcpy(indexed, block, sizeof indexed);
    for (int t = 0; t < thread_count; ++t)
        thread_index[t] = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
}

void run_block(uint64_t number) {
    const uint32_t* grid = launched->grid;
    block_number = number;
    cs_position.block = {(unsigned) (number % grid[0]), (unsigned) (number / grid[0] % grid[1]),
                         (unsigned) (number / grid[0] / grid[1])};
    for (int t = 0; t < thread_count; ++t) threads[t].wait = NOT;
    for (int w = 0; w * WARP < thread_count; ++w)
        alive_mask[w] = thread_count - w * WARP >= WARP ? ~0u : (1u << thread_count % WARP) - 1;
    alive = thread_count;
    started = 0;
    ready_head = ready_tail = 0;
    if (launched->order == SEEDED) shuffle(start_order, thread_count);
    start_block_of_warps();
    memory_block();
    copies_block();
    if (launched->shared_bytes) memset(shared_memory, 0xff, launched->shared_bytes);
    running = &scheduler;
    leave();
    if (alive && !failed) describe_deadlock();
    current = -1;
}

void run_grid() {
    const uint32_t* grid = launched->grid;
    uint64_t blocks = (uint64_t) grid[0] * grid[1] * grid[2];
    for (int t = 0; t < thread_count; ++t)
        start_order[t] = launched->order == REVERSED ? thread_count - 1 - t : t;
    int* order = nullptr;
    if (launched->order == SEEDED && blocks < 1u << 24) {
        order = (int*) malloc(blocks * sizeof(int));
        for (uint64_t i = 0; order && i < blocks; ++i) order[i] = (int) i;
        if (order) shuffle(order, (int) blocks);
    }
    for (uint64_t i = 0; i < blocks && !failed; ++i) {
        if (interrupted) fail(INTERRUPTED, "interrupted");
        else run_block(order ? order[i] : launched->order == REVERSED ? blocks - 1 - i : i);
    }
    free(order);
}

// Threads that a failure stopped half-way never go on: their fibers begin anew.
void reset_fibers() {
    idle_count = 0;
    for (int i = 0; i < fiber_count; ++i) {
        new_context(&fibers[i].context, fibers[i].stack, STACK, fiber_main);
        idle[idle_count++] = &fibers[i];
    }
}

}  // namespace

unsigned random_below(unsigned n) { return (unsigned) ((random_bits() >> 32) * n >> 32); }

void make_ready(int t) {
    threads[t].wait = NOT;
    ready[ready_tail++ % MAX_THREADS] = t;
}

void leave() {
    Fiber *me = running, *to = next();
    if (to == me) return;
    running = to;
    cs_switch(&me->context, to->context);
}

void abandon() {
    for (;;) leave();
}

bool on_a_fiber() { return current >= 0 && running != &scheduler; }

bool in_this_stack(uintptr_t p) { return p - (uintptr_t) running->stack < STACK; }

bool in_guard_page(uintptr_t p) { return p - ((uintptr_t) running->stack - GUARD) < GUARD; }

extern "C" {

void cs_lock() { pthread_mutex_lock(&lock); }

void cs_unlock() { pthread_mutex_unlock(&lock); }

// Runs a kernel. Returns whether it failed; cs_fault says how.
int cs_launch(const Launch* launch) {
    cs_lock();
    launched = launch;
    failed = false;
    thread_count = (int) (launch->block[0] * launch->block[1] * launch->block[2]);
    index_threads(launch->block);
    random_state = launch->seed;
    cs_position.grid_dim = {launch->grid[0], launch->grid[1], launch->grid[2]};
    cs_position.block_dim = {launch->block[0], launch->block[1], launch->block[2]};
    memcpy(arguments, launch + 1, launch->kernel->argument_bytes);
    if (launch->shared_bytes > shared_capacity) {
        free(shared_memory);
        shared_capacity = (launch->shared_bytes + 1023) / 1024 * 1024;
        shared_memory = (char*) aligned_alloc(1024, shared_capacity);
    }
    cs_dynamic_shared = launch->shared_bytes ? shared_memory : nullptr;
    faults_launch();
    memory_launch(*launch, shared_memory);
    catch_signals();
    run_grid();
    release_signals();
    memory_done();
    if (failed) reset_fibers();
    int bad = failed;
    launched = nullptr;
    cs_unlock();
    return bad;
}
}
