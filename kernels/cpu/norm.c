// Norms. Layer, RMS and group norm: each row by itself, a row being `share` channels of `inner`
// elements each; for layer norm inner is 1, and a channel's parameters are an element's. Batch norm:
// each channel of (n, c, inner) by itself.
//
// Sums for the parameters are made by blocks of rows, whose number depends on shapes alone, and the
// blocks' sums are added in order.
#include "lanes.h"
#include "threads.h"

// Sum of (x - mean)^2.
static inline real squares(const real *x, real mean, intptr_t n) {
    real s[LANES] = {0};
    EACH(n, real d = x[i + j] - mean; s[j] += d * d;)
    return total(s);
}

typedef struct {
    intptr_t n, length, inner, groups, block;
    const real *g, *x, *weight, *bias;
    real *y, *mean, *r, *sums;
    real eps;
} Rows;

static inline const real *optional(const Array *a) { return size(a) ? reals(a) : NULL; }

// Rows that a thread takes at a time: some 16k elements.
static intptr_t block_of(intptr_t length) { return larger(1, 16384 / larger(1, length)); }

static void rows_part(void *context, intptr_t i) {
    const Rows f = *(Rows *)context;
    for (intptr_t row = i * f.block; row < smaller(f.n, (i + 1) * f.block); row++) {
        const real *x = f.x + row * f.length;
        real *y = f.y + row * f.length, mean = 0;
        if (f.mean) f.mean[row] = mean = sum(x, f.length) / f.length;
        const real r = 1 / sqrtf(squares(x, mean, f.length) / f.length + f.eps);
        f.r[row] = r;
        const intptr_t share = f.length / f.inner, first = row % f.groups * share;
        const real *w = f.weight ? f.weight + first : NULL, *b = f.bias ? f.bias + first : NULL;
        if (f.inner > 1)
            for (intptr_t c = 0; c < share; c++) {
                const real slope = w ? r * w[c] : r, shift = b ? b[c] : 0;
                for (intptr_t k = c * f.inner; k < (c + 1) * f.inner; k++)
                    y[k] = (x[k] - mean) * slope + shift;
            }
        else if (w && b)
            for (intptr_t k = 0; k < f.length; k++) y[k] = (x[k] - mean) * r * w[k] + b[k];
        else
            for (intptr_t k = 0; k < f.length; k++)
                y[k] = (x[k] - mean) * r * (w ? w[k] : 1) + (b ? b[k] : 0);
    }
}

// x (n, length) to y; weight and bias have groups * length / inner elements, or none. mean is of size
// 0 for RMS norm.
KERNEL norm_rows(const Array *x, const Array *weight, const Array *bias, Array *y, Array *mean,
                 Array *r, intptr_t inner, intptr_t groups, double eps) {
    const intptr_t n = size(r), length = n ? size(x) / n : 0;
    Rows f = {n, length, inner, groups, block_of(length), NULL, reals(x), optional(weight),
              optional(bias), reals(y), size(mean) ? reals(mean) : NULL, reals(r), NULL, (real)eps};
    share(rows_part, &f, parts(n, f.block), ELEMENT * smaller(n, f.block) * length);
}

// Layer and RMS norm: gx = r * (h - avg(h) - xhat * avg(h * xhat)), h = g * weight; RMS norm has no
// avg(h). sums: (blocks, 2, length), of g * xhat and of g.
static void layer_back_part(void *context, intptr_t i) {
    const Rows f = *(Rows *)context;
    real *restrict gw = f.sums + i * 2 * f.length, *restrict gb = gw + f.length;
    memset(gw, 0, 2 * f.length * sizeof(real));
    for (intptr_t row = i * f.block; row < smaller(f.n, (i + 1) * f.block); row++) {
        const real *restrict g = f.g + row * f.length, *restrict x = f.x + row * f.length;
        const real *restrict w = f.weight;
        real *restrict y = f.y + row * f.length, s[LANES] = {0}, t[LANES] = {0};
        const real mean = f.mean ? f.mean[row] : 0, r = f.r[row];
        if (w)
            EACH(f.length, real h = g[i + j] * w[i + j]; s[j] += h; t[j] += h * (x[i + j] - mean);)
        else
            EACH(f.length, s[j] += g[i + j]; t[j] += g[i + j] * (x[i + j] - mean);)
        const real shift = f.mean ? total(s) / f.length : 0, tilt = total(t) * r * r / f.length;
        for (intptr_t k = 0; k < f.length; k++) {
            gw[k] += g[k] * ((x[k] - mean) * r);
            gb[k] += g[k];
        }
        if (w)
            for (intptr_t k = 0; k < f.length; k++)
                y[k] = r * (w[k] * g[k] - shift - (x[k] - mean) * tilt);
        else
            for (intptr_t k = 0; k < f.length; k++) y[k] = r * (g[k] - shift - (x[k] - mean) * tilt);
    }
}

typedef struct {
    intptr_t n, blocks;
    const real *sums;
    real *out;
} Total;

static void total_part(void *context, intptr_t i) {
    const Total f = *(Total *)context;
    const intptr_t from = i * 512, to = smaller(f.n, from + 512);
    for (intptr_t k = from; k < to; k++) f.out[k] = 0;
    for (intptr_t b = 0; b < f.blocks; b++)
        for (intptr_t k = from; k < to; k++) f.out[k] += f.sums[b * f.n + k];
}

// sums is (blocks, 2, length), out (2, length): the gradients of weight and bias.
KERNEL layer_norm_backward(const Array *g, const Array *x, const Array *weight, const Array *mean,
                           const Array *r, Array *y, Array *sums, Array *out) {
    const intptr_t n = size(r), length = out->shape[1], blocks = sums->shape[0];
    Rows f = {n, length, 1, 1, (n + blocks - 1) / blocks, reals(g), reals(x), optional(weight), NULL,
              reals(y), size(mean) ? reals(mean) : NULL, reals(r), reals(sums), 0};
    share(layer_back_part, &f, blocks, 2 * ELEMENT * n / blocks * length);
    Total t = {2 * length, blocks, reals(sums), reals(out)};
    share(total_part, &t, parts(t.n, 512), 4. * t.blocks * smaller(t.n, 512));
}

// Group norm, for an image and a group at a time. sums: (n, 2, channels), of g * xhat and of g.
static void group_back_part(void *context, intptr_t row) {
    const Rows f = *(Rows *)context;
    const intptr_t share = f.length / f.inner, image = row / f.groups, first = row % f.groups * share;
    const real *g = f.g + row * f.length, *x = f.x + row * f.length, mean = f.mean[row], r = f.r[row];
    real *y = f.y + row * f.length;
    real *along = f.sums + image * 2 * f.groups * share + first, *whole = along + f.groups * share;
    real shift = 0, tilt = 0;
    for (intptr_t c = 0; c < share; c++) {
        const real *gc = g + c * f.inner, *xc = x + c * f.inner, w = f.weight ? f.weight[first + c] : 1;
        real s[LANES] = {0}, t[LANES] = {0};
        EACH(f.inner, s[j] += gc[i + j]; t[j] += gc[i + j] * (xc[i + j] - mean);)
        whole[c] = total(s), along[c] = total(t) * r;
        shift += whole[c] * w, tilt += along[c] * w;
    }
    shift /= f.length, tilt *= r / f.length;
    for (intptr_t c = 0; c < share; c++) {
        const real w = f.weight ? f.weight[first + c] : 1;
        for (intptr_t k = c * f.inner; k < (c + 1) * f.inner; k++)
            y[k] = r * (g[k] * w - shift - (x[k] - mean) * tilt);
    }
}

// sums is (n, 2, channels), out (2, channels).
KERNEL group_norm_backward(const Array *g, const Array *x, const Array *weight, const Array *mean,
                           const Array *r, Array *y, Array *sums, Array *out, intptr_t inner,
                           intptr_t groups) {
    const intptr_t n = size(r), length = n ? size(x) / n : 0;
    Rows f = {n, length, inner, groups, 1, reals(g), reals(x), optional(weight), NULL, reals(y),
              reals(mean), reals(r), reals(sums), 0};
    share(group_back_part, &f, n, 2 * ELEMENT * length);
    Total t = {size(out), n / groups, reals(sums), reals(out)};
    share(total_part, &t, parts(t.n, 512), 4. * t.blocks * smaller(t.n, 512));
}

// Batch norm ---------------------------------------------------------------------------------------
//
// x is (n, c, inner). A thread takes `step` channels at a time: so many that they fill cache lines, so
// few that what belongs to them stays in its cache. Where inner is small these channels' elements in an
// image are taken as one run of SPAN at most, with each channel's numbers spread over its elements.

#define SPAN 256
#define SHORT 64                        // the greatest inner that is small
#define MOST 64                         // channels at a time
#define FEW 64                          // images whose sum is made in one go

typedef struct {
    intptr_t n, c, inner, step;
    const real *g, *x, *weight, *bias;
    real *y, *mean, *r, *gw, *gb;
    real eps;
    int training;
} Channels;

static intptr_t step_of(intptr_t c, intptr_t inner) {
    return smaller(smaller(c, MOST), larger(1, SPAN / larger(1, inner)));
}

static void spread(const real *numbers, intptr_t many, intptr_t inner, real *to) {
    for (intptr_t k = 0; k < many; k++)
        for (intptr_t i = 0; i < inner; i++) to[k * inner + i] = numbers[k];
}

enum { PLAIN, SQUARES, PRODUCTS };      // of what: x; (x - mean)^2; g, and g * (x - mean)

// What element x, g adds to the two sums.
#define ADD(S, T) \
    if (kind == PLAIN) S += x; \
    if (kind == SQUARES) S += (x - m) * (x - m); \
    if (kind == PRODUCTS) S += g, T += g * (x - m);

static inline __attribute__((always_inline)) void channel_sums(
        const int kind, const Channels *f, intptr_t first, intptr_t many, const real *mean,
        real *restrict s0, real *restrict s1) {
    const intptr_t inner = f->inner, apart = f->c * inner, width = many * inner;
    const real *xs = f->x + first * inner, *gs = kind == PRODUCTS ? f->g + first * inner : xs;
    for (intptr_t k = 0; k < many; k++) s0[k] = s1[k] = 0;
    if (inner <= SHORT) {
        real means[SPAN], s[SPAN], t[SPAN];
        if (kind != PLAIN) spread(mean, many, inner, means);
        for (intptr_t from = 0; from < f->n; from += FEW) {
            for (intptr_t k = 0; k < width; k++) s[k] = t[k] = 0;
            for (intptr_t i = from; i < smaller(f->n, from + FEW); i++) {
                const real *a = xs + i * apart, *b = gs + i * apart;
                for (intptr_t k = 0; k < width; k++) {
                    const real x = a[k], g = b[k], m = kind == PLAIN ? 0 : means[k];
                    ADD(s[k], t[k])
                }
            }
            for (intptr_t k = 0; k < many; k++)
                for (intptr_t i = k * inner; i < (k + 1) * inner; i++) s0[k] += s[i], s1[k] += t[i];
        }
        return;
    }
    for (intptr_t image = 0; image < f->n; image++)
        for (intptr_t k = 0; k < many; k++) {
            const real *a = xs + image * apart + k * inner, *b = gs + image * apart + k * inner,
                       m = mean[k];
            real s[LANES] = {0}, t[LANES] = {0};
            EACH(inner, const real x = a[i + j], g = b[i + j]; ADD(s[j], t[j]))
            s0[k] += total(s);
            if (kind == PRODUCTS) s1[k] += total(t);
        }
}

// y = an expression of x and g with each channel's numbers m, a, b, c.
#define CHANNEL_MAP(M, A, B, C, ...) { \
        const intptr_t width = many * inner; \
        real ms[SPAN], as[SPAN], bs[SPAN], cs[SPAN]; \
        if (inner <= SHORT) { \
            spread(M, many, inner, ms), spread(A, many, inner, as); \
            spread(B, many, inner, bs), spread(C, many, inner, cs); \
        } \
        for (intptr_t image = 0; image < f.n; image++) { \
            const intptr_t at = (image * f.c + first) * inner; \
            const real *restrict xs = f.x + at, *restrict gs = f.g + at; \
            real *restrict y = f.y + at; \
            if (inner <= SHORT) \
                for (intptr_t i = 0; i < width; i++) { \
                    const real x = xs[i], g = gs[i], m = ms[i], a = as[i], b = bs[i], c = cs[i]; \
                    y[i] = __VA_ARGS__; \
                } \
            else \
                for (intptr_t k = 0; k < many; k++, xs += inner, gs += inner, y += inner) { \
                    const real m = M[k], a = A[k], b = B[k], c = C[k]; \
                    for (intptr_t i = 0; i < inner; i++) { \
                        const real x = xs[i], g = gs[i]; \
                        y[i] = __VA_ARGS__; \
                    } \
                } \
        } \
    }

static void batch_part(void *context, intptr_t part) {
    const Channels f = *(Channels *)context;
    const intptr_t first = part * f.step, many = smaller(f.step, f.c - first), inner = f.inner;
    real *mean = f.mean + first, *r = f.r + first, s[MOST], t[MOST], slope[MOST], shift[MOST];
    if (f.training) {
        const real n = (real)(f.n * inner);
        channel_sums(PLAIN, &f, first, many, mean, s, t);
        for (intptr_t k = 0; k < many; k++) mean[k] = s[k] / n;
        channel_sums(SQUARES, &f, first, many, mean, s, t);
        for (intptr_t k = 0; k < many; k++) r[k] = 1 / sqrtf(s[k] / n + f.eps);
    }
    for (intptr_t k = 0; k < many; k++) {
        slope[k] = f.weight ? r[k] * f.weight[first + k] : r[k];
        shift[k] = f.bias ? f.bias[first + k] : 0;
    }
    CHANNEL_MAP(mean, slope, shift, shift, (x - m) * a + b)
}

// mean and r: what was used, made here if training, else given.
KERNEL batch_norm(const Array *x, const Array *weight, const Array *bias, Array *y, Array *mean,
                  Array *r, intptr_t n, intptr_t inner, double eps, int training) {
    Channels f = {n, size(mean), inner, step_of(size(mean), inner), reals(x), reals(x), optional(weight),
                  optional(bias), reals(y), reals(mean), reals(r), NULL, NULL, (real)eps, training};
    share(batch_part, &f, parts(f.c, f.step), ELEMENT * n * inner * smaller(f.c, f.step));
}

// gx = r * weight * (g - avg(g) - xhat * avg(g * xhat)); without `training` the averages are none.
static void batch_back_part(void *context, intptr_t part) {
    const Channels f = *(Channels *)context;
    const intptr_t first = part * f.step, many = smaller(f.step, f.c - first), inner = f.inner;
    const real *mean = f.mean + first, *r = f.r + first, n = (real)(f.n * inner);
    real *gb = f.gb + first, *gw = f.gw + first, scale[MOST], tilt[MOST], shift[MOST];
    channel_sums(PRODUCTS, &f, first, many, mean, gb, gw);
    for (intptr_t k = 0; k < many; k++) {
        gw[k] *= r[k];
        scale[k] = f.weight ? r[k] * f.weight[first + k] : r[k];
        tilt[k] = f.training ? -scale[k] * gw[k] * r[k] / n : 0;
        shift[k] = f.training ? -scale[k] * gb[k] / n : 0;
    }
    CHANNEL_MAP(mean, tilt, shift, scale, g * c + ((x - m) * a + b))
}

KERNEL batch_norm_backward(const Array *g, const Array *x, const Array *weight, const Array *mean,
                           const Array *r, Array *y, Array *gw, Array *gb, intptr_t n, intptr_t inner,
                           int training) {
    Channels f = {n, size(mean), inner, step_of(size(mean), inner), reals(g), reals(x),
                  optional(weight), NULL, reals(y), reals(mean), reals(r), reals(gw), reals(gb), 0,
                  training};
    share(batch_back_part, &f, parts(f.c, f.step), 2 * ELEMENT * n * inner * smaller(f.c, f.step));
}
