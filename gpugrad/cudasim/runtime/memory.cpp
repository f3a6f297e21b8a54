// Device and shared memory, and what is checked at every access of a kernel.
//
// g++ -fsanitize=thread puts a call before each load and store; the functions called are ours. Each
// granule of memory (1, 2 or 4 bytes) has a cell that remembers its last write and two of its reads
// in the running launch. An access races with an earlier one by another thread, of which one
// writes and not both are atomic, unless a barrier lies between them: __syncthreads for the threads
// of a block, __syncwarp for those lanes of a warp that took part; and for different blocks only
// __threadfence followed by an atomic operation of the one, and an atomic operation of the other on
// the same address.
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

namespace {

// Who did it and when. stamp: barriers of the block so far (24 bits), synchronisations of the lane
// with its warp so far (24), thread (10), whether it is atomic (1).
struct Access {
    uint64_t stamp;
    uint32_t run;               // the block's number among all blocks ever run; 0: none
    uint32_t pc;                // relative to the module
};

struct Cell {
    Access write, read, other_read;
};

struct Region {
    uintptr_t start;
    size_t bytes;
    unsigned granule;           // bytes of a cell: 1, 2 or 4
    bool shared;
    Cell* cells;                // made at the first access
};

Region** regions;               // sorted by start
int region_count, region_capacity;
Region* found[64];              // the region that the instruction at a pc met last
Region variables;               // the running module's __device__ and __constant__ variables

struct {
    uintptr_t start;
    size_t bytes;
} file_shared[64], shared[64];  // __shared__ variables outside functions; those of this launch
Region shared_regions[64], dynamic_region;
int file_shared_count, shared_count;

bool checked;
uint32_t first_run, run, last_run;      // of the launch, of the running block, ever
size_t shared_used, shared_limit;
uint32_t epoch;                         // barriers of the running block
uint32_t steps, patience;               // accesses since this thread was resumed; the most
int stepping;
uintptr_t module_base;

// Synchronisations within warps. A warp's clock counts them; a lane remembers its last one. Where
// only part of a warp took part, known[i][j] is the last one of lane j that lane i knows of.
uint32_t warp_clock[MAX_WARPS], lane_clock[MAX_THREADS], whole_warp[MAX_WARPS];
bool partial[MAX_WARPS];
uint32_t known[MAX_WARPS][WARP][WARP];

// ---- order between blocks ---------------------------------------------------------------------

struct Released {                       // what is known to whoever next uses an address atomically
    uintptr_t address;
    uint64_t* blocks;                   // a bit for each block of the launch, in running order
};
Released* released;
int released_count, released_capacity;
uint64_t* acquired;                     // by the running block
size_t block_words;
bool fenced, acquired_any;

void forget_releases() {
    for (int i = 0; i < released_count; ++i) free(released[i].blocks);
    free(acquired);
    acquired = nullptr;
    released_count = 0;
}

Released* release_at(uintptr_t address, bool make) {
    for (int i = 0; i < released_count; ++i)
        if (released[i].address == address) return &released[i];
    if (!make) return nullptr;
    if (released_count == released_capacity) {
        released_capacity = released_capacity * 2 + 16;
        released = (Released*) realloc(released, released_capacity * sizeof *released);
    }
    released[released_count] = {address, (uint64_t*) calloc(block_words, 8)};
    return &released[released_count++];
}

void order_blocks(uintptr_t address) {
    if (!fenced && !released_count) return;
    Released* r = release_at(address, fenced);
    if (!r) return;
    if (!acquired) acquired = (uint64_t*) calloc(block_words, 8);
    for (size_t i = 0; i < block_words; ++i) acquired_any |= (acquired[i] |= r->blocks[i]) != 0;
    if (!fenced) return;
    for (size_t i = 0; i < block_words; ++i) r->blocks[i] |= acquired[i];
    uint32_t mine = run - first_run;
    r->blocks[mine / 64] |= 1ull << mine % 64;
}

// ---- races ------------------------------------------------------------------------------------

constexpr unsigned ATOMIC = 1;

inline unsigned stamp_thread(uint64_t s) { return s >> 1 & 1023; }
inline uint32_t stamp_clock(uint64_t s) { return s >> 16 & 0xffffff; }
inline uint32_t stamp_epoch(uint64_t s) { return (uint32_t) (s >> 40); }

inline bool in_launch(const Access& a) { return a.run >= first_run; }

// Whether something orders the earlier access before what the running thread does now.
inline bool ordered(const Access& a) {
    if (a.run != run) {
        uint32_t n = a.run - first_run;
        return acquired_any && (acquired[n / 64] >> n % 64 & 1);
    }
    unsigned t = stamp_thread(a.stamp);
    if ((int) t == current || stamp_epoch(a.stamp) < epoch) return true;
    int warp = current / WARP;
    if ((int) t / WARP != warp) return false;
    uint32_t clock = stamp_clock(a.stamp);
    return clock < whole_warp[warp]
        || (partial[warp] && clock < known[warp][current % WARP][t % WARP]);
}

uint64_t block_of_run(uint32_t r);

void race(const char* what, const Region& r, size_t offset, const Access& first, uintptr_t pc) {
    Place a = place_of(block_of_run(first.run), (int) stamp_thread(first.stamp),
                       module_base + first.pc), b = here(pc);
    bool blocks = first.run != run;
    bool warp = !blocks && (int) stamp_thread(first.stamp) / WARP == current / WARP;
    fail_between(RACE, a, b, "race on byte %zu of %s memory: %s, with no %s between", offset,
                 r.shared ? "shared" : "global", what,
                 blocks ? "order of the two blocks (only atomics may meet so)"
                 : warp ? "__syncthreads or __syncwarp" : "__syncthreads");
}

inline bool conflict(const Access& a, bool atomic) {
    return in_launch(a) && !(atomic && (a.stamp & ATOMIC)) && !ordered(a);
}

// Compares one cell's past with this access, and makes it part of the past.
inline bool touch(Cell& c, const Region& r, size_t offset, const Access& now, bool write,
                  bool atomic, uintptr_t pc) {
    if (conflict(c.write, atomic)) {
        race(write ? "{0} writes it and {1} writes it" : "{0} writes it and {1} reads it", r,
             offset, c.write, pc);
        return false;
    }
    if (!write) {
        if (!in_launch(c.read) || ordered(c.read)) c.read = now;
        else c.other_read = now;
        return true;
    }
    if (conflict(c.read, atomic) || conflict(c.other_read, atomic)) {
        race("{0} reads it and {1} writes it", r, offset,
             conflict(c.read, atomic) ? c.read : c.other_read, pc);
        return false;
    }
    // An atomic access must not hide a plain write that others have yet to be ordered with.
    if (atomic && in_launch(c.write) && !(c.write.stamp & ATOMIC) && c.write.run == run
        && stamp_epoch(c.write.stamp) == epoch)
        return true;
    c.write = now;
    return true;
}

bool make_cells(Region& r, unsigned granule) {
    Cell* cells = (Cell*) calloc(r.bytes / granule + 1, sizeof(Cell));
    if (!cells) {
        fail(CRASH, "not enough memory to check a kernel's accesses to %zu bytes", r.bytes);
        return false;
    }
    for (size_t i = 0; r.cells && i * granule < r.bytes; ++i)
        cells[i] = r.cells[i * granule / r.granule];
    free(r.cells);
    r.cells = cells;
    r.granule = granule;
    return true;
}

// ---- finding memory ---------------------------------------------------------------------------

int regions_up_to(uintptr_t p) {        // how many start at p or before
    int low = 0, high = region_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (regions[middle]->start <= p) low = middle + 1;
        else high = middle;
    }
    return low;
}

Region* find(uintptr_t p) {
    int n = regions_up_to(p);
    if (n && p - regions[n - 1]->start < regions[n - 1]->bytes) return regions[n - 1];
    return p - variables.start < variables.bytes ? &variables : nullptr;
}

void add(Region* r) {
    memset(found, 0, sizeof found);
    if (region_count == region_capacity) {
        region_capacity = region_capacity * 2 + 256;
        regions = (Region**) realloc(regions, region_capacity * sizeof *regions);
    }
    int n = regions_up_to(r->start);
    memmove(regions + n + 1, regions + n, (region_count - n) * sizeof *regions);
    regions[n] = r;
    ++region_count;
}

Region* remove(uintptr_t start) {
    memset(found, 0, sizeof found);
    int n = regions_up_to(start) - 1;
    if (n < 0 || regions[n]->start != start) return nullptr;
    Region* r = regions[n];
    --region_count;
    memmove(regions + n, regions + n + 1, (region_count - n) * sizeof *regions);
    free(r->cells);
    return r;
}

void out_of_bounds(uintptr_t p, size_t size, bool write, uintptr_t pc) {
    const char* what = write ? "write" : "read";
    const char* of[] = {"device memory", "shared memory"};
    if (p < 4096) {
        fail_at(OUT_OF_BOUNDS, here(pc), "out of bounds: %s of %zu bytes through a null pointer by "
                "{0}", what, size);
        return;
    }
    int n = regions_up_to(p);
    const Region* before = n ? regions[n - 1] : nullptr;
    const Region* after = n < region_count ? regions[n] : nullptr;
    uint64_t past = before ? p - before->start - before->bytes : ~0ull;
    uint64_t ahead = after ? after->start - p : ~0ull;
    if ((past < ahead ? past : ahead) > 1 << 20)
        fail_at(OUT_OF_BOUNDS, here(pc), "out of bounds: %s of %zu bytes at %p, where there is no "
                "device memory (released, or memory of the host or of another thread), by {0}",
                what, size, (void*) p);
    else if (past < ahead)
        fail_at(OUT_OF_BOUNDS, here(pc), "out of bounds: %s of %zu bytes, %llu bytes past the end "
                "of %zu bytes of %s, by {0}", what, size, (unsigned long long) past, before->bytes,
                of[before->shared]);
    else
        fail_at(OUT_OF_BOUNDS, here(pc), "out of bounds: %s of %zu bytes, %llu bytes before the "
                "start of %zu bytes of %s, by {0}", what, size, (unsigned long long) ahead,
                after->bytes, of[after->shared]);
}

// ---- one access -------------------------------------------------------------------------------

bool count_step(uintptr_t pc) {
    if (stepping != current) {
        stepping = current;
        steps = 0;
    }
    if (++steps < patience && !(interrupted && !(steps & 1023))) return true;
    if (interrupted) fail(INTERRUPTED, "interrupted");
    else fail_at(ENDLESS, here(pc), "{0} has accessed memory %u times without meeting another "
                 "thread: does it wait for one, or for a block that runs after its own?", steps);
    return false;
}

inline bool access(uintptr_t p, size_t size, bool write, bool atomic, uintptr_t pc,
                   bool aligned = true) {
    if (current < 0 || in_this_stack(p)) return true;
    Region*& last = found[pc & 63];
    Region* r = last;
    if (!r || p - r->start >= r->bytes) {
        r = find(p);
        if (!r) {
            if (p - (uintptr_t) &cs_position < sizeof cs_position) return true;
            // Constants of the module that can't be written lie outside its data.
            if (!write && p >= launched->module->begin && p < launched->module->end) return true;
            out_of_bounds(p, size, write, pc);
            return false;
        }
        last = r;
    }
    size_t offset = p - r->start;
    if (offset + size > r->bytes) {
        fail_at(OUT_OF_BOUNDS, here(pc), "out of bounds: %s of %zu bytes across the end of %zu "
                "bytes of %s memory, by {0}", write ? "write" : "read", size, r->bytes,
                r->shared ? "shared" : "device");
        return false;
    }
    if (aligned && p & (size - 1)) {
        fail_at(MISALIGNED, here(pc), "misaligned %s of %zu bytes at address %p by {0}",
                write ? "write" : "read", size, (void*) p);
        return false;
    }
    if (!count_step(pc)) return false;
    unsigned g = size < r->granule ? (unsigned) size : r->granule;
    if ((!r->cells || g < r->granule) && !make_cells(*r, g)) return false;
    Access now = {(uint64_t) epoch << 40 | (uint64_t) lane_clock[current] << 16
                  | (uint64_t) current << 1 | (atomic ? ATOMIC : 0), run,
                  (uint32_t) (pc - module_base)};
    for (size_t i = offset / g, end = (offset + size - 1) / g; i <= end; ++i)
        if (!touch(r->cells[i], *r, offset, now, write, atomic, pc)) return false;
    return true;
}

void access_range(uintptr_t p, size_t bytes, bool write, uintptr_t pc) {
    while (bytes) {                     // in pieces as large as their address allows
        size_t piece = p & 1 || bytes < 2 ? 1 : p & 2 || bytes < 4 ? 2 : 4;
        if (!access(p, piece, write, false, pc)) abandon();
        p += piece;
        bytes -= piece;
    }
}

// How finely to watch elements of a size: in pieces of 1, 2 or 4 bytes that it is a multiple of.
unsigned granule_of(size_t element) { return element & 1 ? 1 : element & 2 ? 2 : 4; }

// counts: not for those outside functions, of which a kernel may use none.
void use_shared(uintptr_t start, size_t bytes, size_t element, bool counts) {
    for (int i = 0; i < shared_count; ++i)
        if (shared[i].start == start) return;
    shared_used += counts ? bytes : 0;
    if (shared_count == 64 || (counts && shared_used > shared_limit)) {
        fail(SHARED_SIZE, "too much shared memory: the kernel uses %zu bytes, a block has %zu",
             shared_used, shared_limit);
        return;
    }
    memset((void*) start, 0xff, bytes);
    Region& r = shared_regions[shared_count];
    r = {start, bytes, granule_of(element), true, nullptr};
    shared[shared_count++] = {start, bytes};
    if (checked) add(&r);
}

uint64_t* run_blocks;                   // the block of each run of this launch
size_t run_capacity;

uint64_t block_of_run(uint32_t r) { return run_blocks[r - first_run]; }

}  // namespace

// ---- what the scheduler tells -----------------------------------------------------------------

void memory_launch(const Launch& launch, char* dynamic_shared) {
    checked = launch.checked;
    patience = launch.patience;
    shared_used = launch.shared_bytes;
    shared_limit = launch.shared_limit;
    shared_count = 0;
    stepping = -1;
    module_base = launch.module->base;
    if (last_run > 0xf0000000u) {       // the counter nearly wraps: forget all past
        last_run = 0;
        for (int i = 0; i < region_count; ++i) {
            free(regions[i]->cells);
            regions[i]->cells = nullptr;
        }
    }
    first_run = last_run + 1;
    size_t module_bytes = launch.module->end - launch.module->begin;
    for (int i = 0; i < file_shared_count; ++i)
        if (file_shared[i].start - launch.module->begin < module_bytes)
            use_shared(file_shared[i].start, file_shared[i].bytes, 1, false);
    if (!checked) return;
    uint64_t blocks = (uint64_t) launch.grid[0] * launch.grid[1] * launch.grid[2];
    block_words = (blocks + 63) / 64;
    forget_releases();
    if (blocks > run_capacity) {
        run_capacity = blocks;
        free(run_blocks);
        run_blocks = (uint64_t*) malloc(blocks * sizeof *run_blocks);
        if (!run_blocks) abort();
    }
    variables = {launch.module->begin, module_bytes, 4, false, nullptr};
    if (launch.shared_bytes) {
        dynamic_region = {(uintptr_t) dynamic_shared, launch.shared_bytes, 4, true, nullptr};
        add(&dynamic_region);
    }
}

void memory_block() {
    run = ++last_run;
    epoch = 0;
    stepping = -1;
    for (int i = 0; i < shared_count; ++i) memset((void*) shared[i].start, 0xff, shared[i].bytes);
    if (!checked) return;
    run_blocks[run - first_run] = block_number;
    fenced = acquired_any = false;
    if (acquired) memset(acquired, 0, block_words * 8);
    memset(warp_clock, 0, sizeof warp_clock);
    memset(whole_warp, 0, sizeof whole_warp);
    memset(lane_clock, 0, thread_count * sizeof *lane_clock);
    memset(partial, 0, sizeof partial);
    // Shared memory is another one in each block.
    for (int i = 0; i < shared_count; ++i) {
        Region& r = shared_regions[i];
        if (r.cells) memset(r.cells, 0, (r.bytes / r.granule + 1) * sizeof(Cell));
    }
    Region& d = dynamic_region;
    if (d.cells) memset(d.cells, 0, (d.bytes / d.granule + 1) * sizeof(Cell));
}

void memory_done() {
    if (!checked) return;
    for (int i = 0; i < shared_count; ++i) remove(shared[i].start);
    if (dynamic_region.bytes) remove(dynamic_region.start);
    dynamic_region = {};
    free(variables.cells);
    variables = {};
    memset(found, 0, sizeof found);
    checked = false;
}

void memory_barrier() { ++epoch; }

void memory_warp_sync(int w, unsigned lanes) {
    if (!checked) return;
    uint32_t now = ++warp_clock[w];
    for (int l = 0; l < WARP; ++l)
        if (lanes >> l & 1) lane_clock[w * WARP + l] = now;
    if (lanes == alive_mask[w]) {
        whole_warp[w] = now;
        return;
    }
    if (!partial[w]) memset(known[w], 0, sizeof known[w]);
    partial[w] = true;
    uint32_t all[WARP] = {};
    for (int i = 0; i < WARP; ++i)
        for (int j = 0; j < WARP && lanes >> i & 1; ++j)
            if (known[w][i][j] > all[j]) all[j] = known[w][i][j];
    for (int j = 0; j < WARP; ++j)
        if (lanes >> j & 1) all[j] = now;
    for (int i = 0; i < WARP; ++i)
        if (lanes >> i & 1) memcpy(known[w][i], all, sizeof all);
}

void memory_access(const void* p, size_t bytes, bool write, bool of_shared, uintptr_t pc) {
    if (!checked) return;
    const Region* r = of_shared ? find((uintptr_t) p) : nullptr;
    if (of_shared && !(r && r->shared))
        fail_at(OUT_OF_BOUNDS, here(pc), "out of bounds: %s of %zu bytes outside all shared memory "
                "by {0}", write ? "write" : "read", bytes);
    if (failed || !access((uintptr_t) p, bytes, write, false, pc)) abandon();
}

// ---- what Python and kernels call -------------------------------------------------------------

extern "C" {

void cs_lock();
void cs_unlock();

void cs_add_memory(uint64_t start, uint64_t bytes, unsigned element) {
    Region* r = (Region*) malloc(sizeof(Region));
    if (!r) return;
    *r = {(uintptr_t) start, bytes, granule_of(element), false, nullptr};
    cs_lock();
    add(r);
    cs_unlock();
}

void cs_remove_memory(uint64_t start) {
    cs_lock();
    free(remove((uintptr_t) start));
    cs_unlock();
}

void cs_shared(void* p, size_t bytes, size_t element) {
    use_shared((uintptr_t) p, bytes, element, true);
    if (failed) abandon();
}

int cs_shared_of_file(void* p, size_t bytes) {
    if (file_shared_count < 64) file_shared[file_shared_count++] = {(uintptr_t) p, bytes};
    return 0;
}

void cs_fence() { fenced = true; }

// Where the module lies that has a function.
void cs_find_module(void* function, Module* module) {
    struct Search {
        uintptr_t function;
        Module* module;
    } search = {(uintptr_t) function, module};
    dl_iterate_phdr([](dl_phdr_info* info, size_t, void* data) {
        Search* s = (Search*) data;
        uintptr_t begin = ~(uintptr_t) 0, end = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& part = info->dlpi_phdr[i];
            if (part.p_type != PT_LOAD) continue;
            uintptr_t start = info->dlpi_addr + part.p_vaddr;
            if (start < begin) begin = start;
            if (start + part.p_memsz > end) end = start + part.p_memsz;
        }
        if (s->function < begin || s->function >= end) return 0;
        *s->module = {(uintptr_t) info->dlpi_addr, begin, end};
        return 1;
    }, &search);
}

// The size of a variable of a module, 0 if it has none of that name.
uint64_t cs_variable(void* library, const char* name, uint64_t* address) {
    void* found = dlsym(library, name);
    if (!found) return 0;
    Dl_info info;
    ElfW(Sym)* symbol = nullptr;
    *address = (uint64_t) (uintptr_t) found;
    if (!dladdr1(found, &info, (void**) &symbol, RTLD_DL_SYMENT) || !symbol) return 0;
    return symbol->st_size;
}

// Before an atomic operation, done by the thread whose kernel calls from pc.
void cs_atomic(void* p, size_t bytes, void* pc) {
    if (!checked) {
        if (!count_step((uintptr_t) pc)) abandon();
        return;
    }
    order_blocks((uintptr_t) p);
    if (!access((uintptr_t) p, bytes, true, true, (uintptr_t) pc)) abandon();
}

// Before a copy or a fill of many bytes.
void cs_touch(const void* p, size_t bytes, int write) {
    if (checked) access_range((uintptr_t) p, bytes, write, CALLER);
}

uint64_t cs_clock() {
    static uint64_t ticks;
    return ticks += 32;
}

#define HOOK(name, size, write, aligned)                                                       \
    void name(void* p) {                                                                       \
        if (!access((uintptr_t) p, size, write, false, CALLER, aligned)) abandon();            \
    }
#define HOOKS(size)                                                                            \
    HOOK(__tsan_read##size, size, false, true)                                                 \
    HOOK(__tsan_write##size, size, true, true)                                                 \
    HOOK(__tsan_volatile_read##size, size, false, true)                                        \
    HOOK(__tsan_volatile_write##size, size, true, true)                                        \
    HOOK(__tsan_unaligned_read##size, size, false, false)                                      \
    HOOK(__tsan_unaligned_write##size, size, true, false)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)

void __tsan_read_range(void* p, size_t n) { access_range((uintptr_t) p, n, false, CALLER); }
void __tsan_write_range(void* p, size_t n) { access_range((uintptr_t) p, n, true, CALLER); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
}
