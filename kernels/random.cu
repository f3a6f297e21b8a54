// Random words by element, not by thread: the same on any grid, on any device and on the CPU.
//
// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011). Word i of a
// call is lane i % 4 of the block whose counter is offset + i / 4, with the seed as the key. A
// thread per block of four words. The dtype plays no part.
#include "common.cuh"

// n = number of words
extern "C" __global__ void philox(unsigned* __restrict__ words, long long n,
                                  unsigned long long seed, unsigned long long offset) {
    EACH(i, (n + 3) / 4) {
        unsigned long long counter = offset + i;
        unsigned c[4] = {(unsigned) counter, (unsigned) (counter >> 32), 0, 0};
        unsigned k0 = (unsigned) seed, k1 = (unsigned) (seed >> 32);
        for (int round = 0; round < 10; ++round) {
            unsigned high0 = __umulhi(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
            unsigned high1 = __umulhi(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
            c[0] = high1 ^ c[1] ^ k0;
            c[1] = low1;
            c[2] = high0 ^ c[3] ^ k1;
            c[3] = low0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        for (int lane = 0; lane < 4; ++lane)
            if (4 * i + lane < (Index) n) words[4 * i + lane] = c[lane];
    }
}
