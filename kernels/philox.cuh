// Philox4x32-10: four random words for each counter, under a key. Salmon et al., Parallel random
// numbers: as easy as 1, 2, 3 (SC 2011).
//
// Kernels that draw take (const unsigned long long* state, unsigned long long offset) from the CUDA
// generator's reserve(words): the key is state[0], and word i of the draw is lane i % 4 of the counter
// state[1] + offset + i / 4. So a number depends on its place and never on the threads. The state
// lies in device memory because a captured graph draws new numbers at each replay. A kernel that
// can't know how many words an element takes reserves it a counter, and counts in its upper half,
// `draw`, which is 0 elsewhere.
#ifndef GPUGRAD_PHILOX_CUH
#define GPUGRAD_PHILOX_CUH

struct Words {
    unsigned at[4];
};

__device__ __forceinline__ Words philox4x32(unsigned long long key, unsigned long long counter,
                                            unsigned draw = 0) {
    unsigned c0 = (unsigned) counter, c1 = (unsigned) (counter >> 32), c2 = draw, c3 = 0;
    unsigned k0 = (unsigned) key, k1 = (unsigned) (key >> 32);
    for (int round = 0; round < 10; ++round) {
        unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

#endif
