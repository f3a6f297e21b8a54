#include "gemm.h"

#define ALL _Pragma("GCC unroll 8") for
#define INLINE static inline __attribute__((always_inline)) void

INLINE rows_tile(const int rows, const int n, intptr_t k, const float *a, const intptr_t *row,
                 const float *const b[COLS], float *const c[COLS], intptr_t ldc, const float *start) {
    vec sum[ROWS][COLS];
    const float *b0 = b[0], *b1 = n > 1 ? b[1] : b0, *b2 = n > 2 ? b[2] : b0;
    ALL (int r = 0; r < rows; r++)
        ALL (int v = 0; v < n; v++) sum[r][v] = (start ? start[r] : 0) - (vec){0};
    for (intptr_t i = 0; i < k; i++, a += rows) {
        const intptr_t at = row[i];
        const vec x = *(const vec *)(b0 + at), y = n > 1 ? *(const vec *)(b1 + at) : x,
                  z = n > 2 ? *(const vec *)(b2 + at) : x;
        ALL (int r = 0; r < rows; r++) {
            sum[r][0] += x * a[r];
            if (n > 1) sum[r][1] += y * a[r];
            if (n > 2) sum[r][2] += z * a[r];
        }
    }
    ALL (int r = 0; r < rows; r++)
        ALL (int v = 0; v < n; v++) *(vec *)(c[v] + r * ldc) = sum[r][v];
}

INLINE sums_tile(const int rows, const int n, intptr_t k, const float *const a[ROWS],
                 const intptr_t *at, const float *b, float *c, intptr_t ldc) {
    vec sum[ROWS][COLS];
    const float *p[ROWS];
    ALL (int r = 0; r < rows; r++) {
        p[r] = a[r];
        ALL (int v = 0; v < n; v++) sum[r][v] = (vec){0};
    }
    for (intptr_t i = 0; i < k; i++, b += n * V) {
        const intptr_t j = at[i];
        const vec x = *(const vec *)b, y = n > 1 ? *(const vec *)(b + V) : x,
                  z = n > 2 ? *(const vec *)(b + 2 * V) : x;
        ALL (int r = 0; r < rows; r++) {
            sum[r][0] += x * p[r][j];
            if (n > 1) sum[r][1] += y * p[r][j];
            if (n > 2) sum[r][2] += z * p[r][j];
        }
    }
    ALL (int r = 0; r < rows; r++)
        ALL (int v = 0; v < n; v++) *(vec *)(c + r * ldc + v * V) += sum[r][v];
}

#define TILE(R, N) \
    static void rows_##R##_##N(intptr_t k, const float *a, const intptr_t *row, \
                               const float *const b[COLS], float *const c[COLS], intptr_t ldc, \
                               const float *start) { rows_tile(R, N, k, a, row, b, c, ldc, start); } \
    static void sums_##R##_##N(intptr_t k, const float *const a[ROWS], const intptr_t *at, \
                               const float *b, float *c, intptr_t ldc) { \
        sums_tile(R, N, k, a, at, b, c, ldc); }
#define TILES(R) TILE(R, 1) TILE(R, 2) TILE(R, 3)
#define NAMES(KIND, R) {KIND##_##R##_1, KIND##_##R##_2, KIND##_##R##_3}

TILES(1) TILES(2) TILES(3) TILES(4)
#if defined(__AVX512F__) || defined(__aarch64__)
TILES(5) TILES(6) TILES(7) TILES(8)
#define TABLE(KIND) {NAMES(KIND, 1), NAMES(KIND, 2), NAMES(KIND, 3), NAMES(KIND, 4), \
                     NAMES(KIND, 5), NAMES(KIND, 6), NAMES(KIND, 7), NAMES(KIND, 8)}
#else
#define TABLE(KIND) {NAMES(KIND, 1), NAMES(KIND, 2), NAMES(KIND, 3), NAMES(KIND, 4)}
#endif

Rows *const by_rows[ROWS][COLS] = TABLE(rows);
Sums *const by_sums[ROWS][COLS] = TABLE(sums);
