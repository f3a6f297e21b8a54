// A step of recurrent layers after its product y = h @ w_hh.T, and its backward.
//
// Rows lie one after the other in C order, a step's together, from row `first` on; a step has
// n = rows * width elements, and a thread takes one. Arrays of all rows are (rows, gates, width) or
// (rows, width); y, h, c and their gradients hold the rows of one step, from row 0 on. Calculated
// in Acc, which is also what cells and the sums over steps are kept in.
#include "common.cuh"

__device__ __forceinline__ Acc logistic(Acc v) { return 1 / (1 + exp(-v)); }

// Element i of a step: its column, its place in arrays (rows, width), and where its row begins in
// those with `count` gates, of all rows and of the step.
struct Element {
    Index column, at, gates, own;
};

__device__ __forceinline__ Element element(Index i, Index width, Index first, int count) {
    Index row = i / width, column = i - row * width;
    return {column, first * width + i, (first + row) * count * width + column,
            row * count * width + column};
}

// z is the product with the input and becomes the output.
extern "C" __global__ void rnn_step(T* z, In y, Out h, long long n, long long width,
                                    long long first, int relu) {
    EACH(i, n) {
        Index at = (Index) first * (Index) width + i;
        Acc v = widen(z[at]) + widen(y[i]);
        z[at] = h[i] = narrow(relu ? (v < 0 ? 0 : v) : tanh(v));
    }
}

// dh is the gradient that the steps after this one have for its state.
extern "C" __global__ void rnn_step_backward(In out, In g_out, In dh, Out gz, long long n,
                                             long long width, long long first, int has_out,
                                             int relu) {
    EACH(i, n) {
        Index at = (Index) first * (Index) width + i;
        Acc v = widen(out[at]), g = widen(dh[i]);
        if (has_out) g += widen(g_out[at]);
        gz[at] = narrow(relu ? (v > 0 ? g : 0) : g * (1 - v * v));
    }
}

// z is the product with the input and becomes the gates i, f, g, o.
extern "C" __global__ void lstm_step(T* z, In y, Out h, Acc* __restrict__ c, Out out,
                                     Acc* __restrict__ cells, long long n, long long width,
                                     long long first) {
    Index w = (Index) width;
    EACH(i, n) {
        Element e = element(i, w, (Index) first, 4);
        Acc in = logistic(widen(z[e.gates]) + widen(y[e.own]));
        Acc forget = logistic(widen(z[e.gates + w]) + widen(y[e.own + w]));
        Acc fresh = tanh(widen(z[e.gates + 2 * w]) + widen(y[e.own + 2 * w]));
        Acc show = logistic(widen(z[e.gates + 3 * w]) + widen(y[e.own + 3 * w]));
        Acc cell = forget * c[i] + in * fresh;
        z[e.gates] = narrow(in);
        z[e.gates + w] = narrow(forget);
        z[e.gates + 2 * w] = narrow(fresh);
        z[e.gates + 3 * w] = narrow(show);
        c[i] = cells[e.at] = cell;
        h[i] = out[e.at] = narrow(show * tanh(cell));
    }
}

// previous: the cells of the step before, for each row. dc becomes the gradient for them.
extern "C" __global__ void lstm_step_backward(In gates, const Acc* __restrict__ cells,
                                              const Acc* __restrict__ previous, In g_out, In dh,
                                              Acc* __restrict__ dc, Out gz, long long n,
                                              long long width, long long first, int has_out) {
    Index w = (Index) width;
    EACH(i, n) {
        Element e = element(i, w, (Index) first, 4);
        Acc in = widen(gates[e.gates]), forget = widen(gates[e.gates + w]);
        Acc fresh = widen(gates[e.gates + 2 * w]), show = widen(gates[e.gates + 3 * w]);
        Acc g = widen(dh[i]), top = tanh(cells[e.at]);
        if (has_out) g += widen(g_out[e.at]);
        Acc cell = dc[i] + g * show * (1 - top * top);
        gz[e.gates] = narrow(cell * fresh * in * (1 - in));
        gz[e.gates + w] = narrow(cell * previous[e.at] * forget * (1 - forget));
        gz[e.gates + 2 * w] = narrow(cell * in * (1 - fresh * fresh));
        gz[e.gates + 3 * w] = narrow(g * top * show * (1 - show));
        dc[i] = cell * forget;
    }
}

// x is the product with the input and becomes the gates r, z, n; hidden is y's part for n.
extern "C" __global__ void gru_step(T* x, In y, In bias, T* h, Out out, Out hidden, long long n,
                                    long long width, long long first) {
    Index w = (Index) width;
    EACH(i, n) {
        Element e = element(i, w, (Index) first, 3);
        Acc r = logistic(widen(x[e.gates]) + widen(y[e.own]) + widen(bias[e.column]));
        Acc z = logistic(widen(x[e.gates + w]) + widen(y[e.own + w]) + widen(bias[e.column + w]));
        Acc product = widen(y[e.own + 2 * w]) + widen(bias[e.column + 2 * w]);
        Acc fresh = tanh(widen(x[e.gates + 2 * w]) + r * product);
        x[e.gates] = narrow(r);
        x[e.gates + w] = narrow(z);
        x[e.gates + 2 * w] = narrow(fresh);
        hidden[e.at] = narrow(product);
        h[i] = out[e.at] = narrow(fresh + z * (widen(h[i]) - fresh));
    }
}

// previous: the state of the step before, for each row. The gradient for this step's state comes in
// two parts, product, which was made of a later step's gy, and direct, which is overwritten.
extern "C" __global__ void gru_step_backward(In gates, In hidden, In previous, In g_out,
                                             In product, Acc* __restrict__ direct, Out gx, Out gy,
                                             long long n, long long width, long long first,
                                             int has_out) {
    Index w = (Index) width;
    EACH(i, n) {
        Element e = element(i, w, (Index) first, 3);
        Acc r = widen(gates[e.gates]), z = widen(gates[e.gates + w]);
        Acc fresh = widen(gates[e.gates + 2 * w]), g = widen(product[i]) + direct[i];
        if (has_out) g += widen(g_out[e.at]);
        Acc gn = g * (1 - z) * (1 - fresh * fresh);
        Acc gz = g * (widen(previous[e.at]) - fresh) * z * (1 - z);
        Acc gr = gn * widen(hidden[e.at]) * r * (1 - r);
        gx[e.gates] = gy[e.gates] = narrow(gr);
        gx[e.gates + w] = gy[e.gates + w] = narrow(gz);
        gx[e.gates + 2 * w] = narrow(gn);
        gy[e.gates + 2 * w] = narrow(gn * r);
        direct[i] = g * z;
    }
}
