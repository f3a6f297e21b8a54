// The steps of an LSTM. Rows of sequences lie as in ops/recurrent.py: steps is (T, 2), each step's
// first row and how many there are, in the order in which they are taken. H is a multiple of 16.
//
// A thread takes all steps of some sequences, which need nothing of others: so no thread waits for
// another at each step, and what a step leaves is in the cache of the core that goes on with it. Where
// there are too few sequences for that, threads share the units of each step.
#include "lanes.h"
#include "tile.h"
#include "threads.h"

typedef struct {
    intptr_t width, steps, low, most;       // most: of how many sequences, low: the first of them
    const int64_t *table;
    intptr_t at, n;                         // of the rows that this step has: the first, how many
    intptr_t before, had, later, later_n;   // of the step before, and the step after
    const real *w, *bias, *out_slope, *first;
    real *packed, *gates, *h, *c, *out, *cells, *slopes;
    int product, start;                     // is h not 0? does the first state need a gradient?
} Step;

// The parts of b sequences: how many, and of how many sequences.
static intptr_t divide(Step *f, intptr_t b, const Array *steps) {
    f->table = indices(steps), f->steps = steps->shape[0];
    f->most = b >= GROUP * threads() ? up(parts(b, threads()), GROUP) : larger(b, 1);
    return parts(b, f->most);
}

static Step of_part(const Step *whole, intptr_t part) {
    Step f = *whole;
    f.low = part * f.most;
    f.h += f.low * f.width, f.c += f.low * f.width;
    if (f.first) f.first += f.low * f.width;
    return f;
}

static void rows_of(const Step *f, intptr_t t, intptr_t *first, intptr_t *n) {
    const int there = t >= 0 && t < f->steps;
    *first = there ? f->table[2 * t] + f->low : 0;
    *n = there ? larger(0, smaller(f->most, f->table[2 * t + 1] - f->low)) : 0;
}

static void take_step(Step *f, intptr_t t) {
    rows_of(f, t, &f->at, &f->n);
    rows_of(f, t - 1, &f->before, &f->had);
    rows_of(f, t + 1, &f->later, &f->later_n);
}

// A row's gates i, f, g, o, new cells and outputs of n units, width apart; add: for each gate what to add,
// V apart. (A loop of V known at compile time would be unrolled, not made of vectors.)
static __attribute__((noinline, noclone)) void units(intptr_t n, intptr_t width, const real *restrict add,
                                            real *restrict gate, real *restrict c, real *restrict cell,
                                            real *restrict out) {
    real *restrict gate1 = gate + width, *restrict gate2 = gate1 + width, *restrict gate3 = gate2 + width;
    for (intptr_t l = 0; l < n; l++) {
        const real a = sigmoid(gate[l] + add[l]), b = sigmoid(gate1[l] + add[V + l]),
                   g = hyperbolic(gate2[l] + add[2 * V + l]), o = sigmoid(gate3[l] + add[3 * V + l]),
                   new = c[l] * b + a * g;
        gate[l] = a, gate1[l] = b, gate2[l] = g, gate3[l] = o;
        c[l] = cell[l] = new;
        out[l] = o * hyperbolic(new);
    }
}

// V units of all rows.
static void forward_units(void *context, intptr_t panel) {
    const Step f = *(Step *)context;
    const intptr_t width = f.width, j = panel * V;
    real bias[PANEL * V] = {0}, z[GROUP * PANEL * V];
    if (f.bias)
        for (int gate = 0; gate < 4; gate++) memcpy(bias + gate * V, f.bias + gate * width + j, sizeof(vec));
    for (intptr_t r0 = 0; r0 < f.n; r0 += GROUP) {
        for (int r = 0; r < GROUP; r++) memcpy(z + r * PANEL * V, bias, sizeof bias);
        if (f.product)
            tile(PANEL, 1, width, f.h + r0 * width, width, 1, f.w + panel * width * PANEL * V, PANEL * V,
                 z, PANEL * V);
        for (intptr_t r = r0; r < smaller(r0 + GROUP, f.n); r++)
            units(V, width, z + (r - r0) * PANEL * V, f.gates + (f.at + r) * 4 * width + j,
                  f.c + r * width + j, f.cells + (f.at + r) * width + j, f.out + (f.at + r) * width + j);
    }
}

// All steps of one part of the sequences.
static void forward(void *context, intptr_t part) {
    Step f = of_part(context, part);
    for (intptr_t t = 0; t < f.steps; t++) {
        take_step(&f, t);
        share(forward_units, &f, f.width / V, 8. * f.width * V * f.n);
        memcpy(f.h, f.out + f.at * f.width, f.n * f.width * sizeof(real));
        f.product = 1;
    }
}

// Weights by panels of V units: for each k, the four gates.
static void lay_out(void *context, intptr_t panel) {
    const Step *f = context;
    const intptr_t width = f->width;
    real *to = f->packed + panel * width * PANEL * V;
    for (intptr_t k = 0; k < width; k++)
        for (int gate = 0; gate < 4; gate++)
            for (int l = 0; l < V; l++) *to++ = f->w[(gate * width + panel * V + l) * width + k];
}

// gates: x @ w_ih.T, which become the gates; bias: of size 0 if there is none; w: w_hh, (4H, H);
// packed: memory of its size; h has a multiple of GROUP rows, h and c are the first states and become the last. first: is h
// not 0?
KERNEL lstm(Array *gates, const Array *bias, const Array *w, Array *packed, Array *h, Array *c, Array *out,
            Array *cells, const Array *steps, int first) {
    const intptr_t width = w->shape[1], b = c->shape[0];
    Step f = {.width = width, .w = reals(w), .packed = reals(packed), .gates = reals(gates), .h = reals(h),
              .c = reals(c), .out = reals(out), .cells = reals(cells), .product = first,
              .bias = size(bias) ? reals(bias) : NULL};
    const intptr_t n = divide(&f, b, steps);
    share(lay_out, &f, width / V, 32. * PANEL * V * width);
    f.w = f.packed;
    share(forward, &f, n, 8. * width * width * f.steps * f.most);
}

// The gradients for a row's gates before their activation, n units of each, width apart, from those for
// its output and cell; dc becomes that for the cell before.
static __attribute__((noinline, noclone)) void unit_slopes(
        intptr_t n, intptr_t width, const real *restrict gate, const real *restrict cell,
        const real *restrict dh, real *restrict dc, real *restrict z) {
    const real *restrict gate1 = gate + width, *restrict gate2 = gate1 + width, *restrict gate3 = gate2 + width;
    real *restrict z1 = z + width, *restrict z2 = z1 + width, *restrict z3 = z2 + width;
    for (intptr_t l = 0; l < n; l++) {
        const real a = gate[l], b = gate1[l], g = gate2[l], o = gate3[l], top = hyperbolic(cell[l]),
                   d = dc[l] + dh[l] * o * (1 - top * top);
        z[l] = d * g * a * (1 - a);
        z1[l] = d * b * (1 - b);
        z2[l] = d * a * (1 - g * g);
        z3[l] = dh[l] * top * o * (1 - o);
        dc[l] = d * b;
    }
}

// PANEL * V units of all rows: first the gradients for their outputs, slopes of the step after @ w.
static void backward_units(void *context, intptr_t panel) {
    const Step f = *(Step *)context;
    const intptr_t width = f.width, length = 4 * width, j = panel * PANEL * V,
                   many = smaller(PANEL * V, width - j);
    if (f.later_n) {
        const intptr_t rows = up(f.later_n, GROUP);
        real *y = scratch(0, rows * PANEL * V);
        memset(y, 0, rows * PANEL * V * sizeof(real));
        for (intptr_t k = 0; k < length; k += 32)       // rows of w that stay in the first cache
            product(1, rows, many, 32, f.slopes + f.later * length + k, length, 1, f.w + k * width + j,
                    width, y, PANEL * V);
        for (intptr_t r = 0; r < f.later_n; r++)
            memcpy(f.h + r * width + j, y + r * PANEL * V, many * sizeof(real));
    }
    for (intptr_t r = 0; r < f.n; r++) {
        const intptr_t row = f.at + r;
        const real *old = r < f.had ? f.cells + (f.before + r) * width : f.first ? f.first + r * width : NULL;
        real *dh = f.h + r * width + j, *forget = f.slopes + row * length + width + j;
        if (f.out_slope)
            for (intptr_t l = 0; l < many; l++) dh[l] += f.out_slope[row * width + j + l];
        unit_slopes(many, width, f.gates + row * length + j, f.cells + row * width + j, dh,
                    f.c + r * width + j, forget - width);
        if (old)
            for (intptr_t l = 0; l < many; l++) forget[l] *= old[j + l];
        else
            memset(forget, 0, many * sizeof(real));
    }
}

// All steps of one part of the sequences, and where the first state has a part, its gradient.
static void backward(void *context, intptr_t part) {
    Step f = of_part(context, part);
    for (intptr_t t = f.steps - 1; t >= -f.start; t--) {
        take_step(&f, t);
        share(backward_units, &f, parts(f.width, PANEL * V),
              PANEL * V * (8. * f.width * f.later_n + 64. * f.n));
    }
}

// steps as in lstm; first: c0, out_slope: the gradient for out, each of size 0 if there is none; dh, dc:
// the gradients for the last states, which become those for the first; slopes has GROUP - 1 rows more
// than gates. start: does the first state have a part in the first step?
KERNEL lstm_backward(const Array *gates, const Array *cells, const Array *first, const Array *out_slope,
                     const Array *w, Array *dh, Array *dc, Array *slopes, const Array *steps, int start) {
    const intptr_t width = w->shape[1];
    Step f = {.width = width, .w = reals(w), .gates = reals(gates), .cells = reals(cells),
              .first = size(first) ? reals(first) : NULL,
              .out_slope = size(out_slope) ? reals(out_slope) : NULL, .h = reals(dh), .c = reals(dc),
              .slopes = reals(slopes), .start = start};
    const intptr_t n = divide(&f, dc->shape[0], steps);
    share(backward, &f, n, 8. * width * width * f.steps * f.most);
}
