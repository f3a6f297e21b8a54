// Random words by element, not by thread: the same on any grid, on any device and on the CPU; and
// the generator's state in device memory. philox.cuh says how words are counted. The dtype plays no
// part.
#include "common.cuh"
#include "philox.cuh"

// n words. A thread per counter, that is per four words.
extern "C" __global__ void philox(unsigned* __restrict__ words, long long n,
                                  const unsigned long long* __restrict__ state,
                                  unsigned long long offset) {
    unsigned long long key = state[0], first = state[1] + offset;
    EACH(i, (n + 3) / 4) {
        Words four = philox4x32(key, first + i);
        for (int lane = 0; lane < 4; ++lane)
            if (4 * i + lane < (Index) n) words[4 * i + lane] = four.at[lane];
    }
}

// One thread: the state becomes (seed, offset).
extern "C" __global__ void set_state(unsigned long long* __restrict__ state,
                                     unsigned long long seed, unsigned long long offset) {
    state[0] = seed;
    state[1] = offset;
}

// One thread: what a graph has drawn is used up; the last kernel of each replay.
extern "C" __global__ void advance(unsigned long long* __restrict__ state,
                                   unsigned long long counters) {
    state[1] += counters;
}
