// c = a @ b for two matrices, each of them in any memory order.
//
// Up to DEPTH terms of each sum at a time: a block of a is laid out in tiles of ROWS rows, then each
// panel of up to COLS vectors of columns of b, and the inner loop of gemm.c runs over both. BLAS does
// the same; here its threads are those of the other kernels, and small products share them, too.
#include "gemm.h"
#include "threads.h"

#define DEPTH 384                                // a panel of b then stays near
#define AHEAD 24                                 // terms from one whose element will be needed soon
#define BLOCK (512 << 10)                        // floats of a that are laid out at a time

typedef struct {
    const float *a, *b;
    float *c, *packed;
    intptr_t m, n, k, a_m, a_k, b_k, b_n;        // distances between rows and columns
    intptr_t m0, height, k0, depth, vectors, panels, shares;
} Product;

// V x V floats, `there` of V rows, `wide` of their V floats; zeros for what is missing.
static inline void load(vec block[V], const float *from, intptr_t next, intptr_t there, intptr_t wide) {
    for (int r = 0; r < V; r++) {
        block[r] = (vec){0};
        if (r >= there) continue;
        if (wide >= V) block[r] = *(const vec *)(from + r * next);
        else for (intptr_t l = 0; l < wide; l++) block[r][l] = from[r * next + l];
    }
}

static void lay_out_rows(void *context, intptr_t tile) {
    const Product *p = context;
    intptr_t m = tile * ROWS, rows = smaller(ROWS, p->height - m), k = 0;
    const float *a = p->a + (p->m0 + m) * p->a_m + p->k0 * p->a_k;
    float *to = p->packed + m * p->depth;
    if (p->a_k == 1 && ROWS <= V)
        for (; k < p->depth - 2 * V; k += V) {
            vec block[V];
            load(block, a + k, p->a_m, rows, V);
            turn(block);
            // What is too much is overwritten by what follows.
            for (int l = 0; l < V; l++) *(vec *)(to + (k + l) * rows) = block[l];
        }
    if (p->a_m == 1 && rows == ROWS)
        for (; k < p->depth; k++) {
            if (k + AHEAD < p->depth) __builtin_prefetch(a + (k + AHEAD) * p->a_k);
            memcpy(to + k * ROWS, a + k * p->a_k, ROWS * sizeof(float));
        }
    for (; k < p->depth; k++)
        for (intptr_t r = 0; r < rows; r++) to[k * rows + r] = a[r * p->a_m + k * p->a_k];
}

// Columns from.. of b, n vectors, the last of which may stand out.
static void lay_out_columns(const Product *p, intptr_t from, intptr_t n, float *to) {
    intptr_t there = smaller(n * V, p->n - from);
    const float *b = p->b + p->k0 * p->b_k + from * p->b_n;
    if (p->b_k == 1 && p->depth >= V) {
        for (intptr_t v = 0; v < n; v++)
            for (intptr_t k = 0; k < p->depth; k += V) {
                vec block[V];
                load(block, b + v * V * p->b_n + k, p->b_n, there - v * V, p->depth - k);
                turn(block);
                for (intptr_t l = 0; l < smaller(V, p->depth - k); l++)
                    *(vec *)(to + ((k + l) * n + v) * V) = block[l];
            }
        return;
    }
    for (intptr_t k = 0; k < p->depth; k++, to += n * V) {
        if (p->b_n == 1 && there == n * V)
            for (intptr_t v = 0; v < n; v++) *(vec *)(to + v * V) = *(const vec *)(b + k * p->b_k + v * V);
        else
            for (intptr_t j = 0; j < n * V; j++) to[j] = j < there ? b[k * p->b_k + j * p->b_n] : 0;
    }
}

static void multiply(void *context, intptr_t item) {
    const Product *p = context;
    intptr_t panel = item / p->shares, share = item % p->shares, tiles = parts(p->height, ROWS);
    intptr_t low = tiles * share / p->shares, high = tiles * (share + 1) / p->shares;
    intptr_t v0 = p->vectors * panel / p->panels, n = p->vectors * (panel + 1) / p->panels - v0;
    intptr_t from = v0 * V, there = smaller(n * V, p->n - from), step = n * V;
    float *memory = scratch(1, p->depth * COLS * V);
    const float *columns = memory;
    if (p->b_n == 1 && there == n * V && high - low <= 4)
        columns = p->b + p->k0 * p->b_k + from, step = p->b_k;       // too few rows to be worth it
    else
        lay_out_columns(p, from, n, memory);
    intptr_t *at = (intptr_t *)scratch(2, 2 * p->depth);
    for (intptr_t k = 0; k < p->depth; k++) at[k] = k * step;
    float sums[ROWS * COLS * V];
    for (intptr_t tile = low; tile < high; tile++) {
        intptr_t m = tile * ROWS, rows = smaller(ROWS, p->height - m), ldc = p->n;
        float *c = p->c + (p->m0 + m) * p->n + from, *target[COLS];
        int direct = !p->k0 && there == n * V;
        const float *first[COLS];
        for (intptr_t v = 0; v < n; v++) first[v] = columns + v * V, target[v] = direct ? c + v * V : sums + v * V;
        if (!direct) ldc = n * V;
        else
            for (intptr_t r = 0; r < rows; r++)  // else the stores would wait for memory
                for (intptr_t v = 0; v < n; v++) __builtin_prefetch(target[v] + r * ldc, 1);
        by_rows[rows - 1][n - 1](p->depth, p->packed + m * p->depth, at, first, target, ldc, NULL);
        if (direct) continue;
        for (intptr_t r = 0; r < rows; r++)
            for (intptr_t j = 0; j < there; j++)
                c[r * p->n + j] = p->k0 ? c[r * p->n + j] + sums[r * n * V + j] : sums[r * n * V + j];
    }
}

KERNEL product(const Array *a, const Array *b, const Array *c) {
    Product p = {.a = reals(a), .b = reals(b), .c = reals(c), .m = a->shape[0], .n = b->shape[1],
                 .k = a->shape[1], .a_m = a->strides[0] / 4, .a_k = a->strides[1] / 4,
                 .b_k = b->strides[0] / 4, .b_n = b->strides[1] / 4};
    p.vectors = parts(p.n, V), p.panels = parts(p.vectors, COLS);
    intptr_t steps = parts(p.k, DEPTH);
    for (intptr_t i = 0; i < steps; i++) {
        p.k0 = p.k * i / steps, p.depth = p.k * (i + 1) / steps - p.k0;
        intptr_t most = larger(ROWS, BLOCK / p.depth / ROWS * ROWS), blocks = parts(p.m, most);
        most = parts(parts(p.m, blocks), ROWS) * ROWS;
        p.packed = scratch(0, smaller(most, p.m) * p.depth);
        for (p.m0 = 0; p.m0 < p.m; p.m0 += most) {
            p.height = smaller(most, p.m - p.m0);
            intptr_t tiles = parts(p.height, ROWS);
            intptr_t wanted = threads() > 1 ? parts(4 * threads(), p.panels) : 1;
            p.shares = smaller(wanted, parts(tiles, 2));
            share(lay_out_rows, &p, tiles, 16.0 * ROWS * p.depth);
            share(multiply, &p, p.panels * p.shares,
                  (double)p.height * p.n * p.depth / p.panels / p.shares);
        }
    }
}
