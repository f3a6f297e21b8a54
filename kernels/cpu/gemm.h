// The inner loops of products: a tile of at most ROWS x (COLS vectors) sums held in registers.
#pragma once
#include "array.h"

#if defined(__AVX512F__)
enum { V = 16, ROWS = 8, COLS = 3 };    // V floats a vector; 32 registers
#elif defined(__aarch64__)
enum { V = 4, ROWS = 8, COLS = 3 };
#elif defined(__AVX__)
enum { V = 8, ROWS = 4, COLS = 3 };     // 16 registers
#else
enum { V = 4, ROWS = 4, COLS = 3 };
#endif

typedef float vec __attribute__((vector_size(4 * V), aligned(4), may_alias));


// c[v][r * ldc] = start[r] + sum over i < k of a[i * rows + r] * b[v][row[i]], each of them the first of
// V neighbours in b and c; start may be NULL.
typedef void Rows(intptr_t k, const float *a, const intptr_t *row, const float *const b[COLS],
                  float *const c[COLS], intptr_t ldc, const float *start);
extern Rows *const by_rows[ROWS][COLS];          // [rows - 1][vectors - 1]

// c[r * ldc + ...] += sum over i < k of a[r][at[i]] * b[i * vectors * V + ...], for vectors * V neighbours.
typedef void Sums(intptr_t k, const float *const a[ROWS], const intptr_t *at, const float *b, float *c,
                  intptr_t ldc);
extern Sums *const by_sums[ROWS][COLS];

// Element l of row r and element r of row l change places.
static inline __attribute__((always_inline)) void turn(vec a[V]) {
#if defined(__clang__)
    for (int r = 0; r < V; r++)
        for (int l = r + 1; l < V; l++) {
            float one = a[r][l];
            a[r][l] = a[l][r], a[l][r] = one;
        }
#else
    typedef int32_t places __attribute__((vector_size(4 * V)));
#pragma GCC unroll 4
    for (int d = V / 2; d; d /= 2) {             // blocks of d x d change places
        places low, high;
#pragma GCC unroll 16
        for (int l = 0; l < V; l++) low[l] = l & d ? V + l - d : l, high[l] = l & d ? V + l : l + d;
#pragma GCC unroll 16
        for (int r = 0; r < V; r++)
            if (!(r & d)) {
                const vec x = __builtin_shuffle(a[r], a[r + d], low);
                a[r + d] = __builtin_shuffle(a[r], a[r + d], high);
                a[r] = x;
            }
    }
#endif
}
