// Convolution of (n, c, h, w) images by (c_out, c / groups, kh, kw) kernels, and its two gradients.
//
// No matrix of columns is made. An image is laid out with its padding (`lay_out`), so that the element
// of a window that belongs to a channel and a tap lies at a fixed distance from the window's first one,
// and the inner loops of gemm.c follow a table of these distances. V windows are worked on at once: of
// one row (columns of a strided convolution are laid out phase by phase, that they may be neighbours),
// or, where rows are short, the same window of V images, laid out with the images innermost.
// The input's gradient is a convolution of the result's gradient for each phase of the strides.
// The order of each sum depends neither on threads nor on how work is divided.
#include "gemm.h"
#include "threads.h"

enum { SH, SW, PH, PW, DH, DW, GROUPS };         // of the array `how`
#define BAND (192 << 10)                         // floats of an image laid out at a time
#define AHEAD (4 * V)                            // floats from a row that will be needed soon
#define SOME 192                                 // windows summed before they are added to a weight's sum

// Sum over channels c and taps t of a[m][c][t] * x[c][y * step_y + dy[t]][x * step_x + dx[t]], for each
// y, x of a grid, goes to row first_y + y * to_y, column first_x + x * to_x of plane m.
typedef struct {
    const float *in, *packed, *start;            // start: NULL, or a number for each plane
    float *out;
    intptr_t n, groups, c, h, w, m, out_h, out_w;        // c, m: channels and planes of one group
    intptr_t taps, *dy, *dx, step_y, step_x, rows, cols, first_y, first_x, to_y, to_x;
    // The layout
    intptr_t low_y, low_x, wide, tall, phases, pick_y, pick_x, many, band, bands, shares, *at;
    int whole;                                   // the image itself serves as its layout
} Sum;

static int reach(const intptr_t *d, intptr_t n, intptr_t *low) {
    intptr_t most = *low = d[0];
    for (intptr_t t = 1; t < n; t++) *low = smaller(*low, d[t]), most = larger(most, d[t]);
    return (int)(most - *low);
}

static void plan(Sum *s) {
    s->whole = s->taps == 1 && !s->dy[0] && !s->dx[0] && s->step_y == 1 && s->step_x == 1 &&
               s->to_y == 1 && s->to_x == 1 && s->rows == s->h && s->cols == s->w && s->h * s->w >= V;
    if (s->whole) {                              // one long row
        s->cols *= s->rows, s->rows = 1, s->w *= s->h, s->h = 1;
        s->out_w *= s->out_h, s->out_h = 1;
    }
    intptr_t high_y = reach(s->dy, s->taps, &s->low_y), high_x = reach(s->dx, s->taps, &s->low_x);
    s->pick_y = s->pick_x = 1;
    if (s->taps == 1) {                          // only what is needed is laid out
        s->pick_y = s->step_y, s->pick_x = s->step_x;
        s->step_y = s->step_x = 1;
    }
    // Multiplications for an element of the result, and what it costs to turn the images.
    double work = (double)s->c * s->taps * s->m / (2 * V), turning = 0.5 * (s->c * s->step_y * s->step_x + s->m);
    double by_row = work * parts(s->cols, V) * V / s->cols;
    s->many = work * parts(s->n, V) * V / s->n + turning < by_row ? V : 1;
    if (s->many > 1) s->whole = 0;
    s->phases = s->many > 1 ? 1 : s->step_x;
    s->wide = parts((s->cols - 1) * s->step_x + high_x + 1, s->phases) * s->phases;
    intptr_t line = s->c * s->wide * s->many, units = parts(s->n, s->many) * s->groups;
    s->bands = smaller(s->rows, parts(line * s->rows * s->step_y, BAND));
    while (units * s->bands < 2 * threads() && s->rows / s->bands > 7) s->bands *= 2;
    if (s->whole) s->bands = 1;
    s->band = parts(s->rows, s->bands);
    s->bands = parts(s->rows, s->band);
    s->shares = units * s->bands < 2 * threads() ? smaller(threads(), parts(s->m, ROWS)) : 1;
    s->tall = (s->band - 1) * s->step_y + high_y + 1;
    s->at = (intptr_t *)scratch(2, 2 * s->c * s->taps);
    intptr_t pitch = s->wide / s->phases, plane = s->whole ? s->w : s->tall * s->wide * s->many;
    for (intptr_t t = 0; t < s->taps; t++) {
        intptr_t x = s->dx[t] - s->low_x, y = s->dy[t] - s->low_y;
        intptr_t at = (y * s->wide + x % s->phases * pitch + x / s->phases) * s->many;
        for (intptr_t c = 0; c < s->c; c++) s->at[c * s->taps + t] = c * plane + at;
    }
}

// V floats of each of some rows; zeros for what is missing.
static inline void load_rows(vec *block, const float *from, intptr_t next, intptr_t rows, intptr_t there) {
    for (intptr_t r = 0; r < V; r++) {
        block[r] = (vec){0};
        if (r >= rows) continue;
        if (there >= V) block[r] = *(const vec *)(from + r * next);
        else for (intptr_t l = 0; l < there; l++) block[r][l] = from[r * next + l];
    }
}

// Rows y0.. of channels from..to-1 of a group, as plan() says, `tall` of them, from image i on.
static void lay_out(const Sum *s, float *to, intptr_t i, intptr_t g, intptr_t y0, intptr_t tall,
                    intptr_t c, intptr_t end_c) {
    intptr_t plane = s->h * s->w, pitch = s->wide / s->phases, next = s->groups * s->c * plane;
    intptr_t images = smaller(s->many, s->n - i), every = s->pick_x == 1 && s->pick_y == 1;
    const float *from = s->in + i * next + g * s->c * plane;
    // Columns from..to-1 lie inside the image.
    intptr_t first = smaller(s->wide, larger(0, parts(-s->low_x, s->pick_x)));
    intptr_t last = s->w - s->low_x <= 0 ? 0 : parts(s->w - s->low_x, s->pick_x);
    last = larger(first, smaller(s->wide, last));
    for (; c < end_c; c++) {
        for (intptr_t r = 0; r < tall; r++) {
            float *line = to + (c * s->tall + r) * s->wide * s->many;
            intptr_t y = (y0 + r) * s->pick_y + s->low_y;
            if (y < 0 || y >= s->h) {
                memset(line, 0, s->wide * s->many * sizeof(float));
                continue;
            }
            const float *source = from + c * plane + y * s->w + s->low_x;
            if (s->many > 1) {
                memset(line, 0, first * V * sizeof(float));
                memset(line + last * V, 0, (s->wide - last) * V * sizeof(float));
                if (every) continue;             // the rest below, many rows at a time
                if (images < V) memset(line + first * V, 0, (last - first) * V * sizeof(float));
                for (intptr_t b = 0; b < images; b++)
                    for (intptr_t x = first; x < last; x++) line[x * V + b] = source[b * next + x * s->pick_x];
            } else if (s->phases == 1) {
                memset(line, 0, first * sizeof(float));
                memset(line + last, 0, (s->wide - last) * sizeof(float));
                if (s->pick_x == 1)
                    memcpy(line + first, source + first, (last - first) * sizeof(float));
                else
                    for (intptr_t x = first; x < last; x++) line[x] = source[x * s->pick_x];
            } else {
                memset(line, 0, s->wide * sizeof(float));
                for (intptr_t p = 0; p < s->phases; p++) {
                    float *of_phase = line + p * pitch;
                    for (intptr_t x = parts(first - p, s->phases); x * s->phases + p < last; x++)
                        of_phase[x] = source[x * s->phases + p];
                }
            }
        }
        if (s->many == 1 || !every) continue;
        intptr_t top = larger(0, y0 + s->low_y), end = smaller(s->h, y0 + tall + s->low_y) * s->w;
        for (intptr_t p = top * s->w, y = top, x = 0; p < end; p += V) {
            vec block[V];
            load_rows(block, from + c * plane + p, next, images, end - p);
            turn(block);
            float *line = to + (c * s->tall + y - s->low_y - y0) * s->wide * V;
            for (intptr_t l = 0; l < smaller(V, end - p); l++) {
                if (x - s->low_x >= 0 && x - s->low_x < s->wide)
                    *(vec *)(line + (x - s->low_x) * V) = block[l];
                if (++x == s->w) x = 0, y++, line += s->wide * V;
            }
        }
    }
}

// One band of rows of one image, or of V of them, and a share of the planes.
static void band(void *context, intptr_t item) {
    const Sum *s = context;
    intptr_t part = item % s->shares;
    item /= s->shares;
    intptr_t y0 = item % s->bands * s->band, g = item / s->bands % s->groups;
    intptr_t i = item / s->bands / s->groups * s->many, rows = smaller(s->band, s->rows - y0);
    intptr_t k = s->c * s->taps, tiles = parts(s->m, ROWS), images = smaller(s->many, s->n - i);
    intptr_t from = tiles * part / s->shares, to = tiles * (part + 1) / s->shares;
    const float *laid = s->in + (i * s->groups + g) * s->c * s->w;
    if (!s->whole) {
        float *memory = scratch(0, s->c * s->tall * s->wide * s->many + V);
        lay_out(s, memory, i, g, y0 * s->step_y, (rows - 1) * s->step_y + s->tall - (s->band - 1) * s->step_y,
                0, s->c);
        laid = memory;
    }
    intptr_t in_row = s->many > 1 ? s->cols : parts(s->cols, V), vectors = rows * in_row;
    intptr_t panels = parts(vectors, COLS), plane = s->out_h * s->out_w, next = s->groups * s->m * plane;
    float *sums = scratch(1, ROWS * larger(vectors, COLS) * V);
    float *out = s->out + i * next + g * s->m * plane;
    // What is larger, the weights or the image, is walked through once.
    int tiles_outside = s->many > 1 || k * s->m > BAND;
    intptr_t outer = tiles_outside ? to - from : panels, inner = tiles_outside ? panels : to - from;
    int turned = s->many > 1, direct = !turned && s->to_x == 1 && s->cols >= V;
    // Where the vectors of results read from, and where they begin in a plane.
    intptr_t *from_at = (intptr_t *)scratch(4, 4 * vectors), *to_at = from_at + vectors, *next_at = from_at;
    for (intptr_t y = 0; y < rows; y++)
        for (intptr_t i = 0; i < in_row; i++, next_at++) {
            // The last one overlaps the one before.
            intptr_t x = turned ? i : larger(0, smaller(i * V, s->cols - V));
            next_at[0] = (y * s->step_y * s->wide + x * (turned ? s->step_x : 1)) * s->many;
            next_at[vectors] = s->first_x + x * s->to_x + (s->first_y + (y0 + y) * s->to_y) * s->out_w;
        }
    for (intptr_t a = 0; a < outer; a++)
        for (intptr_t b = 0; b < inner; b++) {
            intptr_t tile = from + (tiles_outside ? a : b), panel = tiles_outside ? b : a;
            intptr_t m = tile * ROWS, height = smaller(ROWS, s->m - m);
            intptr_t v0 = vectors * panel / panels, n = vectors * (panel + 1) / panels - v0, ldc = plane;
            const float *first[COLS];
            float *target[COLS];
            for (intptr_t v = 0; v < n; v++) {
                first[v] = laid + from_at[v0 + v];
                target[v] = direct ? out + m * plane + to_at[v0 + v] : sums + (turned ? v0 + v : v) * V;
            }
            if (!direct) ldc = turned ? vectors * V : n * V;
            if (direct && k <= 512)              // else the stores would wait for memory
                for (intptr_t r = 0; r < height; r++)
                    for (intptr_t v = 0; v < n; v++) __builtin_prefetch(target[v] + r * ldc, 1);
            // Of an image that nothing has read yet, each tile fetches a part of the next panel.
            if (s->whole && !tiles_outside && a + 1 < outer) {
                intptr_t v1 = vectors * (panel + 1) / panels, v2 = vectors * (panel + 2) / panels;
                for (intptr_t c = k * b / inner; c < k * (b + 1) / inner; c++)
                    for (intptr_t v = v1; v < v2; v++) __builtin_prefetch(laid + from_at[v] + s->at[c], 0, 2);
            }
            by_rows[height - 1][n - 1](k, s->packed + (g * s->m + m) * k, s->at, first, target, ldc,
                                       s->start ? s->start + g * s->m + m : NULL);
            if (turned && b == inner - 1 && s->to_x == 1 && s->to_y == 1 && s->cols == s->out_w) {
                for (intptr_t r = 0; r < height; r++)
                    for (intptr_t p = 0; p < vectors; p += V) {
                        vec block[V];
                        intptr_t there = smaller(V, vectors - p);
                        for (intptr_t l = 0; l < there; l++)
                            block[l] = *(const vec *)(sums + (r * vectors + p + l) * V);
                        turn(block);
                        float *to_row = out + (m + r) * plane + y0 * s->out_w + p;
                        for (intptr_t j = 0; j < images; j++)
                            if (there == V) *(vec *)(to_row + j * next) = block[j];
                            else for (intptr_t l = 0; l < there; l++) to_row[j * next + l] = block[j][l];
                    }
            } else if (turned && b == inner - 1) {
                for (intptr_t r = 0; r < height; r++)
                    for (intptr_t j = 0; j < images; j++)
                        for (intptr_t v = 0; v < vectors; v++)
                            out[j * next + (m + r) * plane + to_at[v]] = sums[(r * vectors + v) * V + j];
            } else if (!turned && !direct) {
                for (intptr_t r = 0; r < height; r++)
                    for (intptr_t v = 0; v < n; v++) {
                        float *to_row = out + (m + r) * plane + to_at[v0 + v];
                        const float *source = sums + (r * n + v) * V;
                        for (intptr_t j = 0; j < smaller(V, s->cols); j++) to_row[j * s->to_x] = source[j];
                    }
            }
        }
}

// The weights in the order of the inner loops: for each tile of ROWS planes, for each channel and tap,
// these planes.
typedef struct {
    const float *w;
    float *to;
    intptr_t m, c, taps, shares, of_group, of_m, of_c;           // distances in w
    const intptr_t *tap;
} Pack;

static void pack(void *context, intptr_t item) {
    const Pack *p = context;
    intptr_t g = item / p->shares, share = item % p->shares, tiles = parts(p->m, ROWS), k = p->c * p->taps;
    // Where planes lie side by side, few channels at a time: then w is read as it lies.
    intptr_t low = tiles * share / p->shares, high = tiles * (share + 1) / p->shares;
    intptr_t step = p->of_m < p->of_c ? 8 : p->c;
    for (intptr_t c0 = 0; c0 < p->c; c0 += step)
        for (intptr_t tile = low; tile < high; tile++) {
            intptr_t m = tile * ROWS, height = smaller(ROWS, p->m - m);
            float *to = p->to + (g * p->m + m) * k + c0 * p->taps * height;
            const float *w = p->w + g * p->of_group + m * p->of_m;
            for (intptr_t c = c0; c < smaller(c0 + step, p->c); c++)
                for (intptr_t t = 0; t < p->taps; t++)
                    for (intptr_t r = 0; r < height; r++) *to++ = w[c * p->of_c + p->tap[t] + r * p->of_m];
        }
}

static void sum(Sum *s, Pack *p) {
    p->m = s->m, p->c = s->c, p->taps = s->taps, p->shares = smaller(threads(), parts(s->m, ROWS));
    share(pack, p, s->groups * p->shares, 32.0 * s->m * s->c * s->taps / p->shares);
    s->packed = p->to;
    double all = (double)s->n * s->groups * s->m * s->c * s->taps * s->rows * s->cols;
    plan(s);
    intptr_t items = parts(s->n, s->many) * s->groups * s->bands * s->shares;
    share(band, s, items, all / items);
}

// y = convolution of x, plus a bias if that isn't empty. packed: memory for as many floats as w has.
KERNEL conv(const Array *x, const Array *w, const Array *bias, const Array *how, const Array *y,
            const Array *packed) {
    const int64_t *h = indices(how);
    intptr_t kh = w->shape[2], kw = w->shape[3], c = w->shape[1], taps = kh * kw;
    intptr_t *dy = (intptr_t *)scratch(3, 6 * taps), *dx = dy + taps, *tap = dx + taps;
    for (intptr_t t = 0; t < taps; t++)
        dy[t] = t / kw * h[DH] - h[PH], dx[t] = t % kw * h[DW] - h[PW], tap[t] = t;
    intptr_t m = w->shape[0] / h[GROUPS];
    Sum s = {.in = reals(x), .start = size(bias) ? reals(bias) : NULL, .out = reals(y), .n = x->shape[0],
             .groups = h[GROUPS], .c = c, .h = x->shape[2], .w = x->shape[3], .m = m,
             .out_h = y->shape[2], .out_w = y->shape[3], .taps = taps, .dy = dy, .dx = dx,
             .step_y = h[SH], .step_x = h[SW], .rows = y->shape[2], .cols = y->shape[3],
             .to_y = 1, .to_x = 1};
    Pack p = {.w = reals(w), .to = reals(packed), .of_group = m * c * taps, .of_m = c * taps,
              .of_c = taps, .tap = tap};
    sum(&s, &p);
}

// The rows (or columns) of x that are d modulo the stride get taps d + padding - i * dilation, those
// that the stride divides, at the quotients: their number.
static intptr_t of_phase(intptr_t d, intptr_t k, intptr_t stride, intptr_t padding, intptr_t dilation,
                         intptr_t *tap, intptr_t *at) {
    intptr_t n = 0;
    for (intptr_t i = 0; i < k; i++) {
        intptr_t reached = d + padding - i * dilation, left = (reached % stride + stride) % stride;
        if (!left) tap[n] = i, at[n++] = (reached - left) / stride;
    }
    return n;
}

// x = the gradient of convolution for x, from that for its result, g.
KERNEL conv_grad_input(const Array *g, const Array *w, const Array *how, const Array *x,
                       const Array *packed) {
    const int64_t *h = indices(how);
    intptr_t kh = w->shape[2], kw = w->shape[3], c = w->shape[1], taps = kh * kw;
    intptr_t m = w->shape[0] / h[GROUPS], height = x->shape[2], width = x->shape[3];
    intptr_t *dy = (intptr_t *)scratch(3, 6 * taps + 4 * (kh + kw)), *dx = dy + taps, *tap = dx + taps;
    intptr_t *tap_y = tap + taps, *at_y = tap_y + kh, *tap_x = at_y + kh, *at_x = tap_x + kw;
    int left = 0;                                // is there something that no window reaches?
    for (intptr_t a = 0; a < smaller(h[SH], height); a++)
        left |= !of_phase(a, kh, h[SH], h[PH], h[DH], tap_y, at_y);
    for (intptr_t b = 0; b < smaller(h[SW], width); b++)
        left |= !of_phase(b, kw, h[SW], h[PW], h[DW], tap_x, at_x);
    if (left) memset(x->data, 0, size(x) * sizeof(float));
    for (intptr_t a = 0; a < smaller(h[SH], height); a++)
        for (intptr_t b = 0; b < smaller(h[SW], width); b++) {
            intptr_t ny = of_phase(a, kh, h[SH], h[PH], h[DH], tap_y, at_y);
            intptr_t nx = of_phase(b, kw, h[SW], h[PW], h[DW], tap_x, at_x), n = 0;
            for (intptr_t i = 0; i < ny; i++)
                for (intptr_t j = 0; j < nx; j++, n++)
                    dy[n] = at_y[i], dx[n] = at_x[j], tap[n] = tap_y[i] * kw + tap_x[j];
            if (!n) continue;
            Sum s = {.in = reals(g), .out = reals(x), .n = x->shape[0], .groups = h[GROUPS], .c = m,
                     .h = g->shape[2], .w = g->shape[3], .m = c, .out_h = height, .out_w = width,
                     .taps = n, .dy = dy, .dx = dx, .step_y = 1, .step_x = 1,
                     .rows = parts(height - a, h[SH]), .cols = parts(width - b, h[SW]),
                     .first_y = a, .first_x = b, .to_y = h[SH], .to_x = h[SW]};
            Pack p = {.w = reals(w), .to = reals(packed), .of_group = m * c * taps, .of_m = taps,
                      .of_c = c * taps, .tap = tap};
            sum(&s, &p);
        }
}

// The weight's gradient: x laid out as before, g with its channels innermost, and sums over the windows
// of a chunk of images. Rows of the product are channels and taps, its columns output channels.
typedef struct {
    Sum s;                                       // n images at a time, laid out one behind the other
    const float *g;
    float *laid, *turned, *sums;
    intptr_t first, m, panels, size, windows, k, blocks, of_m, of_k, *of_tap, *of_window;
} Weight;

static intptr_t panel_from(const Weight *t, intptr_t panel) {       // in vectors
    return parts(t->m, V) * panel / t->panels;
}

static void lay_out_weight(void *context, intptr_t item) {
    const Weight *t = context;
    intptr_t share = item % t->s.shares, shares = t->s.shares, c = t->s.c, vectors = parts(t->windows, V);
    item /= shares;
    intptr_t g = item % t->s.groups, i = item / t->s.groups, all = parts(t->m, V) * V;
    intptr_t p0 = vectors * share / shares * V, p1 = smaller(t->windows, vectors * (share + 1) / shares * V);
    if (!t->s.whole)
        lay_out(&t->s, t->laid + (i * t->s.groups + g) * t->size, t->first + i, g, 0, t->s.tall,
                c * share / shares, c * (share + 1) / shares);
    for (intptr_t panel = 0; panel < t->panels; panel++) {
        intptr_t from = panel_from(t, panel) * V, wide = panel_from(t, panel + 1) * V - from;
        const float *source = t->g + (((t->first + i) * t->s.groups + g) * t->m + from) * t->windows;
        float *to = t->turned + (g * all + from) * t->s.n * t->windows + i * t->windows * wide;
        for (intptr_t p = p0; p < p1; p += V)
            for (intptr_t c = 0; c < wide; c += V) {
                vec block[V];
                for (int r = 0; r < V; r++) __builtin_prefetch(source + (c + r) * t->windows + p + AHEAD);
                load_rows(block, source + c * t->windows + p, t->windows, t->m - from - c, t->windows - p);
                turn(block);
                for (intptr_t l = 0; l < smaller(V, t->windows - p); l++)
                    *(vec *)(to + (p + l) * wide + c) = block[l];
            }
    }
}

static void sum_weight(void *context, intptr_t item) {
    const Weight *t = context;
    intptr_t block = item % t->blocks, panel = item / t->blocks % t->panels, g = item / t->blocks / t->panels;
    intptr_t tiles = parts(t->k, ROWS), low = tiles * block / t->blocks, high = tiles * (block + 1) / t->blocks;
    intptr_t from = panel_from(t, panel) * V, n = panel_from(t, panel + 1) - panel_from(t, panel);
    intptr_t all = parts(t->m, V) * V, windows = t->s.n * t->windows, steps = parts(windows, SOME);
    const float *turned = t->turned + (g * all + from) * windows;
    for (intptr_t step = 0; step < steps; step++) {
        intptr_t p0 = windows * step / steps, p1 = windows * (step + 1) / steps;
        for (intptr_t tile = low; tile < high; tile++) {
            intptr_t k = tile * ROWS, height = smaller(ROWS, t->k - k);
            const float *a[ROWS];
            for (intptr_t r = 0; r < height; r++) a[r] = t->laid + g * t->size + t->of_tap[k + r];
            by_sums[height - 1][n - 1](p1 - p0, a, t->of_window + p0, turned + p0 * n * V,
                                       t->sums + g * t->k * all + from * t->k + k * n * V, n * V);
        }
    }
}

static void put_weight(void *context, intptr_t item) {
    const Weight *t = context;
    intptr_t g = item / t->panels, panel = item % t->panels, all = parts(t->m, V) * V;
    intptr_t from = panel_from(t, panel) * V, wide = panel_from(t, panel + 1) * V - from;
    const float *sums = t->sums + g * t->k * all + from * t->k;
    float *out = t->s.out + g * t->m * t->k + from * t->of_m;
    for (intptr_t k0 = 0; k0 < t->k; k0 += V)
        for (intptr_t c = 0; c < smaller(wide, t->m - from); c++)
            for (intptr_t k = k0; k < smaller(k0 + V, t->k); k++)
                out[c * t->of_m + k * t->of_k] = sums[k * wide + c];
}

// w = the gradient of convolution for its weight. sums: groups * c / groups * kh * kw * (the output
// channels of a group, rounded up to 16) floats of memory.
KERNEL conv_grad_weight(const Array *g, const Array *x, const Array *how, const Array *w,
                        const Array *sums) {
    const int64_t *h = indices(how);
    intptr_t kh = w->shape[2], kw = w->shape[3], c = w->shape[1], taps = kh * kw, k = c * taps;
    intptr_t *dy = (intptr_t *)scratch(3, 4 * taps), *dx = dy + taps;
    for (intptr_t t = 0; t < taps; t++)
        dy[t] = t / kw * h[DH] - h[PH], dx[t] = t % kw * h[DW] - h[PW];
    intptr_t rows = g->shape[2], cols = g->shape[3], groups = h[GROUPS];
    Weight t = {.s = {.in = reals(x), .out = reals(w), .groups = groups, .c = c, .h = x->shape[2],
                      .w = x->shape[3], .taps = taps, .dy = dy, .dx = dx, .pick_y = 1, .pick_x = 1,
                      .phases = 1, .many = 1},
                .g = reals(g), .m = w->shape[0] / groups, .k = k, .windows = rows * cols, .sums = reals(sums)};
    Sum *s = &t.s;
    intptr_t step_y = h[SH], step_x = h[SW];
    s->tall = reach(dy, taps, &s->low_y) + 1, s->wide = reach(dx, taps, &s->low_x) + 1;
    if (taps == 1) {
        s->pick_y = step_y, s->pick_x = step_x;
        step_y = step_x = 1;
    }
    s->tall += (rows - 1) * step_y, s->wide += (cols - 1) * step_x;
    s->whole = taps == 1 && !dy[0] && !dx[0] && s->pick_y == 1 && s->pick_x == 1 && rows == s->h &&
               cols == s->w;
    t.of_m = k, t.of_k = 1;
    if (s->whole && c < t.m && c % V == 0) {     // the less is turned
        s->in = reals(g), t.g = reals(x), s->c = k = t.k = t.m;
        t.m = c, t.of_m = 1, t.of_k = c, c = k;
    }
    t.size = c * s->tall * s->wide;
    intptr_t all = parts(t.m, V) * V, each = groups * (t.size + all * t.windows), n = x->shape[0];
    intptr_t most = smaller(n, larger(parts(SOME, t.windows), 2 * BAND / each));
    intptr_t chunks = parts(n, larger(1, most));
    most = parts(n, chunks);
    t.panels = parts(parts(t.m, V), COLS);
    // Each block goes over all of g, so it should have several tiles to do with it.
    t.blocks = smaller(parts(k, 4 * ROWS), threads() > 1 ? parts(8 * threads(), t.panels * groups) : 1);
    intptr_t *tables = (intptr_t *)scratch(2, 2 * (k + most * t.windows));
    t.of_tap = tables, t.of_window = tables + k;
    for (intptr_t i = 0; i < taps; i++) {
        intptr_t at = (dy[i] - s->low_y) * s->wide + dx[i] - s->low_x;
        for (intptr_t j = 0; j < c; j++) t.of_tap[j * taps + i] = j * s->tall * s->wide + at;
    }
    intptr_t *at = t.of_window;
    for (intptr_t i = 0; i < most; i++)
        for (intptr_t y = 0; y < rows; y++)
            for (intptr_t x = 0; x < cols; x++)
                *at++ = i * groups * t.size + y * step_y * s->wide + x * step_x;
    float *laid = scratch(0, s->whole ? 1 : most * groups * t.size);
    t.turned = scratch(1, most * groups * all * t.windows);
    memset(t.sums, 0, groups * k * all * sizeof(float));
    for (; t.first < n; t.first += s->n) {
        intptr_t left = n - t.first;
        s->n = smaller(most, left);
        t.laid = s->whole ? (float *)s->in + t.first * groups * t.size : laid;
        // lay_out() compares with the number of images only where many > 1
        s->shares = s->n * groups < 4 * threads() && threads() > 1 ? parts(4 * threads(), s->n * groups) : 1;
        share(lay_out_weight, &t, s->n * groups * s->shares, 16.0 * each / groups / s->shares);
        share(sum_weight, &t, groups * t.panels * t.blocks,
              (double)s->n * t.windows * k * all / t.panels / t.blocks);
    }
    share(put_weight, &t, groups * t.panels, 32.0 * k * all / t.panels);
}

// total (c) = the sums of g (n, c, h, w) over all but the channels.
typedef struct { const float *g; float *total; intptr_t n, c, size; } Total;

static void total(void *context, intptr_t c) {
    const Total *t = context;
    double sum = 0;
    for (intptr_t i = 0; i < t->n; i++) {
        const float *g = t->g + (i * t->c + c) * t->size;
        vec part[4] = {{0}};
        intptr_t j = 0;
        for (; j + 4 * V <= t->size; j += 4 * V)
            for (int a = 0; a < 4; a++) part[a] += *(const vec *)(g + j + a * V);
        part[0] += part[1] + part[2] + part[3];
        float rest = 0;
        for (int a = 0; a < V; a++) rest += part[0][a];
        for (; j < t->size; j++) rest += g[j];
        sum += rest;
    }
    t->total[c] = (float)sum;
}

KERNEL channel_sum(const Array *g, const Array *sums) {
    Total t = {reals(g), reals(sums), g->shape[0], g->shape[1], count(g, 2, g->ndim)};
    share(total, &t, t.c, 4.0 * t.n * t.size);
}
