// Sums and functions of many floats, written so that compilers make vector instructions of them.
#pragma once
#include "array.h"

// A sum has LANES parts, element i in part i % LANES, which are added up in one fixed order.
#define LANES 32

// The statements for each i + j below n; s[j] is the part that element i + j belongs to.
#define EACH(n, ...) \
    for (intptr_t i = 0; i < (n); i += LANES) { \
        if ((n) - i >= LANES) { for (int j = 0; j < LANES; j++) { __VA_ARGS__ } } \
        else { for (int j = 0; j < (n) - i; j++) { __VA_ARGS__ } } \
    }

static inline real total(const real *parts) {
    real s[LANES];
    memcpy(s, parts, sizeof s);
    for (int k = LANES / 2; k; k /= 2)
        for (int j = 0; j < k; j++) s[j] += s[j + k];
    return s[0];
}

static inline real sum(const real *x, intptr_t n) {
    real s[LANES] = {0};
    EACH(n, s[j] += x[i + j];)
    return total(s);
}

// NaN is greater than nothing, so it is left out unless there is nothing else.
static inline real greatest(const real *x, intptr_t n) {
    real s[LANES];
    for (int j = 0; j < LANES; j++) s[j] = -INFINITY;
    EACH(n, s[j] = x[i + j] > s[j] ? x[i + j] : s[j];)
    for (int k = LANES / 2; k; k /= 2)
        for (int j = 0; j < k; j++) s[j] = s[j + k] > s[j] ? s[j + k] : s[j];
    return s[0];
}

// exp(x) to 1 unit in the last place, 0 where it is below the least normal number, infinity from
// 2^127.5 on. 2^k comes from adding k to 1.5 * 2^23, whose last bits then are k; the polynomial for
// the rest is a minimax fit.
static inline real exponential(real x) {
    real k = x * 0x1.715476p+0f + 0x1.8p+23f, power;
    uint32_t bits;
    memcpy(&bits, &k, 4);
    bits = (bits << 23) + 0x3f800000;
    memcpy(&power, &bits, 4);
    k -= 0x1.8p+23f;
    real r = x - k * 0x1.63p-1f;                // log(2) in two parts, the first of few bits
    r += k * 0x1.bd0106p-13f;
    real y = 0.0013814602f;
    y = y * r + 0.0083687152f;
    y = y * r + 0.0416683879f;
    y = y * r + 0.1666652065f;
    y = y * r + 0.4999999345f;
    y = y * r + 1;
    y = (y * r + 1) * power;
    y = x < -87.33f ? 0 : y;
    return x > 88.37f ? INFINITY : y;
}

static inline real sigmoid(real x) { return 1 / (1 + exponential(-x)); }

// tanh(x) to some 2 units in the last place: near 0 by a minimax fit.
static inline real hyperbolic(real x) {
    const real z = x * x, far = 1 - 2 / (exponential(2 * x) + 1);
    real p = -0.00565998196f;
    p = p * z + 0.0205909808f;
    p = p * z - 0.0537210651f;
    p = p * z + 0.133311275f;
    p = p * z - 0.333332605f;
    p = p * z + 1;
    return z < 0.39f ? x * p : far;
}
