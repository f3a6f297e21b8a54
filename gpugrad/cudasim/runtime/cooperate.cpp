// Where threads wait for one another: barriers of a block, and the operations of a warp.
#include "device.h"

namespace {

// The numbers are include/cudasim/warp.h's.
enum WarpOp : uint8_t {
    SHUFFLE, DOWN, UP, XOR, BALLOT, SYNC, MATCH_ANY, MATCH_ALL, ACTIVE,
    ADD, MIN, MAX, UNSIGNED_MIN, UNSIGNED_MAX, AND, OR, BITWISE_XOR, TOGETHER
};
const char* const NAMES[] = {
    "__shfl_sync", "__shfl_down_sync", "__shfl_up_sync", "__shfl_xor_sync", "a vote", "__syncwarp",
    "__match_any_sync", "__match_all_sync", "__activemask", "__reduce_add_sync",
    "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync", "__reduce_max_sync",
    "__reduce_and_sync", "__reduce_or_sync", "__reduce_xor_sync", "an instruction for matrices"};

// What a lane that isn't there gives to a shuffle: a NaN in every floating type.
constexpr uint64_t ABSENT = 0xfff7fff7fff7fff7ull;

int at_barrier;
unsigned at_warp[MAX_WARPS];            // lanes that wait at an operation of their warp
unsigned blocked[MAX_WARPS];            // lanes that wait for anything

// The threads that may go on, in the order that was asked for: the ready list takes them from
// either end, so only a seed needs nothing here.
void release(const int* list, int n) {
    for (int i = 0; i < n; ++i) {
        int t = list[i];
        blocked[t / WARP] &= ~(1u << t % WARP);
        make_ready(t);
    }
}

void finish_barrier() {
    int first = -1, n = 0, list[MAX_THREADS];
    uint64_t votes = 0;
    for (int t = 0; t < thread_count; ++t) {
        if (threads[t].wait != AT_BARRIER) continue;
        if (first < 0) first = t;
        if (threads[t].site != threads[first].site) {
            fail_between(BARRIER, place_of(block_number, first, threads[first].pc),
                         place_of(block_number, t, threads[t].pc),
                         "divergent barriers: {0} waits at one __syncthreads and {1} at another");
            return;
        }
        votes += threads[t].value;
        list[n++] = t;
    }
    at_barrier = 0;
    memory_barrier();
    for (int i = 0; i < n; ++i) threads[list[i]].value = votes | (uint64_t) n << 32;
    release(list, n);
}

void try_barrier() {
    if (at_barrier && at_barrier == alive) finish_barrier();
}

int source_lane(const Thread& t, int lane) {
    int begin = lane / t.width * t.width, a = t.argument, s = lane;
    switch (t.op) {
        case SHUFFLE: return begin + (a & (t.width - 1));
        case DOWN: s = (unsigned) a < WARP ? lane + a : WARP; break;
        case UP: s = (unsigned) a < WARP ? lane - a : -1; break;
        case XOR: s = lane ^ (a & (WARP - 1)); break;
    }
    bool inside = t.op == XOR ? s < begin + t.width : s >= begin && s < begin + t.width;
    return inside ? s : lane;
}

uint64_t combined(uint8_t op, uint64_t x, uint64_t y) {
    unsigned a = (unsigned) x, b = (unsigned) y;
    switch (op) {
        case ADD: return a + b;
        case MIN: return (int) a < (int) b ? a : b;
        case MAX: return (int) a > (int) b ? a : b;
        case UNSIGNED_MIN: return a < b ? a : b;
        case UNSIGNED_MAX: return a > b ? a : b;
        case AND: return a & b;
        case OR: return a | b;
        default: return a ^ b;
    }
}

// What a whole warp does at once (include/cudasim/tensor_cores.h): one call with what lanes bring.
void call_together(int warp, unsigned lanes) {
    typedef void (*Call)(void**);
    const Thread* t = threads + warp * WARP;
    const int first = __builtin_ctz(lanes);
    void* brought[WARP];
    for (int l = 0; l < WARP; ++l) {
        brought[l] = (void*) t[l].value;
        bool here = lanes >> l & 1;
        if (here && *(Call*) brought[l] == *(Call*) brought[first]) continue;
        fail_at(WARP_MASK, place_of(block_number, warp * WARP + first, t[first].pc),
                "%s takes a whole warp, but lane %d has %s, unlike {0}", NAMES[TOGETHER], l,
                here ? "come to another one" : "returned");
        return;
    }
    (*(Call*) brought[first])(brought);
}

// All lanes of `lanes` wait at the same operation: each gets its result.
void finish_warp(int warp, unsigned lanes) {
    Thread* t = threads + warp * WARP;
    uint64_t value[WARP], result[WARP] = {}, all = 0;
    unsigned ballot = 0;
    int list[WARP], n = 0;
    for (int l = 0; l < WARP; ++l) {
        value[l] = ABSENT;
        if (!(lanes >> l & 1)) continue;
        value[l] = t[l].value;
        all = n ? combined(t[l].op, all, value[l]) : value[l];
        if (value[l]) ballot |= 1u << l;
        list[n++] = warp * WARP + l;
    }
    const uint8_t op = t[list[0] % WARP].op;
    for (int i = 0; i < n; ++i) {
        int l = list[i] % WARP;
        unsigned same = 0;
        if (op == MATCH_ANY || op == MATCH_ALL)
            for (int j = 0; j < n; ++j)
                if (value[list[j] % WARP] == value[l]) same |= 1u << list[j] % WARP;
        if (op <= XOR) result[l] = value[source_lane(t[l], l)];
        else if (op == BALLOT) result[l] = ballot;
        else if (op == MATCH_ANY) result[l] = same;
        else if (op == MATCH_ALL) result[l] = same == lanes ? lanes : 0;
        else if (op == ACTIVE) result[l] = lanes;
        else if (op >= ADD) result[l] = all;
    }
    if (op == TOGETHER) call_together(warp, lanes);
    if (op == SYNC) memory_warp_sync(warp, lanes);
    for (int i = 0; i < n; ++i) t[list[i] % WARP].value = result[list[i] % WARP];
    at_warp[warp] &= ~lanes;
    release(list, n);
}

// Finish the operation that thread t waits at if all that its mask names have come.
bool try_warp(int t) {
    int warp = t / WARP;
    const unsigned lanes = threads[t].mask & alive_mask[warp];
    if (threads[t].op == ACTIVE || lanes & ~at_warp[warp]) return false;
    for (int l = 0; l < WARP; ++l) {
        const Thread& other = threads[warp * WARP + l];
        if (lanes >> l & 1 && (other.op != threads[t].op || other.mask != threads[t].mask))
            return false;
    }
    finish_warp(warp, lanes);
    return true;
}

// Nobody of the warp can go on: those at __activemask are as many as there will be at their place.
void try_active(int warp) {
    if (!at_warp[warp] || (alive_mask[warp] & ~blocked[warp])) return;
    for (int l = 0; l < WARP; ++l) {
        const Thread& t = threads[warp * WARP + l];
        if (!(at_warp[warp] >> l & 1) || t.op != ACTIVE) continue;
        unsigned lanes = 0;
        for (int j = l; j < WARP; ++j) {
            const Thread& other = threads[warp * WARP + j];
            if (at_warp[warp] >> j & 1 && other.op == ACTIVE && other.site == t.site)
                lanes |= 1u << j;
        }
        finish_warp(warp, lanes);
    }
}

void wait(Wait kind, uintptr_t pc) {
    Thread& t = threads[current];
    int me = current, warp = current / WARP;
    t.wait = kind;
    t.pc = pc;
    blocked[warp] |= 1u << me % WARP;
    if (interrupted) fail(INTERRUPTED, "interrupted");
    if (kind == AT_BARRIER) {
        ++at_barrier;
        try_barrier();
    } else {
        at_warp[warp] |= 1u << me % WARP;
        try_warp(me);
    }
    try_active(warp);
    if (failed) abandon();
    leave();
    if (failed) abandon();
}

}  // namespace

void start_block_of_warps() {
    at_barrier = 0;
    for (int w = 0; w < MAX_WARPS; ++w) at_warp[w] = blocked[w] = 0;
}

void thread_exited(int t) {
    int warp = t / WARP;
    try_barrier();
    for (int l = 0; l < WARP && at_warp[warp]; ++l)
        if (at_warp[warp] >> l & 1) try_warp(warp * WARP + l);
    try_active(warp);
}

void describe_deadlock() {
    int barrier = 0, warps = 0, first[2] = {-1, -1};
    for (int t = 0; t < thread_count; ++t) {
        bool warp = threads[t].wait == AT_WARP;
        if (!warp && threads[t].wait != AT_BARRIER) continue;
        ++(warp ? warps : barrier);
        if (first[warp] < 0) first[warp] = t;
    }
    Place b = {}, w = {};
    if (barrier) b = place_of(block_number, first[0], threads[first[0]].pc);
    if (warps) w = place_of(block_number, first[1], threads[first[1]].pc);
    const char* op = warps ? NAMES[threads[first[1]].op] : "";
    int exited = thread_count - alive;
    if (barrier && warps)
        fail_between(DEADLOCK, b, w, "deadlock: %d threads wait at __syncthreads, as {0}, %d at an "
                     "operation of their warp, as {1} at %s with mask %08x; %d have returned",
                     barrier, warps, op, threads[first[1]].mask, exited);
    else if (warps)
        fail_at(DEADLOCK, w, "deadlock: %d threads wait at an operation of their warp, as {0} at "
                "%s with mask %08x, for lanes that never come; %d have returned", warps, op,
                threads[first[1]].mask, exited);
    else
        fail_at(DEADLOCK, b, "deadlock: %d threads wait at __syncthreads, as {0}; %d have returned",
                barrier, exited);
}

extern "C" {

void cs_syncthreads(int site) {
    threads[current].site = site;
    threads[current].value = 0;
    wait(AT_BARRIER, CALLER);
}

// How many threads' predicate is true (kind 0), whether all (1), whether any (2).
int cs_syncthreads_vote(int site, int predicate, int kind) {
    Thread& t = threads[current];
    t.site = site;
    t.value = predicate;
    wait(AT_BARRIER, CALLER);
    unsigned votes = (unsigned) t.value, voters = (unsigned) (t.value >> 32);
    return kind == 0 ? (int) votes : kind == 1 ? votes == voters : votes != 0;
}

uint64_t cs_warp(unsigned mask, uint64_t value, int op, int argument, int width, int site) {
    Thread& t = threads[current];
    uintptr_t pc = CALLER;
    if (op == ACTIVE) mask = ~0u;
    if (!(mask >> current % WARP & 1)) {
        fail_at(WARP_MASK, here(pc), "%s with mask %08x, which leaves out the calling lane %d, by "
                "{0}", NAMES[op], mask, current % WARP);
        abandon();
    }
    if (op <= XOR && (width < 1 || width > WARP || (width & (width - 1)))) {
        fail_at(WARP_MASK, here(pc), "%s with width %d, which is not 1, 2, 4, 8, 16 or 32, by {0}",
                NAMES[op], width);
        abandon();
    }
    t.mask = mask;
    t.value = value;
    t.op = (uint8_t) op;
    t.argument = argument;
    t.width = width;
    t.site = site;
    wait(AT_WARP, pc);
    return t.value;
}
}
