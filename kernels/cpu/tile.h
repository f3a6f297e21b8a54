// Products of matrices that lie anywhere, for kernels that go on with what they give.
#pragma once
#include "gemm.h"

enum { GROUP = 4, PANEL = 4 };
#define ALL _Pragma("GCC unroll 4") for

// c[r, ...] = or += the sum over i < k of a[r, i] * b[i, ...], for GROUP rows and n vectors.
static inline __attribute__((always_inline)) void tile(
        const int n, const int add, intptr_t k, const real *a, intptr_t row, intptr_t step,
        const real *b, intptr_t ldb, real *c, intptr_t ldc) {
    vec sum[GROUP][PANEL];
    const real *p[GROUP];
    ALL (int r = 0; r < GROUP; r++) {
        p[r] = a + r * row;
        ALL (int v = 0; v < n; v++) sum[r][v] = add ? *(vec *)(c + r * ldc + v * V) : (vec){0};
    }
    for (intptr_t i = 0; i < k; i++, b += ldb) {
        vec x[PANEL];
        ALL (int v = 0; v < n; v++) x[v] = *(const vec *)(b + v * V);
        ALL (int r = 0; r < GROUP; r++)
            ALL (int v = 0; v < n; v++) sum[r][v] += x[v] * p[r][i * step];
    }
    ALL (int r = 0; r < GROUP; r++)
        ALL (int v = 0; v < n; v++) *(vec *)(c + r * ldc + v * V) = sum[r][v];
}

// The same for any number of rows, a multiple of GROUP, and any width, a multiple of V.
static inline __attribute__((always_inline)) void product(
        const int add, intptr_t rows, intptr_t width, intptr_t k, const real *a, intptr_t row,
        intptr_t step, const real *b, intptr_t ldb, real *c, intptr_t ldc) {
    for (intptr_t j = 0; j < width; j += PANEL * V)
        for (intptr_t r = 0; r < rows; r += GROUP) {
            const real *x = a + r * row;
            real *y = c + r * ldc + j;
            switch ((width - j) / V) {
                case 1: tile(1, add, k, x, row, step, b + j, ldb, y, ldc); break;
                case 2: tile(2, add, k, x, row, step, b + j, ldb, y, ldc); break;
                case 3: tile(3, add, k, x, row, step, b + j, ldb, y, ldc); break;
                default: tile(PANEL, add, k, x, row, step, b + j, ldb, y, ldc);
            }
        }
}

static inline intptr_t up(intptr_t n, intptr_t size) { return (n + size - 1) / size * size; }
