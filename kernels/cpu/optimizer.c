// Steps of optimizers for all parameters of a group, in one pass over memory.
//
// A kernel gets a list of rows of arrays: for each parameter its own, its gradient's and those of its
// state. A row whose arrays lie in memory in different ways, or aren't float32, is left alone and told
// in `left`, an int64 for each row. `numbers` is the struct of ../optimizer_steps.cuh.
#pragma GCC optimize("fp-contract=off")         // the same roundings as NumPy's
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif
#include "array.h"
#include "threads.h"
#include <stdlib.h>

typedef real Acc;
#define sqrt sqrtf
#define STEP static inline __attribute__((always_inline)) Acc
#define STATE Acc *s
#define OF(N) N
#define OLD(j) s[j]
#define NEW(j, value) s[j] = value
#include "../optimizer_steps.cuh"

#define PIECE 16384                     // elements that a thread takes at a time
#define COLUMNS 5                       // of a row, at most

// The elements of one piece. s0.. are those of the state; with fewer states they stand for nothing.
typedef void Loop(real **at, intptr_t n, const void *numbers, int climb);

#define LOOP(name, N, states, ...)                                                             \
    static void name(real **at, intptr_t n, const void *numbers, int climb) {                  \
        const N m = *(const N *)numbers;                                                       \
        real *restrict p = at[0], *restrict s0 = at[2], *restrict s1 = at[3];                  \
        real *restrict s2 = at[4];                                                             \
        const real *restrict g = at[1];                                                        \
        for (intptr_t i = 0; i < n; i++) {                                                     \
            Acc s[COLUMNS - 2] = {0}, x = p[i] * m.shrink;                                     \
            Acc y = with_decay(x, g[i], m.decay, climb);                                       \
            if (states > 0) s[0] = s0[i];                                                      \
            if (states > 1) s[1] = s1[i];                                                      \
            if (states > 2) s[2] = s2[i];                                                      \
            p[i] = __VA_ARGS__;                                                                \
            if (states > 0) s0[i] = s[0];                                                      \
            if (states > 1) s1[i] = s[1];                                                      \
            if (states > 2) s2[i] = s[2];                                                      \
        }                                                                                      \
    }

LOOP(sgd, Sgd, 0, sgd_step(x, y, s, m, 0))
LOOP(sgd_momentum, Sgd, 1, sgd_step(x, y, s, m, 1))
LOOP(asgd_mean, Asgd, 1, asgd_step(x, y, s, m))
LOOP(asgd_alone, Asgd, 0, asgd_step(x, y, s, m))
LOOP(rprop, Rprop, 2, rprop_step(x, y, s, m))
LOOP(adam, Adam, 2, adam_step(x, y, s, m, 0))
LOOP(amsgrad, Adam, 3, adam_step(x, y, s, m, 1))
LOOP(adamax, Adamax, 2, adamax_step(x, y, s, m))
LOOP(nadam, Nadam, 2, nadam_step(x, y, s, m))
LOOP(radam, Radam, 2, radam_step(x, y, s, m))
LOOP(rmsprop, Rmsprop, 1, rmsprop_step(x, y, s, m, 0, 0))
LOOP(rmsprop_momentum, Rmsprop, 2, rmsprop_step(x, y, s, m, 1, 0))
LOOP(rmsprop_centered, Rmsprop, 2, rmsprop_step(x, y, s, m, 0, 1))
LOOP(rmsprop_both, Rmsprop, 3, rmsprop_step(x, y, s, m, 1, 1))
LOOP(adagrad, Adagrad, 1, adagrad_step(x, y, s, m))
LOOP(adadelta, Adadelta, 2, adadelta_step(x, y, s, m))

// Until t0 the mean is p itself. Stores to memory that isn't read before are slow but for copies.
static void asgd(real **at, intptr_t n, const void *numbers, int climb) {
    if (((const Asgd *)numbers)->mu != 1) {
        asgd_mean(at, n, numbers, climb);
        return;
    }
    asgd_alone(at, n, numbers, climb);
    memcpy(at[2], at[0], n * sizeof(real));
}

typedef struct {
    const List *rows;
    const intptr_t *first;              // the first piece of each row; at the end, how many there are
    const void *numbers;
    Loop *loop;
    int climb;
} Job;

static void piece(void *context, intptr_t i) {
    const Job *job = context;
    intptr_t low = 0, high = job->rows->n;
    while (high - low > 1) {
        intptr_t middle = (low + high) / 2;
        if (job->first[middle] <= i) low = middle;
        else high = middle;
    }
    const List *row = (const List *)job->rows->items[low];
    intptr_t begin = (i - job->first[low]) * PIECE, end = size((const Array *)row->items[0]);
    real *at[COLUMNS] = {0};
    for (intptr_t j = 0; j < row->n; j++) at[j] = reals((const Array *)row->items[j]) + begin;
    job->loop(at, smaller(end - begin, PIECE), job->numbers, job->climb);
}

// Do the arrays of a row have one shape, one order of dense memory, and the dtype of `like`?
static int alike(const List *row, const Array *like) {
    const Array *p = (const Array *)row->items[0];
    int order = IN_C_ORDER | IN_FORTRAN_ORDER;
    for (intptr_t j = 0; j < row->n; j++) {
        const Array *a = (const Array *)row->items[j];
        if (a->dtype != like->dtype || a->ndim != p->ndim || !(a->flags & ALIGNED)) return 0;
        if (j != 1 && !(a->flags & WRITEABLE)) return 0;
        for (int d = 0; d < a->ndim; d++)
            if (a->shape[d] != p->shape[d]) return 0;
        order &= a->flags;
    }
    return order != 0;
}

static void step(const List *rows, const Array *numbers, Array *left, int climb, Loop *loop) {
    intptr_t n = rows->n, *first = malloc((n + 1) * sizeof *first), pieces = 0, elements = 0;
    for (intptr_t k = 0; k < n; k++) {
        const List *row = (const List *)rows->items[k];
        intptr_t length = 0;
        indices(left)[k] = !(first && row->n <= COLUMNS && alike(row, numbers));
        if (!indices(left)[k]) length = size((const Array *)row->items[0]);
        if (first) first[k] = pieces;
        pieces += (length + PIECE - 1) / PIECE;
        elements += length;
    }
    if (!first) return;
    first[n] = pieces;
    Job job = {rows, first, numbers->data, loop, climb};
    share(piece, &job, pieces, ELEMENT * elements / larger(1, pieces));
    free(first);
}

// For compiled.py's check of lists and of arrays' dtypes and flags.
KERNEL listed(const List *arrays, Array *found) {
    indices(found)[0] = arrays->n == 2 && alike(arrays, (const Array *)arrays->items[0]);
}

KERNEL step_sgd(const List *rows, const Array *numbers, Array *left, int climb, int momentum) {
    step(rows, numbers, left, climb, momentum ? sgd_momentum : sgd);
}
KERNEL step_asgd(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, asgd);
}
KERNEL step_rprop(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, rprop);
}
KERNEL step_adam(const List *rows, const Array *numbers, Array *left, int climb, int largest) {
    step(rows, numbers, left, climb, largest ? amsgrad : adam);
}
KERNEL step_adamax(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, adamax);
}
KERNEL step_nadam(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, nadam);
}
KERNEL step_radam(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, radam);
}
KERNEL step_rmsprop(const List *rows, const Array *numbers, Array *left, int climb, int momentum,
                    int centered) {
    step(rows, numbers, left, climb, centered ? momentum ? rmsprop_both : rmsprop_centered
                                              : momentum ? rmsprop_momentum : rmsprop);
}
KERNEL step_adagrad(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, adagrad);
}
KERNEL step_adadelta(const List *rows, const Array *numbers, Array *left, int climb) {
    step(rows, numbers, left, climb, adadelta);
}
