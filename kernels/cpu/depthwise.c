// Convolution where each group is one input channel, and its two gradients: too few products for the
// tiles of gemm.c. A plane is laid out with its padding and its columns by phase of the stride, so that
// what a tap meets in windows side by side lies side by side.
#include "gemm.h"
#include "threads.h"

enum { SH, SW, PH, PW, DH, DW };                 // of the array `how`

typedef int32_t whole __attribute__((vector_size(4 * V), aligned(4), may_alias));

typedef struct {
    const float *x, *w, *start, *g;              // x, w and g may also be what is written
    const int64_t *how;
    intptr_t n, c, per, h, wide_x, oh, ow, kh, kw;       // per: output channels of an input channel
    intptr_t pitch, line, tall, wide;
    intptr_t *at;                                // where each tap begins in the layout
    whole places;                                // 0, 1, 2...
} Depthwise;

// The layout's columns of phase p that lie inside the image: from *low, *high of them and those before.
static void inside(const Depthwise *d, intptr_t p, intptr_t *low, intptr_t *high) {
    intptr_t s = d->how[SW], before = d->how[PW] - p, last = d->wide_x + before;
    *low = before > 0 ? parts(before, s) : 0;
    *high = larger(*low, smaller(d->pitch, last > 0 ? parts(last, s) : 0));
}

static void lay_out(const Depthwise *d, const float *x, float *to) {
    intptr_t s = d->how[SW], top = d->how[PH], low, high;
    for (intptr_t p = 0; p < s; p++) {
        inside(d, p, &low, &high);
        for (intptr_t y = 0; y < smaller(d->h, d->tall - top); y++) {
            const float *from = x + y * d->wide_x + p - d->how[PW];
            float *line = to + (y + top) * d->line + p * d->pitch;
            if (s == 1) for (intptr_t i = low; i < high; i++) line[i] = from[i];
            else if (s == 2) for (intptr_t i = low; i < high; i++) line[i] = from[i * 2];
            else for (intptr_t i = low; i < high; i++) line[i] = from[i * s];
        }
    }
}

static void take_back(const Depthwise *d, const float *from, float *x) {
    intptr_t s = d->how[SW], top = d->how[PH], low, high;
    for (intptr_t p = 0; p < s; p++) {
        inside(d, p, &low, &high);
        for (intptr_t y = 0; y < d->h; y++) {
            const float *line = from + (y + top) * d->line + p * d->pitch;
            float *to = x + y * d->wide_x + p - d->how[PW];
            for (intptr_t i = low; i < high; i++) to[i * s] = line[i];
        }
    }
}

// n floats, then zeros; nothing is read from `end` on.
static inline vec load(const float *from, intptr_t n, const float *end, const whole *places) {
    if (n >= V) return *(const vec *)from;
    if (from + V <= end) return (vec)(*(const whole *)from & (*places < (int32_t)n));
    vec some = {0};
    for (intptr_t l = 0; l < n; l++) some[l] = from[l];
    return some;
}
// n floats or, before `end`, more, which the next row overwrites.
static inline void store(float *to, const vec *value, intptr_t n, const float *end) {
    if (n >= V || to + V <= end) *(vec *)to = *value;
    else for (intptr_t l = 0; l < n; l++) to[l] = (*value)[l];
}

static void forward(void *context, intptr_t item) {
    const Depthwise *d = context;
    intptr_t taps = d->kh * d->kw, c = item % d->c;
    float *laid = scratch(0, d->wide);
    memset(laid, 0, d->wide * sizeof(float));
    lay_out(d, d->x + item * d->h * d->wide_x, laid);
    for (intptr_t o = 0; o < d->per; o++) {
        const float *w = d->w + (c * d->per + o) * taps;
        float start = d->start ? d->start[c * d->per + o] : 0;
        float *y = (float *)d->g + (item * d->per + o) * d->oh * d->ow;
        intptr_t oy = 0, x = 0;
        while (oy < d->oh) {                     // four vectors of results at a time
            const float *first[4];
            float *to[4];
            intptr_t left[4], n = 0;
            for (; n < 4 && oy < d->oh; n++) {
                first[n] = laid + oy * d->how[SH] * d->line + x;
                to[n] = y + oy * d->ow + x, left[n] = d->ow - x;
                if ((x += V) >= d->ow) x = 0, oy++;
            }
            for (intptr_t i = n; i < 4; i++) first[i] = first[0];
            vec a = start - (vec){0}, b = a, e = a, f = a;
            for (intptr_t t = 0; t < taps; t++) {
                intptr_t at = d->at[t];
                a += *(const vec *)(first[0] + at) * w[t], b += *(const vec *)(first[1] + at) * w[t];
                e += *(const vec *)(first[2] + at) * w[t], f += *(const vec *)(first[3] + at) * w[t];
            }
            const vec *sums[4] = {&a, &b, &e, &f};
            for (intptr_t i = 0; i < n; i++) store(to[i], sums[i], left[i], y + d->oh * d->ow);
        }
    }
}

static void backward(void *context, intptr_t item) {
    const Depthwise *d = context;
    intptr_t taps = d->kh * d->kw, c = item % d->c;
    float *laid = scratch(0, d->wide);
    const float *end = d->g + d->n * d->c * d->per * d->oh * d->ow;
    memset(laid, 0, d->wide * sizeof(float));
    for (intptr_t o = 0; o < d->per; o++) {
        const float *w = d->w + (c * d->per + o) * taps, *g = d->g + (item * d->per + o) * d->oh * d->ow;
        for (intptr_t t = 0; t < taps; t++)
            for (intptr_t oy = 0; oy < d->oh; oy++)
                for (intptr_t x = 0; x < d->ow; x += V)
                    *(vec *)(laid + oy * d->how[SH] * d->line + d->at[t] + x) +=
                        load(g + oy * d->ow + x, d->ow - x, end, &d->places) * w[t];
    }
    take_back(d, laid, (float *)d->x + item * d->h * d->wide_x);
}

static void weights(void *context, intptr_t c) {
    const Depthwise *d = context;
    intptr_t taps = d->kh * d->kw, all = d->per * taps;
    float *laid = scratch(0, d->wide), *sums = scratch(1, all * V), *w = (float *)d->w + c * all;
    const float *end = d->g + d->n * d->c * d->per * d->oh * d->ow;
    memset(laid, 0, d->wide * sizeof(float));
    for (intptr_t i = 0; i < all; i++) w[i] = 0;
    for (intptr_t i = c; i < d->n * d->c; i += d->c) {
        lay_out(d, d->x + i * d->h * d->wide_x, laid);
        memset(sums, 0, all * V * sizeof(float));
        for (intptr_t o = 0; o < d->per; o++) {
            const float *g = d->g + (i * d->per + o) * d->oh * d->ow;
            for (intptr_t oy = 0; oy < d->oh; oy++)
                for (intptr_t x = 0; x < d->ow; x += V) {
                    const float *first = laid + oy * d->how[SH] * d->line + x;
                    const vec slope = load(g + oy * d->ow + x, d->ow - x, end, &d->places);
                    for (intptr_t t = 0; t < taps; t++)
                        *(vec *)(sums + (o * taps + t) * V) += slope * *(const vec *)(first + d->at[t]);
                }
        }
        for (intptr_t t = 0; t < all; t++) {
            float sum = 0;
            for (int l = 0; l < V; l++) sum += sums[t * V + l];
            w[t] += sum;
        }
    }
}

static void prepare(Depthwise *d, const Array *x, const Array *w, const Array *g, const Array *how, Work *work,
                    intptr_t items) {
    const int64_t *h = indices(how);
    *d = (Depthwise){reals(x), reals(w), d->start, reals(g), h, x->shape[0], x->shape[1],
                     w->shape[0] / x->shape[1], x->shape[2], x->shape[3], g->shape[2], g->shape[3],
                     w->shape[2], w->shape[3]};
    intptr_t taps = d->kh * d->kw, s = h[SW];
    d->pitch = larger(parts((d->kw - 1) * h[DW], s) + parts(d->ow, V) * V, parts(d->wide_x + h[PW], s));
    d->line = d->pitch * s;
    d->tall = larger((d->oh - 1) * h[SH] + (d->kh - 1) * h[DH] + 1, d->h + h[PH]);
    d->wide = d->tall * d->line;
    d->at = (intptr_t *)scratch(2, 2 * taps);
    for (intptr_t t = 0; t < taps; t++) {
        intptr_t x = t % d->kw * h[DW];
        d->at[t] = t / d->kw * h[DH] * d->line + x % s * d->pitch + x / s;
    }
    for (int l = 0; l < V; l++) d->places[l] = l;
    share(work, d, items, 8.0 * size(g) * taps / items);
}

// y, x and w: what conv.c's kernels give for one channel a group.
KERNEL depthwise(const Array *x, const Array *w, const Array *bias, const Array *how, const Array *y) {
    Depthwise d = {.start = size(bias) ? reals(bias) : NULL};
    prepare(&d, x, w, y, how, forward, x->shape[0] * x->shape[1]);
}
KERNEL depthwise_grad_input(const Array *g, const Array *w, const Array *how, const Array *x) {
    Depthwise d = {.start = NULL};
    const int64_t *h = indices(how);
    intptr_t taps = w->shape[2] * w->shape[3];
    int64_t ph = h[DH] * (w->shape[2] - 1) - h[PH], pw = h[DW] * (w->shape[3] - 1) - h[PW];
    if (h[SH] == 1 && h[SW] == 1 && ph >= 0 && pw >= 0 && w->shape[0] == x->shape[1]) {
        // It is a convolution, by kernels turned round.
        int64_t numbers[] = {1, 1, ph, pw, h[DH], h[DW]};
        Array turned = *w, other = *how;
        float *to = scratch(3, size(w));
        for (intptr_t i = 0; i < size(w); i++) to[i] = reals(w)[i / taps * taps + taps - 1 - i % taps];
        turned.data = (char *)to, other.data = (char *)numbers;
        prepare(&d, g, &turned, x, &other, forward, x->shape[0] * x->shape[1]);
        return;
    }
    prepare(&d, x, w, g, how, backward, x->shape[0] * x->shape[1]);
}
KERNEL depthwise_grad_weight(const Array *g, const Array *x, const Array *how, const Array *w) {
    Depthwise d = {.start = NULL};
    prepare(&d, x, w, g, how, weights, x->shape[1]);
}
