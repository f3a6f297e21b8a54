// Pooling of planes (n * c, h, w): maxima with their places, means, and the gradients of both.
//
// A plane belongs to one thread. Maxima go along a row of results with one kernel element after the
// other, so that the first of equal ones wins, and the last NaN. Means are summed down the columns, in
// whole rows, and then along them.
#include "gemm.h"
#include "threads.h"

enum { KH, KW, SH, SW, PH, PW, DH, DW };         // of the array `how`

typedef struct {
    const float *x;
    float *y;
    int64_t *at;                                 // NULL where nobody asks
    const int64_t *how;
    intptr_t planes, h, w, oh, ow, each;         // each: planes of one piece of work
    const float *divisor;
    _Atomic int *astray;                         // was a place outside its plane?
    int varies;                                  // has each window a divisor of its own?
} Pool;

static void pieces(Pool *p, Work *work, double each) {
    p->each = larger(1, smaller(parts(p->planes, 4 * threads()), (intptr_t)(1e6 / (each + 1)) + 1));
    share(work, p, parts(p->planes, p->each), each * p->each);
}

typedef int32_t whole __attribute__((vector_size(4 * V), aligned(4), may_alias));

#define CHOOSE(WHICH, A, B) (((WHICH) & (A)) | (~(WHICH) & (B)))

// A plane's rows are laid out with -inf around them and the columns by phase of the stride: then what a
// kernel element meets in windows side by side lies side by side.
static void max_planes(void *context, intptr_t item) {
    const Pool *p = context;
    const int64_t *h = p->how;
    intptr_t area = p->h * p->w, end = smaller(p->planes, (item + 1) * p->each) * p->oh * p->ow;
    intptr_t s = h[SW], wide = parts(p->ow, V) * V;
    intptr_t pitch = parts((h[KW] - 1) * h[DW], s) + wide, line = s * pitch;
    float *rows = scratch(0, p->h * line);
    int32_t *first = (int32_t *)scratch(1, wide + h[KW]), *tap = first + wide;
    for (intptr_t j = 0; j < h[KW]; j++) tap[j] = (int32_t)(j * h[DW] % s * pitch + j * h[DW] / s);
    // `first`: each window's first column in the image
    for (intptr_t i = 0; i < p->h * line; i++) rows[i] = -INFINITY;
    whole ramp;
    for (int l = 0; l < V; l++) ramp[l] = (int32_t)(l * s);
    for (intptr_t x = 0; x < wide; x++) {
        intptr_t left = x * s - h[PW];
        first[x] = (int32_t)(left < 0 ? left + parts(-left, h[DW]) * h[DW] : left);
    }
    for (intptr_t plane = item * p->each; plane < smaller(p->planes, (item + 1) * p->each); plane++) {
        const float *x = p->x + plane * area;
        for (intptr_t y = 0; y < p->h; y++)
            for (intptr_t phase = 0; phase < s; phase++) {
                intptr_t low = parts(larger(0, h[PW] - phase), s);
                intptr_t high = smaller(pitch, parts(larger(0, p->w + h[PW] - phase), s));
                const float *from = x + y * p->w + phase - h[PW];
                float *to = rows + y * line + phase * pitch;
                if (s == 1) memcpy(to + low, from + low, larger(0, high - low) * sizeof(float));
                else if (s == 2) for (intptr_t i = low; i < high; i++) to[i] = from[i * 2];
                else for (intptr_t i = low; i < high; i++) to[i] = from[i * s];
            }
        for (intptr_t oy = 0; oy < p->oh; oy++) {
            intptr_t top = oy * h[SH] - h[PH], i0 = top < 0 ? parts(-top, h[DH]) : 0;
            intptr_t row = (plane * p->oh + oy) * p->ow;
            for (intptr_t x0 = 0; x0 < p->ow; x0 += V) {
                vec best = -INFINITY - (vec){0};
                whole at = *(const whole *)(first + x0) + (int32_t)((top + i0 * h[DH]) * p->w);
                for (intptr_t y = top + i0 * h[DH]; y < smaller(p->h, top + h[KH] * h[DH]); y += h[DH])
                    for (intptr_t j = 0; j < h[KW]; j++) {
                        const vec v = *(const vec *)(rows + y * line + tap[j] + x0);
                        const whole better = (v > best) | (v != v);
                        best = (vec)CHOOSE(better, (whole)v, (whole)best);
                        at = CHOOSE(better, ramp + (int32_t)(y * p->w + x0 * s - h[PW] + j * h[DW]), at);
                    }
                float *values = p->y + row + x0;
                int64_t *places = p->at + row + x0, before = plane * area;
                if (row + x0 + V <= end) {       // what is too much is overwritten by the next row
                    for (int l = 0; l < V; l++) values[l] = best[l];
                    if (p->at) for (int l = 0; l < V; l++) places[l] = before + at[l];
                } else {
                    for (intptr_t l = 0; l < p->ow - x0 && l < V; l++) {
                        values[l] = best[l];
                        if (p->at) places[l] = before + at[l];
                    }
                }
            }
        }
    }
}

// y: the maxima of x's windows; at: their places in the whole of x, or an empty array. how: kernel,
// stride, padding and dilation, each for rows and columns.
KERNEL max_pool(const Array *x, const Array *how, const Array *y, const Array *at) {
    Pool p = {.x = reals(x), .y = reals(y), .at = size(at) ? indices(at) : NULL, .how = indices(how),
              .planes = count(x, 0, 2), .h = x->shape[2], .w = x->shape[3], .oh = y->shape[2],
              .ow = y->shape[3]};
    pieces(&p, max_planes, 8.0 * (p.h * p.w + p.oh * p.ow * p.how[KH] * p.how[KW]));
}

static void put_planes(void *context, intptr_t item) {
    const Pool *p = context;
    uint64_t area = p->h * p->w;
    for (intptr_t plane = item * p->each; plane < smaller(p->planes, (item + 1) * p->each); plane++) {
        float *x = p->y + plane * area;
        memset(x, 0, area * sizeof(float));
        // Places are counted in the whole array, or in each plane.
        int64_t first = p->varies ? 0 : plane * area;
        for (intptr_t i = plane * p->oh; i < (plane + 1) * p->oh; i++) {
            uint64_t place = p->at[i] - first;
            if (place < area) x[place] += p->x[i];
            else *p->astray = 1;
        }
    }
}

// x: zeros, with g added at the places `at`; in_planes: these are counted in each plane.
KERNEL put_back(const Array *g, const Array *at, const Array *x, int in_planes) {
    _Atomic int astray = 0;
    Pool p = {.astray = &astray, .x = reals(g), .y = reals(x), .at = indices(at), .varies = in_planes,
              .planes = count(x, 0, 2), .h = x->shape[2], .w = x->shape[3], .oh = count(g, 2, g->ndim)};
    pieces(&p, put_planes, 4.0 * p.h * p.w + 64 * p.oh);
    if (!astray || in_planes) return;
    // Places in other planes, which no pooling gives.
    intptr_t area = p.h * p.w;
    for (intptr_t i = 0; i < p.planes * p.oh; i++)
        if (p.at[i] / area != i / p.oh && p.at[i] >= 0 && p.at[i] < p.planes * area)
            p.y[p.at[i]] += p.x[i];
}

// Means -------------------------------------------------------------------------------------------

static float sum_of(const float *x, intptr_t n) {
    float part[16] = {0}, sum = 0;
    intptr_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) part[l] += x[i + l];
    for (int l = 0; l < 8; l++) part[l] += part[l + 8];
    for (; i < n; i++) sum += x[i];
    return sum + ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
}

// Row y of the results has rows how[y]..how[oh + y]-1 of the image, and so the columns behind them.
static void mean_planes(void *context, intptr_t item) {
    const Pool *p = context;
    if (p->oh == 1 && p->ow == 1 && p->how[1] - p->how[0] == p->h && p->how[3] - p->how[2] == p->w) {
        for (intptr_t plane = item * p->each; plane < smaller(p->planes, (item + 1) * p->each); plane++)
            p->y[plane] = sum_of(p->x + plane * p->h * p->w, p->h * p->w) / p->divisor[0];
        return;
    }
    const int64_t *top = p->how, *bottom = top + p->oh, *left = bottom + p->oh, *right = left + p->ow;
    float *sums = scratch(0, p->w + 2 * p->ow);
    intptr_t low = 0, high = p->ow, step = p->ow > 1 ? left[p->ow / 2] - left[p->ow / 2 - 1] : 0;
    intptr_t wide = right[p->ow / 2] - left[p->ow / 2];
    // Windows low..high-1 are alike.
    for (intptr_t x = p->ow / 2; x > 0; x--)
        if (left[x] - left[x - 1] != step || right[x - 1] - left[x - 1] != wide) { low = x; break; }
    for (intptr_t x = p->ow / 2; x < p->ow; x++)
        if ((x && left[x] - left[x - 1] != step) || right[x] - left[x] != wide) { high = x; break; }
    for (intptr_t plane = item * p->each; plane < smaller(p->planes, (item + 1) * p->each); plane++)
        for (intptr_t oy = 0; oy < p->oh; oy++) {
            const float *x = p->x + plane * p->h * p->w;
            float *y = p->y + (plane * p->oh + oy) * p->ow;
            memset(sums, 0, p->w * sizeof(float));
            for (intptr_t i = top[oy]; i < bottom[oy]; i++)
                for (intptr_t j = 0; j < p->w; j++) sums[j] += x[i * p->w + j];
            for (intptr_t ox = 0; ox < p->ow; ox++) {
                float sum = 0;
                if (ox == low && high - low > 3) {
                    const float *first = sums + left[low];
                    for (; ox < high; ox++) y[ox] = 0;
                    for (intptr_t j = 0; j < wide; j++, first++) {
                        if (step == 1) for (intptr_t i = 0; i < high - low; i++) y[low + i] += first[i];
                        else if (step == 2) for (intptr_t i = 0; i < high - low; i++) y[low + i] += first[i * 2];
                        else for (intptr_t i = 0; i < high - low; i++) y[low + i] += first[i * step];
                    }
                    ox--;
                    continue;
                }
                for (intptr_t j = left[ox]; j < right[ox]; j++) sum += sums[j];
                y[ox] = sum;
            }
            const float *divisor = p->divisor + (p->varies ? oy * p->ow : 0);
            if (p->varies) for (intptr_t ox = 0; ox < p->ow; ox++) y[ox] /= divisor[ox];
            else for (intptr_t ox = 0; ox < p->ow; ox++) y[ox] /= divisor[0];
        }
}

// y: the sums of x's windows over the divisors, one or (oh, ow). spans: see mean_planes.
KERNEL mean_pool(const Array *x, const Array *spans, const Array *divisor, const Array *y) {
    Pool p = {.x = reals(x), .y = reals(y), .how = indices(spans), .planes = count(x, 0, 2),
              .h = x->shape[2], .w = x->shape[3], .oh = y->shape[2], .ow = y->shape[3],
              .divisor = reals(divisor), .varies = size(divisor) > 1};
    intptr_t rows = 0;
    for (intptr_t i = 0; i < p.oh; i++) rows += p.how[p.oh + i] - p.how[i];
    pieces(&p, mean_planes, 4.0 * rows * p.w + 64 * p.oh * p.ow);
}

static void spread_planes(void *context, intptr_t item) {
    const Pool *p = context;
    const int64_t *top = p->how, *bottom = top + p->oh, *left = bottom + p->oh, *right = left + p->ow;
    float *shares = scratch(0, p->w);
    for (intptr_t plane = item * p->each; plane < smaller(p->planes, (item + 1) * p->each); plane++) {
        float *x = p->y + plane * p->h * p->w;
        memset(x, 0, p->h * p->w * sizeof(float));
        for (intptr_t oy = 0; oy < p->oh; oy++) {
            const float *g = p->x + (plane * p->oh + oy) * p->ow;
            memset(shares, 0, p->w * sizeof(float));
            for (intptr_t ox = 0; ox < p->ow; ox++) {
                float one = g[ox] / p->divisor[p->varies ? oy * p->ow + ox : 0];
                for (intptr_t j = left[ox]; j < right[ox]; j++) shares[j] += one;
            }
            for (intptr_t i = top[oy]; i < bottom[oy]; i++)
                for (intptr_t j = 0; j < p->w; j++) x[i * p->w + j] += shares[j];
        }
    }
}

// x: g over the divisors, added to all of each window.
KERNEL mean_pool_backward(const Array *g, const Array *spans, const Array *divisor, const Array *x) {
    Pool p = {.x = reals(g), .y = reals(x), .how = indices(spans), .planes = count(x, 0, 2),
              .h = x->shape[2], .w = x->shape[3], .oh = g->shape[2], .ow = g->shape[3],
              .divisor = reals(divisor), .varies = size(divisor) > 1};
    intptr_t rows = 0;
    for (intptr_t i = 0; i < p.oh; i++) rows += p.how[p.oh + i] - p.how[i];
    pieces(&p, spread_planes, 4.0 * rows * p.w + 64 * p.oh * p.ow);
}
