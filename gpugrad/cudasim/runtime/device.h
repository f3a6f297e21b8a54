// What the parts of the simulator's runtime know of one another.
//
// One device, one kernel at a time (a lock sees to it), one block after another. A thread of a
// block is a number; it gets a fiber, a stack of its own, only if it has to wait for another
// thread. The runtime uses the C library and nothing of C++'s, so that it loads beside any Python.
#pragma once
#include <stddef.h>
#include <stdint.h>

constexpr int MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP;

struct Index3 {
    unsigned x, y, z;
};

// Where the running thread is. Kernels read it as threadIdx, blockIdx, blockDim and gridDim.
struct Position {
    Index3 thread, block, block_dim, grid_dim;
};
extern "C" Position cs_position;

// ---- a kernel and its launch ------------------------------------------------------------------

typedef void (*Function)();
typedef void (*Caller)(Function, const char* arguments);

// A row of the table that each compiled module exports (include/cudasim/export.h).
struct KernelEntry {
    const char* name;
    Caller call;
    Function function;
    unsigned argument_bytes;
    int max_threads;            // of __launch_bounds__, 0 without one
    char signature[1024];
};

enum Order : uint32_t { FORWARD, REVERSED, SEEDED };

// What Python packs for a launch (kernel.py); the arguments follow it.
struct Launch {
    const KernelEntry* kernel;
    struct Module* module;
    uint32_t grid[3], block[3];
    uint64_t shared_bytes, shared_limit;
    uint32_t order, seed, checked, patience;
};

// Where a compiled module lies in memory.
struct Module {
    uintptr_t base, begin, end;
};

// ---- threads (schedule.cpp) -------------------------------------------------------------------

enum Wait : uint8_t { NOT, AT_BARRIER, AT_WARP, EXITED };

struct Fiber;

struct Thread {
    Fiber* fiber;
    Wait wait;
    uint8_t op;                 // of a warp: WarpOp
    int argument, width;        // of a shuffle
    int site;                   // of a barrier: which one of the source
    unsigned mask;
    uint64_t value;             // what it brings, and then what it gets
    uintptr_t pc;
};

extern Thread threads[MAX_THREADS];
extern int current;             // the running thread; -1 outside kernels
extern int thread_count, alive;
extern unsigned alive_mask[MAX_WARPS];   // lanes that have not exited
extern const Launch* launched;
extern uint64_t block_number;   // of the running block, counted through the grid
extern bool failed;

void make_ready(int thread);
void leave();                   // let others run until this thread is ready again
[[noreturn]] void abandon();    // leave for good: the launch has failed
bool on_a_fiber();
bool in_this_stack(uintptr_t address);      // of the running thread
bool in_guard_page(uintptr_t address);
unsigned random_below(unsigned n);

// ---- waiting for one another (cooperate.cpp) --------------------------------------------------

void start_block_of_warps();
void thread_exited(int thread);
void describe_deadlock();

// ---- memory and its checks (memory.cpp) -------------------------------------------------------

void memory_launch(const Launch& launch, char* dynamic_shared);
void memory_block();            // a new block begins
void memory_done();
void memory_barrier();          // all threads of the block have met
void memory_warp_sync(int warp, unsigned lanes);
// An access of 1, 2, 4, 8 or 16 bytes, of shared memory only if it must be; checked if the launch is.
void memory_access(const void* p, size_t bytes, bool write, bool of_shared, uintptr_t pc);

// ---- copies that run beside a thread (copies.cpp) ---------------------------------------------

void copies_block();            // a new block begins

// ---- faults (faults.cpp) ----------------------------------------------------------------------

enum FaultKind : int32_t {
    NO_FAULT, OUT_OF_BOUNDS, MISALIGNED, RACE, BARRIER, DEADLOCK, ARITHMETIC, TRAP, WARP_MASK,
    CRASH, SHARED_SIZE, INTERRUPTED, ENDLESS
};

struct Place {
    uint64_t pc;                // relative to the module's base; 0: unknown
    Index3 block, thread;
};

// Text names places as {0} and {1}; Python puts them in, with their lines. file and line are set
// where the compiler has told them.
struct Fault {
    int32_t kind, places;
    Place place[2];
    uint32_t line;
    char file[252];
    char text[1024];
};

Place place_of(uint64_t block, int thread, uintptr_t pc);
Place here(uintptr_t pc);
// The first fault of a launch is kept. All of them return, the caller abandons.
void fail(FaultKind kind, const char* text, ...) __attribute__((format(printf, 2, 3)));
void fail_at(FaultKind kind, Place at, const char* text, ...) __attribute__((format(printf, 3, 4)));
void fail_between(FaultKind kind, Place first, Place second, const char* text, ...)
    __attribute__((format(printf, 4, 5)));
void faults_launch();
void catch_signals();
void release_signals();
extern volatile int interrupted;

#define CALLER ((uintptr_t) __builtin_return_address(0))
