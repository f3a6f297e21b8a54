// The steps of an LSTM. Rows of sequences lie as in ops/recurrent.py: steps is (T, 2), each step's
// first row and how many there are, in the order in which they are taken. H is a multiple of 16.
#include "lanes.h"
#include "tile.h"
#include "threads.h"

typedef struct {
    intptr_t width, at, n, before, had;     // before, had: the rows of the step before
    const real *w, *out_slope, *first;
    real *gates, *h, *c, *out, *cells, *slopes;
    int product;
} Step;

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
    real z[GROUP * PANEL * V] = {0};
    for (intptr_t r0 = 0; r0 < f.n; r0 += GROUP) {
        if (f.product)
            tile(PANEL, 0, width, f.h + r0 * width, width, 1, f.w + panel * width * PANEL * V, PANEL * V,
                 z, PANEL * V);
        for (intptr_t r = r0; r < smaller(r0 + GROUP, f.n); r++)
            units(V, width, z + (r - r0) * PANEL * V, f.gates + (f.at + r) * 4 * width + j,
                  f.c + r * width + j, f.cells + (f.at + r) * width + j, f.out + (f.at + r) * width + j);
    }
}

// gates: x @ w_ih.T and the biases, which become the gates; w: w_hh, (4H, H); packed: memory of its
// size; h has a multiple of GROUP rows, h and c are the first states and become the last. first: is h
// not 0?
KERNEL lstm(Array *gates, const Array *w, Array *packed, Array *h, Array *c, Array *out, Array *cells,
            const Array *steps, int first) {
    const intptr_t width = w->shape[1];
    real *to = reals(packed);                   // by panels of V units: for each k, the four gates
    for (intptr_t j = 0; j < width; j += V)
        for (intptr_t k = 0; k < width; k++)
            for (int gate = 0; gate < 4; gate++)
                for (int l = 0; l < V; l++) *to++ = reals(w)[(gate * width + j + l) * width + k];
    Step f = {.width = width, .w = reals(packed), .gates = reals(gates), .h = reals(h), .c = reals(c),
              .out = reals(out), .cells = reals(cells), .product = first};
    for (intptr_t t = 0; t < steps->shape[0]; t++) {
        f.at = indices(steps)[2 * t], f.n = indices(steps)[2 * t + 1];
        share(forward_units, &f, width / V, 8. * width * V * f.n);
        memcpy(f.h, f.out + f.at * width, f.n * width * sizeof(real));
        f.product = 1;
    }
}

// A row's gradients for its gates before their activation, from those for its output and cell.
static void backward_row(void *context, intptr_t r) {
    const Step f = *(Step *)context;
    const intptr_t width = f.width, row = f.at + r;
    const real *restrict gate = f.gates + row * 4 * width, *restrict cell = f.cells + row * width,
               *old = r < f.had ? f.cells + (f.before + r) * width : f.first ? f.first + r * width : NULL,
               *restrict slope = f.out_slope ? f.out_slope + row * width : NULL;
    real *restrict z = f.slopes + row * 4 * width, *restrict dh = f.h + r * width,
         *restrict dc = f.c + r * width;
    if (slope)
        for (intptr_t l = 0; l < width; l++) dh[l] += slope[l];
    for (intptr_t l = 0; l < width; l++) {
        const real a = gate[l], b = gate[width + l], g = gate[2 * width + l], o = gate[3 * width + l],
                   top = hyperbolic(cell[l]), d = dc[l] + dh[l] * o * (1 - top * top);
        z[l] = d * g * a * (1 - a);
        z[2 * width + l] = d * a * (1 - g * g);
        z[3 * width + l] = dh[l] * top * o * (1 - o);
        z[width + l] = d * b * (1 - b);
        dc[l] = d * b;
    }
    if (old)
        for (intptr_t l = 0; l < width; l++) z[width + l] *= old[l];
    else
        memset(z + width, 0, width * sizeof(real));
}

// PANEL * V columns of the gradient for the states before: slopes @ w.
static void backward_columns(void *context, intptr_t panel) {
    const Step f = *(Step *)context;
    const intptr_t from = panel * PANEL * V, many = smaller(PANEL * V, f.width - from);
    const intptr_t length = 4 * f.width, rows = up(f.n, GROUP);
    real *y = scratch(0, rows * PANEL * V);
    memset(y, 0, rows * PANEL * V * sizeof(real));
    for (intptr_t k = 0; k < length; k += 32)            // rows of w that stay in the first cache
        product(1, rows, many, 32, f.slopes + f.at * length + k, length, 1, f.w + k * f.width + from,
                f.width, y, PANEL * V);
    for (intptr_t r = 0; r < f.n; r++)
        memcpy(f.h + r * f.width + from, y + r * PANEL * V, many * sizeof(real));
}

// steps as in lstm; first: c0, out_slope: the gradient for out, each of size 0 if there is none; dh, dc:
// the gradients for the last states, which become those for the first; slopes has GROUP - 1 rows more
// than gates. start: does the first state have a part in the first step?
KERNEL lstm_backward(const Array *gates, const Array *cells, const Array *first, const Array *out_slope,
                     const Array *w, Array *dh, Array *dc, Array *slopes, const Array *steps, int start) {
    const intptr_t width = w->shape[1];
    const int64_t *at = indices(steps);
    Step f = {.width = width, .w = reals(w), .gates = reals(gates), .cells = reals(cells),
              .first = size(first) ? reals(first) : NULL,
              .out_slope = size(out_slope) ? reals(out_slope) : NULL, .h = reals(dh), .c = reals(dc),
              .slopes = reals(slopes)};
    for (intptr_t t = steps->shape[0] - 1; t >= 0; t--) {
        f.at = at[2 * t], f.n = at[2 * t + 1];
        f.before = t ? at[2 * t - 2] : 0, f.had = t ? at[2 * t - 1] : 0;
        share(backward_row, &f, f.n, 60. * width);
        if (t || start) share(backward_columns, &f, (width + PANEL * V - 1) / (PANEL * V), 512. * width * f.n);
    }
}
