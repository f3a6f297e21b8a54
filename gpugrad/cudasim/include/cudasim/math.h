// CUDA's functions of floating numbers: exact ones of the host's libm stand for all of them.
#pragma once

// name(double), name(float), namef(float), and name of an integer in double.
#define CS_FUNCTION(name)                                                                      \
    static inline double name(double x) { return __builtin_##name(x); }                        \
    static inline float name(float x) { return __builtin_##name##f(x); }                       \
    static inline float name##f(float x) { return __builtin_##name##f(x); }                    \
    template <class I> static inline typename cs_if<cs_integer<I>, double>::type name(I x) {   \
        return __builtin_##name((double) x);                                                   \
    }
CS_FUNCTION(exp) CS_FUNCTION(exp2) CS_FUNCTION(exp10) CS_FUNCTION(expm1)
CS_FUNCTION(log) CS_FUNCTION(log2) CS_FUNCTION(log10) CS_FUNCTION(log1p) CS_FUNCTION(logb)
CS_FUNCTION(sqrt) CS_FUNCTION(cbrt)
CS_FUNCTION(sin) CS_FUNCTION(cos) CS_FUNCTION(tan) CS_FUNCTION(asin) CS_FUNCTION(acos)
CS_FUNCTION(atan) CS_FUNCTION(sinh) CS_FUNCTION(cosh) CS_FUNCTION(tanh) CS_FUNCTION(asinh)
CS_FUNCTION(acosh) CS_FUNCTION(atanh)
CS_FUNCTION(erf) CS_FUNCTION(erfc) CS_FUNCTION(lgamma) CS_FUNCTION(tgamma)
CS_FUNCTION(j0) CS_FUNCTION(j1) CS_FUNCTION(y0) CS_FUNCTION(y1)
CS_FUNCTION(fabs) CS_FUNCTION(floor) CS_FUNCTION(ceil) CS_FUNCTION(trunc) CS_FUNCTION(round)
CS_FUNCTION(rint) CS_FUNCTION(nearbyint)
#undef CS_FUNCTION

// The same of two arguments; of different types, in double.
#define CS_FUNCTION(name)                                                                      \
    static inline double name(double x, double y) { return __builtin_##name(x, y); }           \
    static inline float name(float x, float y) { return __builtin_##name##f(x, y); }           \
    static inline float name##f(float x, float y) { return __builtin_##name##f(x, y); }        \
    template <class A, class B>                                                                \
    static inline typename cs_if<!cs_is<A, B> || cs_integer<A>, double>::type name(A x, B y) { \
        return __builtin_##name((double) x, (double) y);                                       \
    }
CS_FUNCTION(atan2) CS_FUNCTION(hypot) CS_FUNCTION(fmod) CS_FUNCTION(remainder) CS_FUNCTION(fdim)
CS_FUNCTION(fmin) CS_FUNCTION(fmax) CS_FUNCTION(copysign) CS_FUNCTION(nextafter) CS_FUNCTION(pow)
#undef CS_FUNCTION

// name(double) and namef(float) alone, from what they are in double.
#define CS_FUNCTION(name, in_double)                                                           \
    static inline double name(double x) { return in_double; }                                  \
    static inline float name##f(float value) {                                                 \
        double x = value;                                                                      \
        return (float) (in_double);                                                            \
    }
static constexpr double CS_PI = 3.141592653589793238463;
static inline double cs_sinpi(double x) {
    double r = __builtin_fmod(x, 2.0);
    return r == 0 || r == 1 || r == -1 ? 0.0 : __builtin_sin(CS_PI * r);
}
static inline double cs_cospi(double x) {
    double r = __builtin_fabs(__builtin_fmod(x, 2.0));
    return r == 0.5 || r == 1.5 ? 0.0 : __builtin_cos(CS_PI * r);
}
// What belongs to the ends of an interval, and to what lies outside.
static inline double cs_at_ends(double y, double infinite, double minus_infinite) {
    return y == infinite ? __builtin_inf()
        : y == minus_infinite ? -__builtin_inf() : __builtin_nan("");
}
// The inverse of erf by bisection between -6 and 6: slow, and right to the last digits.
static inline double cs_erfinv(double y) {
    if (!(y > -1 && y < 1)) return cs_at_ends(y, 1, -1);
    double low = -6, high = 6;
    for (int i = 0; i < 80; ++i) {
        double middle = (low + high) / 2;
        if (__builtin_erf(middle) < y) low = middle;
        else high = middle;
    }
    return (low + high) / 2;
}
static inline double cs_erfcinv(double y) {
    if (!(y > 0 && y < 2)) return cs_at_ends(y, 0, 2);
    double low = -28, high = 28;
    for (int i = 0; i < 100; ++i) {
        double middle = (low + high) / 2;
        if (__builtin_erfc(middle) > y) low = middle;
        else high = middle;
    }
    return (low + high) / 2;
}
static inline double cs_erfcx(double x) {
    if (x < 25) return __builtin_exp(x * x) * __builtin_erfc(x);
    double s = 1 / (x * x);
    return (1 - s / 2 * (1 - 1.5 * s * (1 - 2.5 * s))) / (x * 1.772453850905516027298);
}
CS_FUNCTION(rsqrt, 1 / __builtin_sqrt(x))
CS_FUNCTION(rcbrt, 1 / __builtin_cbrt(x))
CS_FUNCTION(sinpi, cs_sinpi(x))
CS_FUNCTION(cospi, cs_cospi(x))
CS_FUNCTION(erfinv, cs_erfinv(x))
CS_FUNCTION(erfcinv, cs_erfcinv(x))
CS_FUNCTION(erfcx, cs_erfcx(x))
CS_FUNCTION(normcdf, 0.5 * __builtin_erfc(x * -0.7071067811865475244))
CS_FUNCTION(normcdfinv, -1.414213562373095048802 * cs_erfcinv(2 * x))
#undef CS_FUNCTION
static inline float rsqrt(float x) { return rsqrtf(x); }

static inline double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
static inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
static inline float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
static inline double pow(double x, int n) { return __builtin_pow(x, n); }
static inline float pow(float x, int n) { return __builtin_powf(x, (float) n); }
static inline double ldexp(double x, int n) { return __builtin_ldexp(x, n); }
static inline float ldexp(float x, int n) { return __builtin_ldexpf(x, n); }
static inline float ldexpf(float x, int n) { return __builtin_ldexpf(x, n); }
static inline double scalbn(double x, int n) { return __builtin_scalbn(x, n); }
static inline float scalbnf(float x, int n) { return __builtin_scalbnf(x, n); }
static inline double frexp(double x, int* n) { return __builtin_frexp(x, n); }
static inline float frexp(float x, int* n) { return __builtin_frexpf(x, n); }
static inline float frexpf(float x, int* n) { return __builtin_frexpf(x, n); }
static inline double modf(double x, double* whole) { return __builtin_modf(x, whole); }
static inline float modff(float x, float* whole) { return __builtin_modff(x, whole); }
static inline int ilogb(double x) { return __builtin_ilogb(x); }
static inline int ilogbf(float x) { return __builtin_ilogbf(x); }
static inline double norm3d(double a, double b, double c) {
    return __builtin_sqrt(a * a + b * b + c * c);
}
static inline float norm3df(float a, float b, float c) { return (float) norm3d(a, b, c); }
static inline double rhypot(double x, double y) { return 1 / __builtin_hypot(x, y); }
static inline float rhypotf(float x, float y) { return (float) rhypot(x, y); }
static inline float fdividef(float x, float y) { return x / y; }
static inline void sincos(double x, double* s, double* c) { *s = sin(x), *c = cos(x); }
static inline void sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
static inline void sincos(float x, float* s, float* c) { sincosf(x, s, c); }
static inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }

#define CS_ROUNDING(name, T)                                                                   \
    static inline T name(double x) { return __builtin_##name(x); }                             \
    static inline T name(float x) { return __builtin_##name##f(x); }                           \
    static inline T name##f(float x) { return __builtin_##name##f(x); }
CS_ROUNDING(lrint, long) CS_ROUNDING(lround, long)
CS_ROUNDING(llrint, long long) CS_ROUNDING(llround, long long)
#undef CS_ROUNDING

static inline bool isnan(double x) { return __builtin_isnan(x); }
static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isinf(double x) { return __builtin_isinf(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
static inline bool isfinite(double x) { return __builtin_isfinite(x); }
static inline bool isfinite(float x) { return __builtin_isfinite(x); }
static inline bool signbit(double x) { return __builtin_signbit(x); }
static inline bool signbit(float x) { return __builtin_signbitf(x); }
static inline float nanf(const char*) { return __builtin_nanf(""); }
static inline double nan(const char*) { return __builtin_nan(""); }

static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long abs(long x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline long labs(long x) { return x < 0 ? -x : x; }
static inline long long llabs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return __builtin_fabsf(x); }
static inline double abs(double x) { return __builtin_fabs(x); }

// The overloads that CUDA has, so that what is ambiguous there is ambiguous here.
#define CS_BETWEEN(A, B, R)                                                                    \
    static inline R max(A a, B b) { return (R) a > (R) b ? (R) a : (R) b; }                    \
    static inline R min(A a, B b) { return (R) a < (R) b ? (R) a : (R) b; }
CS_BETWEEN(int, int, int) CS_BETWEEN(unsigned, unsigned, unsigned)
CS_BETWEEN(int, unsigned, unsigned) CS_BETWEEN(unsigned, int, unsigned)
CS_BETWEEN(long, long, long) CS_BETWEEN(unsigned long, unsigned long, unsigned long)
CS_BETWEEN(long, unsigned long, unsigned long) CS_BETWEEN(unsigned long, long, unsigned long)
CS_BETWEEN(long long, long long, long long)
CS_BETWEEN(unsigned long long, unsigned long long, unsigned long long)
CS_BETWEEN(long long, unsigned long long, unsigned long long)
CS_BETWEEN(unsigned long long, long long, unsigned long long)
#undef CS_BETWEEN
static inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
static inline float min(float a, float b) { return __builtin_fminf(a, b); }
static inline double max(double a, double b) { return __builtin_fmax(a, b); }
static inline double min(double a, double b) { return __builtin_fmin(a, b); }
static inline double max(float a, double b) { return __builtin_fmax(a, b); }
static inline double min(float a, double b) { return __builtin_fmin(a, b); }
static inline double max(double a, float b) { return __builtin_fmax(a, b); }
static inline double min(double a, float b) { return __builtin_fmin(a, b); }
