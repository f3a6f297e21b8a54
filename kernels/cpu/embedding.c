// The gradient of a table of rows.
#include "lanes.h"
#include "threads.h"

typedef struct {
    intptr_t n, length, many, width;
    const real *g;
    const int64_t *at;
    real *y;
} Table;

// A thread takes some columns of all rows, so that each sum has one order.
static void table_part(void *context, intptr_t part) {
    const Table f = *(Table *)context;
    const intptr_t from = part * f.width, many = smaller(f.width, f.length - from);
    for (intptr_t i = 0; i < f.many; i++) {
        const real *g = f.g + i * f.length + from;
        real *y = f.y + f.at[i] * f.length + from;
        for (intptr_t k = 0; k < many; k++) y[k] += g[k];
    }
}

// y (n, length) += the rows g (many, length) at the indices `at`, which are in 0..n-1.
KERNEL embedding_backward(const Array *g, const Array *at, Array *y) {
    const intptr_t length = y->shape[1];
    Table f = {y->shape[0], length, size(at), larger(64, length / 4), reals(g), indices(at), reals(y)};
    share(table_part, &f, parts(length, f.width), ELEMENT * f.many * f.width);
}
