// Attention: softmax(scale * q @ k.T, masked) @ v and its gradients, for heads in C. q is (b, h, l, e),
// k (b, h', s, e), v (b, h', s, ev), with any strides; h / h' neighbouring heads of q share one of k, v.
//
// BLOCK queries are taken at a time, with all keys that they see. Their scores stand transposed,
// (keys, queries): then maxima and sums are those of whole vectors, and of the two factors of each
// product one is read in vectors and one a number at a time, so none needs another layout but q, and g
// in backward. Sizes are rounded up, keys to GROUP, others to V, and filled with zeros.
#include "lanes.h"
#include "tile.h"
#include "threads.h"

enum { BLOCK = 64 };

typedef struct {
    const Array *g, *q, *k, *v, *out, *lse, *mask;
    Array *y, *log, *gq, *gk, *gv;
    intptr_t heads, group, length, keys, e, ev, we, wv, blocks;     // we, wv: e, ev rounded up
    real scale;
    int causal, kind;                   // of the mask: 0 none, 1 bools, 2 numbers
} Attention;

static inline char *plane(const Array *a, intptr_t image, intptr_t head) {
    return a->data + image * a->strides[0] + head * a->strides[1];
}

// `rows` of a's rows from `first` on, times scale, as (total, width) with zeros; transposed as well, if
// there is memory for that, as (columns, total).
static void take(const Array *a, intptr_t image, intptr_t head, intptr_t first, intptr_t rows,
                 intptr_t total, intptr_t width, real scale, real *to, real *turned) {
    const intptr_t columns = a->shape[3], step = a->strides[3];
    const char *from = plane(a, image, head) + first * a->strides[2];
    for (intptr_t r = 0; r < total; r++) {
        real *y = to + r * width;
        memset(y, 0, width * sizeof(real));
        if (r >= rows) continue;
        const char *x = from + r * a->strides[2];
        if (step == sizeof(real))
            for (intptr_t i = 0; i < columns; i++) y[i] = ((const real *)x)[i] * scale;
        else
            for (intptr_t i = 0; i < columns; i++) y[i] = *(const real *)(x + i * step) * scale;
    }
    if (turned)
        for (intptr_t i = 0; i < columns; i++)
            for (intptr_t r = 0; r < total; r++) turned[i * total + r] = to[r * width + i];
}

static void give(const Array *a, intptr_t image, intptr_t head, intptr_t first, intptr_t rows,
                 intptr_t width, const real *from) {
    for (intptr_t r = 0; r < rows; r++)
        memcpy(plane(a, image, head) + (first + r) * a->strides[2], from + r * width,
               a->shape[3] * sizeof(real));
}

// The scores (seen, width) of queries first .. first + rows, hidden ones -infinity, and so are those of
// keys beyond n.
static void scores(const Attention *f, intptr_t image, intptr_t head, intptr_t first, intptr_t rows,
                   intptr_t n, intptr_t seen, intptr_t width, const real *k, const real *turned,
                   real *s) {
    product(0, seen, width, f->e, k, f->we, 1, turned, width, s, width);
    if (f->kind) {
        const Array *m = f->mask;
        for (intptr_t j = 0; j < rows; j++) {
            const char *x = plane(m, image, head) + (first + j) * m->strides[2];
            if (f->kind == 1)
                for (intptr_t i = 0; i < n; i++) {
                    if (!x[i * m->strides[3]]) s[i * width + j] = -INFINITY;
                }
            else
                for (intptr_t i = 0; i < n; i++) s[i * width + j] += *(const real *)(x + i * m->strides[3]);
        }
    }
    if (f->causal)
        for (intptr_t i = first; i < n; i++)
            for (intptr_t j = 0; j < smaller(width, i - first); j++) s[i * width + j] = -INFINITY;
    for (intptr_t i = n * width; i < seen * width; i++) s[i] = -INFINITY;
}

// How many keys queries before `stop` see, and the memory that these take.
static inline intptr_t visible(const Attention *f, intptr_t stop) {
    return f->causal ? smaller(f->keys, stop) : f->keys;
}

static void forward_part(void *context, intptr_t i) {
    const Attention *f = context;
    const intptr_t at = i / f->blocks, image = at / f->heads, head = at % f->heads,
                   first = i % f->blocks * BLOCK, rows = smaller(BLOCK, f->length - first),
                   width = up(rows, V), n = visible(f, first + rows), seen = up(n, GROUP);
    real *k = scratch(0, seen * (f->we + f->wv + width) + width * (2 * f->we + f->wv)),
         *v = k + seen * f->we, *s = v + seen * f->wv, *q = s + seen * width, *turned = q + width * f->we,
         *y = turned + width * f->we;
    real most[BLOCK], sums[BLOCK];
    take(f->k, image, head / f->group, 0, n, seen, f->we, 1, k, NULL);
    take(f->v, image, head / f->group, 0, n, seen, f->wv, 1, v, NULL);
    take(f->q, image, head, first, rows, width, f->we, f->scale, q, turned);
    scores(f, image, head, first, rows, n, seen, width, k, turned, s);
    for (intptr_t j = 0; j < width; j++) most[j] = -INFINITY, sums[j] = 0;
    for (intptr_t i = 0; i < n; i++)
        for (intptr_t j = 0; j < width; j++) most[j] = s[i * width + j] > most[j] ? s[i * width + j] : most[j];
    if (f->kind)                        // a query that sees nothing
        for (intptr_t j = 0; j < width; j++) most[j] = most[j] == -INFINITY ? INFINITY : most[j];
    for (intptr_t i = 0; i < n; i++)
        for (intptr_t j = 0; j < width; j++) sums[j] += s[i * width + j] = exponential(s[i * width + j] - most[j]);
    for (intptr_t i = n * width; i < seen * width; i++) s[i] = 0;
    product(0, width, f->wv, seen, s, 1, width, v, f->wv, y, f->wv);
    real *log = (real *)f->log->data + at * f->length + first;
    for (intptr_t j = 0; j < rows; j++) {
        const real sum = sums[j] == 0 && f->kind ? 1 : sums[j], share = 1 / sum;
        log[j] = most[j] + logf(sum);
        for (intptr_t i = 0; i < f->wv; i++) y[j * f->wv + i] *= share;
    }
    give(f->y, image, head, first, rows, f->wv, y);
}

static Attention made(const Array *q, const Array *k, const Array *v, const Array *mask, double scale,
                      int causal, int kind) {
    Attention f = {.q = q, .k = k, .v = v, .mask = mask, .heads = q->shape[1],
                   .group = q->shape[1] / k->shape[1], .length = q->shape[2], .keys = k->shape[2],
                   .e = q->shape[3], .ev = v->shape[3], .we = up(q->shape[3], V),
                   .wv = up(v->shape[3], V), .blocks = (q->shape[2] + BLOCK - 1) / BLOCK,
                   .scale = (real)scale, .causal = causal, .kind = kind};
    return f;
}

// y (b, h, l, ev) with neighbouring numbers in its rows; log (b, h, l), the logarithms of the sums. mask
// has 4 dims, of bools (kind 1) or floats (2).
KERNEL attention(const Array *q, const Array *k, const Array *v, const Array *mask, Array *y, Array *log,
                 double scale, int causal, int kind) {
    Attention f = made(q, k, v, mask, scale, causal, kind);
    f.y = y, f.log = log;
    share(forward_part, &f, q->shape[0] * f.heads * f.blocks,
          (double)f.keys * (f.we + f.wv + ELEMENT) * f.length / f.blocks);
}

// The gradients of an image and a head of k: the heads of q that share it, one block after the other.
static void backward_part(void *context, intptr_t at) {
    const Attention *f = context;
    const intptr_t shared = f->heads / f->group, image = at / shared, own = at % shared,
                   total = up(f->keys, GROUP), most = smaller(BLOCK, up(f->length, V)), we = f->we,
                   wv = f->wv;
    real *k = scratch(0, 2 * total * (we + wv + most) + 3 * most * (we + wv)),
         *v = k + total * we, *gk = v + total * wv, *gv = gk + total * we, *s = gv + total * wv,
         *d = s + total * most, *q = d + total * most, *g = q + most * we, *out = g + most * wv,
         *turned = out + most * wv, *gturned = turned + most * we, *gq = gturned + most * wv;
    real delta[BLOCK], log[BLOCK];
    take(f->k, image, own, 0, f->keys, total, we, 1, k, NULL);
    take(f->v, image, own, 0, f->keys, total, wv, 1, v, NULL);
    memset(gk, 0, total * (we + wv) * sizeof(real));
    for (intptr_t head = own * f->group; head < (own + 1) * f->group; head++)
        for (intptr_t first = 0; first < f->length; first += BLOCK) {
            const intptr_t rows = smaller(BLOCK, f->length - first), width = up(rows, V),
                           n = visible(f, first + rows), seen = up(n, GROUP);
            take(f->q, image, head, first, rows, width, we, f->scale, q, turned);
            take(f->g, image, head, first, rows, width, wv, 1, g, gturned);
            take(f->out, image, head, first, rows, width, wv, 1, out, NULL);
            const real *logs = (real *)f->lse->data + (image * f->heads + head) * f->length + first;
            for (intptr_t j = 0; j < width; j++) {
                real sum = 0;
                for (intptr_t i = 0; i < wv; i++) sum += g[j * wv + i] * out[j * wv + i];
                delta[j] = sum, log[j] = j < rows ? logs[j] : INFINITY;
            }
            scores(f, image, head, first, rows, n, seen, width, k, turned, s);
            product(0, seen, width, f->ev, v, wv, 1, gturned, width, d, width);
            for (intptr_t i = 0; i < seen; i++)
                for (intptr_t j = 0; j < width; j++) {
                    const real p = exponential(s[i * width + j] - log[j]);
                    s[i * width + j] = p;
                    d[i * width + j] = (d[i * width + j] - delta[j]) * p;
                }
            product(1, seen, wv, width, s, width, 1, g, wv, gv, wv);
            product(1, seen, we, width, d, width, 1, q, we, gk, we);
            product(0, width, we, seen, d, 1, width, k, we, gq, we);
            for (intptr_t i = 0; i < rows * we; i++) gq[i] *= f->scale;
            give(f->gq, image, head, first, rows, we, gq);
        }
    give(f->gk, image, own, 0, f->keys, we, gk);
    give(f->gv, image, own, 0, f->keys, wv, gv);
}

// The gradients for q, k and v, with neighbouring numbers in their rows.
KERNEL attention_backward(const Array *g, const Array *q, const Array *k, const Array *v,
                          const Array *out, const Array *lse, const Array *mask, Array *gq, Array *gk,
                          Array *gv, double scale, int causal, int kind) {
    Attention f = made(q, k, v, mask, scale, causal, kind);
    f.g = g, f.out = out, f.lse = lse, f.gq = gq, f.gk = gk, f.gv = gv;
    share(backward_part, &f, q->shape[0] * k->shape[1],
          (double)f.keys * (3 * f.we + 2 * f.wv + ELEMENT) * f.length * f.group);
}
