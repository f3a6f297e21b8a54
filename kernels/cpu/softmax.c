// softmax, log_softmax, cross entropy, and their gradients: along lines of n elements, (outer, n,
// inner), line i of `inner` neighbours having its elements `inner` apart.
#include "lanes.h"
#include "threads.h"

#define WIDTH 1024                      // lines that are taken at a time where inner > 1: fewer, of 4 KB
                                        // apart, would read what looks like addresses just written

typedef struct {
    intptr_t outer, n, inner, block;
    const real *g, *x, *low, *log, *scale, *label, *share, *weight;
    const int64_t *classes;
    real *y, *own, *even;
    int each;
} Lines;

// Calls of work(context, i) for lines: where they lie side by side, WIDTH of them; else some 16k elements.
static void all(Work *work, Lines *f) {
    const double each = 2 * ELEMENT * f->n;
    if (f->inner > 1)
        share(work, f, f->outer * parts(f->inner, WIDTH), each * smaller(f->inner, WIDTH));
    else {
        f->block = larger(1, 16384 / larger(1, f->n));
        share(work, f, parts(f->outer, f->block), each * smaller(f->outer, f->block));
    }
}

// Side by side: the first line's offset, and how many there are.
typedef struct { intptr_t at, line, many; } Side;
static Side side(const Lines *f, intptr_t i) {
    const intptr_t across = (f->inner + WIDTH - 1) / WIDTH, from = i % across * WIDTH;
    return (Side){i / across * f->n * f->inner + from, i / across * f->inner + from,
                  smaller(WIDTH, f->inner - from)};
}
#define ROWS(LINE) \
    for (intptr_t LINE = i * f.block; LINE < smaller(f.outer, (i + 1) * f.block); LINE++)
// The statements for element k of n of each of the lines side by side; p is where it is.
#define SIDES(...) \
    for (intptr_t k = 0; k < f.n; k++) \
        _Pragma("GCC ivdep") \
        for (intptr_t j = 0; j < s.many; j++) { const intptr_t p = s.at + k * f.inner + j; __VA_ARGS__ }

// The sum of exp(x - low), and these exponentials in y if it isn't NULL.
static inline real exponentials(const real *restrict x, real low, real *restrict y, intptr_t n) {
    const intptr_t whole = n / LANES * LANES, rest = n - whole;
    real s[LANES] = {0};
    if (y) EACH(whole, s[j] += y[i + j] = exponential(x[i + j] - low);)
    else EACH(whole, s[j] += exponential(x[i + j] - low);)
    if (rest) {
        real t[LANES];
        for (int j = 0; j < LANES; j++) t[j] = -INFINITY;
        memcpy(t, x + whole, rest * sizeof(real));
        for (int j = 0; j < LANES; j++) t[j] = exponential(t[j] - low);
        if (y) memcpy(y + whole, t, rest * sizeof(real));
        for (int j = 0; j < rest; j++) s[j] += t[j];
    }
    return total(s);
}

static void softmax_part(void *context, intptr_t i) {
    const Lines f = *(Lines *)context;
    if (f.inner > 1) {
        const Side s = side(&f, i);
        real most[WIDTH], sums[WIDTH];
        memset(sums, 0, s.many * sizeof(real));
        for (int j = 0; j < s.many; j++) most[j] = -INFINITY;
        SIDES(most[j] = f.x[p] > most[j] ? f.x[p] : most[j];)
        SIDES(f.y[p] = exponential(f.x[p] - most[j]); sums[j] += f.y[p];)
        SIDES(f.y[p] /= sums[j];)
        return;
    }
    ROWS(line) {
        const real *x = f.x + line * f.n;
        real *y = f.y + line * f.n;
        const real share = 1 / exponentials(x, greatest(x, f.n), y, f.n);
        for (intptr_t k = 0; k < f.n; k++) y[k] *= share;
    }
}
KERNEL softmax(const Array *x, Array *y, intptr_t n, intptr_t inner) {
    Lines f = {.outer = size(x) / (n * inner), .n = n, .inner = inner, .x = reals(x), .y = reals(y)};
    all(softmax_part, &f);
}

// y * (g - sum(g * y)); here x is softmax's result.
static void softmax_back_part(void *context, intptr_t i) {
    const Lines f = *(Lines *)context;
    if (f.inner > 1) {
        const Side s = side(&f, i);
        real sums[WIDTH];
        memset(sums, 0, s.many * sizeof(real));
        SIDES(sums[j] += f.g[p] * f.x[p];)
        SIDES(f.y[p] = f.x[p] * (f.g[p] - sums[j]);)
        return;
    }
    ROWS(line) {
        const real *g = f.g + line * f.n, *x = f.x + line * f.n;
        real *y = f.y + line * f.n, s[LANES] = {0};
        EACH(f.n, s[j] += g[i + j] * x[i + j];)
        const real sum = total(s);
        for (intptr_t k = 0; k < f.n; k++) y[k] = x[k] * (g[k] - sum);
    }
}
KERNEL softmax_backward(const Array *g, const Array *x, Array *y, intptr_t n, intptr_t inner) {
    Lines f = {.outer = size(x) / (n * inner), .n = n, .inner = inner, .g = reals(g), .x = reals(x),
               .y = reals(y)};
    all(softmax_back_part, &f);
}

static void log_softmax_part(void *context, intptr_t i) {
    const Lines f = *(Lines *)context;
    if (f.inner > 1) {
        const Side s = side(&f, i);
        real most[WIDTH], sums[WIDTH];
        memset(sums, 0, s.many * sizeof(real));
        for (int j = 0; j < s.many; j++) most[j] = -INFINITY;
        SIDES(most[j] = f.x[p] > most[j] ? f.x[p] : most[j];)
        SIDES(sums[j] += exponential(f.x[p] - most[j]);)
        for (int j = 0; j < s.many; j++) sums[j] = logf(sums[j]);
        SIDES(f.y[p] = f.x[p] - most[j] - sums[j];)
        return;
    }
    ROWS(line) {
        const real *x = f.x + line * f.n, most = greatest(x, f.n);
        const real log = logf(exponentials(x, most, NULL, f.n));
        real *y = f.y + line * f.n;
        for (intptr_t k = 0; k < f.n; k++) y[k] = x[k] - most - log;
    }
}
KERNEL log_softmax(const Array *x, Array *y, intptr_t n, intptr_t inner) {
    Lines f = {.outer = size(x) / (n * inner), .n = n, .inner = inner, .x = reals(x), .y = reals(y)};
    all(log_softmax_part, &f);
}

// g - exp(x) * sum(g); here x is log_softmax's result.
static void log_softmax_back_part(void *context, intptr_t i) {
    const Lines f = *(Lines *)context;
    if (f.inner > 1) {
        const Side s = side(&f, i);
        real sums[WIDTH];
        memset(sums, 0, s.many * sizeof(real));
        SIDES(sums[j] += f.g[p];)
        SIDES(f.y[p] = f.g[p] - exponential(f.x[p]) * sums[j];)
        return;
    }
    ROWS(line) {
        const real *g = f.g + line * f.n, *x = f.x + line * f.n, all = sum(g, f.n);
        real *y = f.y + line * f.n;
        for (intptr_t k = 0; k < f.n; k++) y[k] = g[k] - exponential(x[k]) * all;
    }
}
KERNEL log_softmax_backward(const Array *g, const Array *x, Array *y, intptr_t n, intptr_t inner) {
    Lines f = {.outer = size(x) / (n * inner), .n = n, .inner = inner, .g = reals(g), .x = reals(x),
               .y = reals(y)};
    all(log_softmax_back_part, &f);
}

static inline const real *optional(const Array *a) { return size(a) ? reals(a) : NULL; }

// Cross entropy: of each line its maximum, rounded, as low, and the logarithm of the sum of exp(x - low).
// A class out of range has no loss. For label smoothing also the sum of weight * (low - x), as even.
static void entropy_part(void *context, intptr_t i) {
    const Lines f = *(Lines *)context;
    real *lows = (real *)f.low, *logs = (real *)f.log;
    if (f.inner == 1 && f.n <= LANES && !f.even) {          // short lines side by side
        const intptr_t last = smaller(f.outer, (i + 1) * f.block);
        for (intptr_t line = i * f.block; line < last; line += LANES) {
            const int many = (int)smaller(LANES, last - line);
            real turned[LANES][LANES], most[LANES], sums[LANES];
            for (int j = 0; j < LANES; j++) {
                const real *x = f.x + smaller(line + j, last - 1) * f.n;
                for (intptr_t k = 0; k < f.n; k++) turned[k][j] = x[k];
            }
            for (int j = 0; j < LANES; j++) most[j] = -INFINITY, sums[j] = 0;
            for (intptr_t k = 0; k < f.n; k++)
                for (int j = 0; j < LANES; j++) most[j] = turned[k][j] > most[j] ? turned[k][j] : most[j];
            for (int j = 0; j < LANES; j++) most[j] = rintf(most[j]);
            for (intptr_t k = 0; k < f.n; k++)
                for (int j = 0; j < LANES; j++) sums[j] += exponential(turned[k][j] - most[j]);
            for (int j = 0; j < many; j++) {
                const int64_t own = f.classes[line + j];
                const real log = logf(sums[j]);
                lows[line + j] = most[j], logs[line + j] = log;
                f.own[line + j] = own < 0 || own >= f.n ? 0 : log - (turned[own][j] - most[j]);
            }
        }
        return;
    }
    if (f.inner > 1) {
        const Side s = side(&f, i);
        real most[WIDTH], sums[WIDTH];
        memset(sums, 0, s.many * sizeof(real));
        for (int j = 0; j < s.many; j++) most[j] = -INFINITY;
        SIDES(most[j] = f.x[p] > most[j] ? f.x[p] : most[j];)
        for (int j = 0; j < s.many; j++) most[j] = rintf(most[j]);
        SIDES(sums[j] += exponential(f.x[p] - most[j]);)
        if (f.even) {
            real *even = f.even + s.line;
            memset(even, 0, s.many * sizeof(real));
            SIDES(even[j] += (most[j] - f.x[p]) * (f.weight ? f.weight[k] : 1);)
        }
        for (int j = 0; j < s.many; j++) {
            const int64_t own = f.classes[s.line + j];
            lows[s.line + j] = most[j];
            logs[s.line + j] = logf(sums[j]);
            f.own[s.line + j] = own < 0 || own >= f.n ? 0 :
                logs[s.line + j] - (f.x[s.at + own * f.inner + j] - most[j]);
        }
        return;
    }
    ROWS(line) {
        const real *x = f.x + line * f.n, low = rintf(greatest(x, f.n));
        const real log = logf(exponentials(x, low, NULL, f.n));
        const int64_t own = f.classes[line];
        lows[line] = low, logs[line] = log;
        f.own[line] = own < 0 || own >= f.n ? 0 : log - (x[own] - low);
        if (f.even) {
            real s[LANES] = {0};
            if (f.weight) EACH(f.n, s[j] += (low - x[i + j]) * f.weight[i + j];)
            else EACH(f.n, s[j] += low - x[i + j];)
            f.even[line] = total(s);
        }
    }
}
// losses, low, log and even have an element for each class index; x is (outer, n, inner). weight and even
// may be of size 0.
KERNEL cross_entropy(const Array *x, const Array *classes, const Array *weight, Array *losses,
                     Array *log, Array *low, Array *even, intptr_t inner) {
    Lines f = {.outer = x->shape[0], .n = x->shape[1], .inner = inner, .x = reals(x), .low = reals(low),
               .log = reals(log), .classes = indices(classes), .own = reals(losses),
               .weight = optional(weight), .even = (real *)optional(even)};
    all(entropy_part, &f);
}

// Also the mean of the losses, and how many they are: 0 if a class is out of range.
KERNEL cross_entropy_mean(const Array *x, const Array *classes, Array *losses, Array *log, Array *low,
                          Array *mean, Array *many, intptr_t inner) {
    Lines f = {.outer = x->shape[0], .n = x->shape[1], .inner = inner, .x = reals(x), .low = reals(low),
               .log = reals(log), .classes = indices(classes), .own = reals(losses)};
    const intptr_t lines = size(losses);
    uint64_t most = 0;
    for (intptr_t i = 0; i < lines; i++)                    // a negative class is a huge one
        most = (uint64_t)f.classes[i] > most ? (uint64_t)f.classes[i] : most;
    *reals(many) = most < (uint64_t)f.n ? lines : 0;
    if (most >= (uint64_t)f.n) return;
    all(entropy_part, &f);
    *reals(mean) = sum(f.own, lines) / (real)lines;
}

// scale * exp(x - low - log) - share * weight, and less label at the class. scale, share and label: one
// number, or one for each line if `each`; share may be NULL. A line with a class out of range gets 0.
static void entropy_back_part(void *context, intptr_t i) {
    const Lines f = *(Lines *)context;
    if (f.inner > 1) {
        const Side s = side(&f, i);
        real low[WIDTH], log[WIDTH], scale[WIDTH];
        for (intptr_t j = 0; j < s.many; j++) {
            const int64_t own = f.classes[s.line + j];
            low[j] = f.low[s.line + j], log[j] = f.log[s.line + j];
            scale[j] = own < 0 || own >= f.n ? 0 : f.each ? f.scale[s.line + j] : *f.scale;
        }
        SIDES(f.y[p] = exponential(f.x[p] - low[j] - log[j]) * scale[j];)
        if (f.share)
            SIDES(f.y[p] -= (f.each ? f.share[s.line + j] : *f.share) * (f.weight ? f.weight[k] : 1);)
        for (intptr_t j = 0; j < s.many; j++) {
            const int64_t own = f.classes[s.line + j];
            if (own >= 0 && own < f.n)
                f.y[s.at + own * f.inner + j] -= f.each ? f.label[s.line + j] : *f.label;
        }
        return;
    }
    ROWS(line) {
        const real *x = f.x + line * f.n, low = f.low[line], log = f.log[line];
        real *y = f.y + line * f.n, scale = f.each ? f.scale[line] : *f.scale;
        const int64_t own = f.classes[line];
        if (own < 0 || own >= f.n) {
            memset(y, 0, f.n * sizeof(real));
            continue;
        }
        const real share = !f.share ? 0 : f.each ? f.share[line] : *f.share;
        if (f.share && f.weight)
            for (intptr_t k = 0; k < f.n; k++)
                y[k] = exponential(x[k] - low - log) * scale - share * f.weight[k];
        else
            for (intptr_t k = 0; k < f.n; k++) y[k] = exponential(x[k] - low - log) * scale - share;
        y[own] -= f.each ? f.label[line] : *f.label;
    }
}
KERNEL cross_entropy_backward(const Array *x, const Array *classes, const Array *low, const Array *log,
                              const Array *scale, const Array *label, const Array *share,
                              const Array *weight, Array *y, intptr_t inner) {
    Lines f = {.outer = x->shape[0], .n = x->shape[1], .inner = inner, .x = reals(x), .low = reals(low),
               .log = reals(log), .scale = reals(scale), .classes = indices(classes), .y = reals(y),
               .label = reals(label), .share = optional(share), .weight = optional(weight),
               .each = scale->ndim > 0};
    all(entropy_back_part, &f);
}
