// Sums: of rows, of columns, of arrays. What is added up with what depends on shapes alone.
#include "lanes.h"
#include "threads.h"

#define PART 16384                      // elements of a row that are added up in one go
#define WIDTH 512                       // columns that a thread takes at a time
#define FEW 64                          // rows whose sum is made in one go

typedef struct {
    intptr_t n, length, parts, many;
    const real *x;
    real *y;
} Sums;

// The sum of a row so short that LANES parts of it would cost more than they spare.
static inline real short_sum(const real *x, intptr_t n) {
    real s[8] = {0};
    intptr_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) s[j] += x[i + j];
    for (int j = 0; i < n; i++, j++) s[j] += x[i];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static void rows_part(void *context, intptr_t i) {
    const Sums f = *(Sums *)context;
    if (f.length <= 4 * LANES) {
        for (intptr_t k = i * f.many; k < smaller((i + 1) * f.many, f.n); k++)
            f.y[k] = short_sum(f.x + k * f.length, f.length);
        return;
    }
    for (intptr_t k = i * f.many; k < smaller((i + 1) * f.many, f.n * f.parts); k++) {
        const intptr_t from = k % f.parts * PART;
        f.y[k] = sum(f.x + k / f.parts * f.length + from, smaller(PART, f.length - from));
    }
}

// x is y.size rows; some: memory for the sums of each row's parts, of PART elements.
KERNEL row_sums(const Array *x, Array *some, Array *y) {
    const intptr_t n = size(y), length = size(x) / n, parts = (length + PART - 1) / PART;
    Sums f = {n, length, parts, larger(1, PART / length), reals(x), parts > 1 ? reals(some) : reals(y)};
    share(rows_part, &f, (n * parts + f.many - 1) / f.many, ELEMENT / 2 * size(x) * f.many / (n * parts));
    if (parts > 1)
        for (intptr_t i = 0; i < n; i++) reals(y)[i] = sum(f.y + i * parts, parts);
}

static void columns_part(void *context, intptr_t i) {
    const Sums f = *(Sums *)context;
    const intptr_t from = i * WIDTH, many = smaller(WIDTH, f.length - from);
    real *restrict y = f.y + from, s[WIDTH];
    memset(y, 0, many * sizeof(real));
    for (intptr_t first = 0; first < f.n; first += FEW) {
        const intptr_t last = smaller(f.n, first + FEW);
        const real *restrict x = f.x + first * f.length + from;
        intptr_t row = first;
        memset(s, 0, many * sizeof(real));
        for (; row + 4 <= last; row += 4, x += 4 * f.length) {
            const real *restrict a = x + f.length, *restrict b = a + f.length, *restrict c = b + f.length;
            for (intptr_t k = 0; k < many; k++) s[k] += (x[k] + a[k]) + (b[k] + c[k]);
        }
        for (; row < last; row++, x += f.length)
            for (intptr_t k = 0; k < many; k++) s[k] += x[k];
        for (intptr_t k = 0; k < many; k++) y[k] += s[k];
    }
}

// x is rows of y.size elements.
KERNEL column_sums(const Array *x, Array *y) {
    const intptr_t length = size(y);
    Sums f = {size(x) / length, length, 1, 1, reals(x), reals(y)};
    share(columns_part, &f, parts(length, WIDTH), ELEMENT / 2 * f.n * smaller(length, WIDTH));
}

typedef struct { intptr_t n; const real *x; real *y, a; } Scaled;

static void scaled_part(void *context, intptr_t i) {
    const Scaled f = *(Scaled *)context;
    const intptr_t from = i * PART, n = smaller(PART, f.n - from);
    const real *restrict x = f.x + from;
    real *restrict y = f.y + from;
    for (intptr_t k = 0; k < n; k++) y[k] += f.a * x[k];
}

// y += a * x
KERNEL add_scaled(const Array *x, const Array *y, real a) {
    Scaled f = {size(y), reals(x), reals(y), a};
    share(scaled_part, &f, parts(f.n, PART), ELEMENT / 2 * smaller(f.n, PART));
}
