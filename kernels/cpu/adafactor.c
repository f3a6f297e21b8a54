// A step of Adafactor: three passes over a parameter and its gradient.
//
// The rows of a parameter's matrices are taken in parts of a fixed height, whose sums are added up in
// order. A vector is cut into pieces, each a row, with the running mean squares of its elements in the
// place of those of columns.
#include "lanes.h"
#include "threads.h"

#define PIECE 16384                     // elements of a part, where that is LOW rows or more
#define LOW 16

enum { SHARE, LEAST, SMALLEST, RATE, D, DECAY }; // of the array `numbers`

typedef struct {
    intptr_t n, m, width, height, parts; // elements; rows of a matrix and of a part; parts of a matrix
    const real *g;
    real *p, *row, *col, *sums, *ratio;  // sums: of each part by column; ratio: of rows to their mean
    double *squares;                     // of each part
    real share, decay, factor, least;
} Step;

typedef struct {
    intptr_t rows, width, row, at;       // how many; the first one, and its first element
    real *col;
} Part;

static inline Part part_of(const Step *s, intptr_t i) {
    if (!s->row) {
        const intptr_t at = i * PIECE;
        return (Part){1, smaller(PIECE, s->n - at), 0, at, s->col + at};
    }
    const intptr_t matrix = i / s->parts, from = i % s->parts * s->height, row = matrix * s->m + from;
    return (Part){smaller(s->height, s->m - from), s->width, row, row * s->width, s->col + matrix * s->width};
}

// As lerp has it.
static inline real toward(real x, real end, real share) {
    const real step = end - x;
    return share < 0.5f ? x + share * step : end - step * (1 - share);
}

// The mean squares of rows or elements, sums of squares by column, the sum of p's squares.
static void measure(void *context, intptr_t index) {
    const Step *s = context;
    const Part part = part_of(s, index);
    double all = 0;
    real *restrict col = s->row ? s->sums + index * s->width : part.col;
    if (s->row) memset(col, 0, s->width * sizeof(real));
    for (intptr_t r = 0; r < part.rows; r++) {
        const real *restrict g = s->g + part.at + r * part.width, *restrict p = s->p + part.at + r * part.width;
        real squares[LANES] = {0}, own[LANES] = {0};
        EACH(part.width, own[j] += p[i + j] * p[i + j];)
        all += total(own);
        if (!s->row) {
            EACH(part.width, col[i + j] = toward(col[i + j], g[i + j] * g[i + j], s->share);)
            continue;
        }
        EACH(part.width, const real x = g[i + j] * g[i + j]; squares[j] += x; col[i + j] += x;)
        s->row[part.row + r] = toward(s->row[part.row + r], total(squares) / part.width, s->share);
    }
    s->squares[index] = all;
}

// The sum of the squares of the steps before they are scaled.
static void judge(void *context, intptr_t index) {
    const Step *s = context;
    const Part part = part_of(s, index);
    const real *restrict col = part.col, least = s->least;
    double all = 0;
    for (intptr_t r = 0; r < part.rows; r++) {
        const real *restrict g = s->g + part.at + r * part.width, ratio = s->row ? s->ratio[part.row + r] : 1;
        real squares[LANES] = {0};
        EACH(part.width, real v = ratio * col[i + j]; v = v < least ? least : v;
                         squares[j] += g[i + j] * g[i + j] / v;)
        all += total(squares);
    }
    s->squares[index] = all;
}

static void move(void *context, intptr_t index) {
    const Step *s = context;
    const Part part = part_of(s, index);
    const real *restrict col = part.col, least = s->least, decay = s->decay, factor = s->factor;
    for (intptr_t r = 0; r < part.rows; r++) {
        const real *restrict g = s->g + part.at + r * part.width, ratio = s->row ? s->ratio[part.row + r] : 1;
        real *restrict p = s->p + part.at + r * part.width;
        for (intptr_t i = 0; i < part.width; i++) {
            real v = ratio * col[i];
            v = v < least ? least : v;
            p[i] = p[i] * decay - g[i] / sqrtf(v) * factor;
        }
    }
}

static double added(const double *x, intptr_t n) {
    double all = 0;
    for (intptr_t i = 0; i < n; i++) all += x[i];
    return all;
}

// p is stepped; row: the mean squares of the rows of p's matrices, empty for a vector; col: of their
// columns, or of a vector's elements.
KERNEL step_adafactor(const Array *p, const Array *g, const Array *row, const Array *col,
                      const Array *numbers) {
    const double *number = (const double *)numbers->data;
    const intptr_t n = size(p), vector = !size(row);
    Step s = {.n = n, .g = reals(g), .p = reals(p), .row = vector ? NULL : reals(row), .col = reals(col),
              .share = (real)number[SHARE], .decay = (real)number[DECAY],
              .least = (real)(number[LEAST] * number[LEAST])};
    intptr_t matrices = 1;
    s.m = s.parts = 1, s.width = n;
    if (!vector) {
        s.m = p->shape[p->ndim - 2], s.width = p->shape[p->ndim - 1], matrices = n / s.m / s.width;
        s.height = larger(LOW, PIECE / s.width), s.parts = parts(s.m, s.height);
    }
    const intptr_t all = vector ? parts(n, PIECE) : matrices * s.parts;
    s.squares = (double *)scratch(0, 2 * all);
    if (!vector) s.sums = scratch(1, all * s.width), s.ratio = scratch(2, matrices * s.m);
    const double each = 32.0 * n / all;
    share(measure, &s, all, each);
    const double size_of_p = sqrt(added(s.squares, all) / n);
    for (intptr_t k = 0; k < matrices && !vector; k++) {
        real *sums = s.sums + k * s.parts * s.width, *means = s.col + k * s.width;
        for (intptr_t i = 1; i < s.parts; i++)
            for (intptr_t c = 0; c < s.width; c++) sums[c] += sums[i * s.width + c];
        for (intptr_t c = 0; c < s.width; c++) means[c] = toward(means[c], sums[c] / s.m, s.share);
        const real *rows = s.row + k * s.m, mean = sum(rows, s.m) / s.m, least = (real)number[LEAST];
        for (intptr_t r = 0; r < s.m; r++) s.ratio[k * s.m + r] = rows[r] / (mean < least ? least : mean);
    }
    share(judge, &s, all, each);
    double excess = sqrt(added(s.squares, all) / n) / number[D];
    excess = excess < 1 ? 1 : excess;
    s.factor = (real)((size_of_p < number[SMALLEST] ? number[SMALLEST] : size_of_p) * number[RATE] / excess);
    share(move, &s, all, each);
}
