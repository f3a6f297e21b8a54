// cp.async: copies to shared memory that a thread begins and later waits for.
//
// A copy is done as late as may be, when its thread waits for it. Until then NaNs are there. For
// races it counts as written both when it begins, since nobody may still read what was there, and
// when it is done, since nobody may read it before the barrier that follows.
#include <stdlib.h>
#include <string.h>

#include "device.h"

namespace {

struct Copy {
    void* to;
    unsigned bytes, group;
    char data[16];
};

// Copies of a thread that are under way, in the order that it began them.
struct Queue {
    Copy* copies;
    unsigned count, capacity, committed;
};
Queue queues[MAX_THREADS];
bool used;

}  // namespace

void copies_block() {
    for (int t = 0; used && t < thread_count; ++t) queues[t].count = queues[t].committed = 0;
}

extern "C" {

void cs_begin_copy(void* to, const void* from, unsigned bytes, int valid) {
    Queue& q = queues[current];
    if (valid) memory_access(from, bytes, false, false, CALLER);
    memory_access(to, bytes, true, true, CALLER);
    if (q.count == q.capacity) {
        q.capacity = q.capacity * 2 + 16;
        q.copies = (Copy*) realloc(q.copies, q.capacity * sizeof(Copy));
        if (!q.copies) abort();
    }
    used = true;
    Copy& c = q.copies[q.count++];
    c = {to, bytes, q.committed, {}};
    if (valid) memcpy(c.data, from, bytes);
    memset(to, 0xff, bytes);
}

void cs_commit_copies() { ++queues[current].committed; }

void cs_wait_for_copies(int left) {
    Queue& q = queues[current];
    unsigned done = 0;
    for (; done < q.count && (int) (q.committed - q.copies[done].group) > left; ++done) {
        const Copy& c = q.copies[done];
        memory_access(c.to, c.bytes, true, true, CALLER);
        memcpy(c.to, c.data, c.bytes);
    }
    q.count -= done;
    memmove(q.copies, q.copies + done, q.count * sizeof(Copy));
}

void cs_read_row(const void* row) { memory_access(row, 16, false, true, CALLER); }
}
