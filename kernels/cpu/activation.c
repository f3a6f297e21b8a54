// Functions of one element: activations and their gradients, dropout. The arrays of a call are dense
// and in one memory order.
#include "lanes.h"
#include "threads.h"

#define CHUNK 16384
#define BLOCK 256

static inline void fetch(const real *y, intptr_t n) {
    for (intptr_t i = 0; i < n; i += 16) __builtin_prefetch(y + i, 1);
}

typedef struct {
    intptr_t n;
    const real *g, *x;
    real *y, c[8], number;
} Flat;

// y = an expression of g, x and the Flat f, element by element.
#define MAP(name, ...) \
    static void name##_part(void *context, intptr_t chunk) { \
        const Flat f = *(Flat *)context; \
        const intptr_t from = chunk * CHUNK, n = smaller(CHUNK, f.n - from); \
        const real *gs = f.g + from, *xs = f.x + from; \
        real *ys = f.y + from; \
        for (intptr_t j = 0; j < n; j += BLOCK) { \
            const intptr_t end = smaller(n, j + BLOCK); \
            fetch(ys + j + BLOCK, BLOCK); \
            for (intptr_t i = j; i < end; i++) { \
                const real g = gs[i], x = xs[i]; \
                ys[i] = __VA_ARGS__; \
            } \
        } \
    }

static void all(Work *part, const Array *g, const Array *x, const Array *c, Array *y, real number) {
    Flat f = {size(y), reals(g), reals(x), reals(y), {0}, number};
    if (c) memcpy(f.c, reals(c), size(c) * sizeof(real));
    share(part, &f, parts(f.n, CHUNK), ELEMENT * smaller(f.n, CHUNK));
}

// The normal distribution function is the sigmoid of x times a polynomial in x^2, whose 7 coefficients
// c[0..6] come with the end c[7] up to which x^2 counts.
static inline real normal(real x, const real *c) {
    const real square = x * x, z = square > c[7] ? c[7] : square;
    real p = c[6];
    for (int k = 5; k >= 0; k--) p = p * z + c[k];
    return sigmoid(x * p);
}
static inline real bell(real x) { return 0.39894228f * exponential(-0.5f * x * x); }
MAP(gelu, (x * normal(x, f.c)))
MAP(gelu_backward, (g * (normal(x, f.c) + x * bell(x))))
KERNEL gelu(const Array *x, const Array *c, Array *y) { all(gelu_part, x, x, c, y, 0); }
KERNEL gelu_backward(const Array *g, const Array *x, const Array *c, Array *y) {
    all(gelu_backward_part, g, x, c, y, 0);
}

// (1 + tanh(u)) / 2 is the sigmoid of 2 u = c[0] x + c[1] x^3.
static inline real nearly(real x, const real *c) { return sigmoid(x * (c[0] + c[1] * (x * x))); }
static inline real nearly_slope(real x, const real *c) {
    const real s = nearly(x, c);
    return s + x * (s * (1 - s)) * (c[0] + 3 * c[1] * (x * x));
}
MAP(gelu_tanh, (x * nearly(x, f.c)))
MAP(gelu_tanh_backward, (g * nearly_slope(x, f.c)))
KERNEL gelu_tanh(const Array *x, const Array *c, Array *y) { all(gelu_tanh_part, x, x, c, y, 0); }
KERNEL gelu_tanh_backward(const Array *g, const Array *x, const Array *c, Array *y) {
    all(gelu_tanh_backward_part, g, x, c, y, 0);
}

static inline real silu_slope(real x) {
    const real s = sigmoid(x);
    return s * (1 + x * (1 - s));
}
MAP(silu, (x * sigmoid(x)))
MAP(silu_backward, (g * silu_slope(x)))
KERNEL silu(const Array *x, Array *y) { all(silu_part, x, x, 0, y, 0); }
KERNEL silu_backward(const Array *g, const Array *x, Array *y) { all(silu_backward_part, g, x, 0, y, 0); }

// x is the result of the function itself.
MAP(sigmoid, (sigmoid(x)))
MAP(sigmoid_backward, (g * x * (1 - x)))
MAP(tanh_backward, (g * (1 - x * x)))
MAP(threshold_backward, (x <= f.number ? 0 : g))
KERNEL logistic(const Array *x, Array *y) { all(sigmoid_part, x, x, 0, y, 0); }
KERNEL sigmoid_backward(const Array *g, const Array *x, Array *y) { all(sigmoid_backward_part, g, x, 0, y, 0); }
KERNEL tanh_backward(const Array *g, const Array *x, Array *y) { all(tanh_backward_part, g, x, 0, y, 0); }
KERNEL threshold_backward(const Array *g, const Array *x, real number, Array *y) {
    all(threshold_backward_part, g, x, 0, y, number);
}

typedef struct {
    intptr_t n;
    const real *x;
    const unsigned char *mask;
    real *y, scale;
} Dropped;

// As x * mask * scale, NaN and infinity stay NaN where the mask is False.
static void dropout_part(void *context, intptr_t chunk) {
    const Dropped f = *(Dropped *)context;
    const intptr_t from = chunk * CHUNK, to = smaller(f.n, from + CHUNK);
    for (intptr_t i = from; i < to; i++) f.y[i] = f.x[i] * f.mask[i] * f.scale;
}
KERNEL dropout(const Array *x, const Array *mask, Array *y, real scale) {
    Dropped f = {size(y), reals(x), (unsigned char *)mask->data, reals(y), scale};
    share(dropout_part, &f, parts(f.n, CHUNK), ELEMENT * smaller(f.n, CHUNK));
}

typedef struct {
    intptr_t n;
    const real *x;
    const double *c;
    double end;
    real *y;
} Erf;

// In doubles, x times the quotient of two polynomials in x^2 of 7 coefficients each.
static void erf_part(void *context, intptr_t chunk) {
    const Erf f = *(Erf *)context;
    const intptr_t from = chunk * CHUNK, to = smaller(f.n, from + CHUNK);
    for (intptr_t i = from; i < to; i++) {
        double x = f.x[i];
        x = x > f.end ? f.end : x < -f.end ? -f.end : x;
        const double z = x * x;
        double top = f.c[6], bottom = f.c[13];
        for (int k = 5; k >= 0; k--) top = top * z + f.c[k], bottom = bottom * z + f.c[7 + k];
        f.y[i] = (real)(x * top / bottom);
    }
}
KERNEL error_function(const Array *x, const Array *c, double end, Array *y) {
    Erf f = {size(y), reals(x), (double *)c->data, end, reals(y)};
    share(erf_part, &f, parts(f.n, CHUNK), 4 * ELEMENT * smaller(f.n, CHUNK));
}
