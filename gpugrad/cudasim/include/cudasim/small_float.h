// A type of 16 bits, its pair, and their functions. Included once for each of the two types, which
// have the same ones, by cuda_fp16.h and cuda_bf16.h with these names defined:
//   CS_TYPE, CS_PAIR     the types, __half and __half2
//   CS_RAW, CS_PAIR_RAW  their bits, __half_raw and __half2_raw
//   CS_(a, b)            a name around the type's: a ## half ## b
//   CS_FROM, CS_TO       the conversions of rounding.h
// Arithmetic is float's, rounded once: exactly what the hardware gives for + - * / and sqrt.

struct alignas(2) CS_RAW {
    unsigned short x;
};
struct alignas(4) CS_PAIR_RAW {
    unsigned short x, y;
};

struct alignas(2) CS_TYPE {
    unsigned short cs_value;

    CS_TYPE() = default;
    CS_TYPE(const CS_RAW& raw) : cs_value(raw.x) {}
    CS_TYPE(float v) : cs_value(CS_FROM(v)) {}
    CS_TYPE(double v) : cs_value(CS_FROM(cs_round_to_odd(v))) {}
    CS_TYPE(short v) : CS_TYPE((float) v) {}
    CS_TYPE(unsigned short v) : CS_TYPE((float) v) {}
    CS_TYPE(int v) : CS_TYPE((double) v) {}
    CS_TYPE(unsigned v) : CS_TYPE((double) v) {}
    CS_TYPE(long v) : CS_TYPE((double) v) {}
    CS_TYPE(unsigned long v) : CS_TYPE((double) v) {}
    CS_TYPE(long long v) : CS_TYPE((double) v) {}
    CS_TYPE(unsigned long long v) : CS_TYPE((double) v) {}

    operator CS_RAW() const { return {cs_value}; }
    operator float() const { return CS_TO(cs_value); }
    operator bool() const { return cs_value & 0x7fff; }
    operator char() const { return cs_to_integer<char>(CS_TO(cs_value)); }
    operator signed char() const { return cs_to_integer<signed char>(CS_TO(cs_value)); }
    operator unsigned char() const { return cs_to_integer<unsigned char>(CS_TO(cs_value)); }
    operator short() const { return cs_to_integer<short>(CS_TO(cs_value)); }
    operator unsigned short() const { return cs_to_integer<unsigned short>(CS_TO(cs_value)); }
    operator int() const { return cs_to_integer<int>(CS_TO(cs_value)); }
    operator unsigned() const { return cs_to_integer<unsigned>(CS_TO(cs_value)); }
    operator long() const { return cs_to_integer<long>(CS_TO(cs_value)); }
    operator unsigned long() const { return cs_to_integer<unsigned long>(CS_TO(cs_value)); }
    operator long long() const { return cs_to_integer<long long>(CS_TO(cs_value)); }
    operator unsigned long long() const {
        return cs_to_integer<unsigned long long>(CS_TO(cs_value));
    }
};

struct alignas(4) CS_PAIR {
    CS_TYPE x, y;

    CS_PAIR() = default;
    CS_PAIR(const CS_TYPE& x, const CS_TYPE& y) : x(x), y(y) {}
    CS_PAIR(const CS_PAIR_RAW& raw) : x(CS_RAW{raw.x}), y(CS_RAW{raw.y}) {}
    operator CS_PAIR_RAW() const { return {x.cs_value, y.cs_value}; }
};

// ---- conversions ------------------------------------------------------------------------------

static inline float CS_(__, 2float)(CS_TYPE v) { return CS_TO(v.cs_value); }
static inline CS_TYPE CS_(__float2, )(float v) { return v; }
static inline CS_TYPE CS_(__double2, )(double v) { return v; }
static inline CS_TYPE CS_(__float2, _rn)(float v) { return v; }
static inline CS_TYPE CS_(__float2, _rz)(float v) { return CS_RAW{CS_FROM(v, CS_TO_ZERO)}; }
static inline CS_TYPE CS_(__float2, _ru)(float v) { return CS_RAW{CS_FROM(v, CS_UP_)}; }
static inline CS_TYPE CS_(__float2, _rd)(float v) { return CS_RAW{CS_FROM(v, CS_DOWN_)}; }

// An integer rounds once too: through double, exactly or to odd.
template <class CS_I> static inline CS_TYPE CS_(cs_integer_to_, )(CS_I v, cs_rounding how) {
    double d = (double) v;
    __int128 back = (__int128) d;
    if (back != v) {
        bool larger = back < 0 ? back < v : back > v;
        d = cs_bits<double>((cs_bits<unsigned long long>(d) - larger) | 1);
    }
    return CS_RAW{CS_FROM(cs_round_to_odd(d), how)};
}
#define CS_INTEGER_ROUNDED(name, CS_I, how, rounding, round)                                   \
    static inline CS_TYPE CS_(__##name##2, how)(CS_I v) {                                      \
        return CS_(cs_integer_to_, )(v, rounding);                                             \
    }                                                                                          \
    static inline CS_I CS_(__, 2##name##how)(CS_TYPE v) {                                      \
        return cs_to_integer<CS_I>(round((float) v));                                          \
    }
#define CS_INTEGER(name, CS_I)                                                                 \
    CS_INTEGER_ROUNDED(name, CS_I, _rn, CS_NEAREST, rint)                                      \
    CS_INTEGER_ROUNDED(name, CS_I, _rz, CS_TO_ZERO, trunc)                                     \
    CS_INTEGER_ROUNDED(name, CS_I, _ru, CS_UP_, ceil)                                          \
    CS_INTEGER_ROUNDED(name, CS_I, _rd, CS_DOWN_, floor)
CS_INTEGER(short, short) CS_INTEGER(ushort, unsigned short) CS_INTEGER(int, int)
CS_INTEGER(uint, unsigned) CS_INTEGER(ll, long long) CS_INTEGER(ull, unsigned long long)
#undef CS_INTEGER
#undef CS_INTEGER_ROUNDED

static inline short CS_(__, _as_short)(CS_TYPE v) { return (short) v.cs_value; }
static inline unsigned short CS_(__, _as_ushort)(CS_TYPE v) { return v.cs_value; }
static inline CS_TYPE CS_(__short_as_, )(short v) { return CS_RAW{(unsigned short) v}; }
static inline CS_TYPE CS_(__ushort_as_, )(unsigned short v) { return CS_RAW{v}; }

static inline CS_PAIR CS_(__floats2, 2_rn)(float x, float y) { return {x, y}; }
static inline CS_PAIR CS_(__float2, 2_rn)(float v) { return {v, v}; }
static inline CS_PAIR CS_(__float22, 2_rn)(float2 v) { return {v.x, v.y}; }
static inline float2 CS_(__, 22float2)(CS_PAIR v) { return {v.x, v.y}; }
static inline CS_PAIR CS_(__halves2, 2)(CS_TYPE x, CS_TYPE y) { return {x, y}; }
static inline CS_PAIR CS_(make_, 2)(CS_TYPE x, CS_TYPE y) { return {x, y}; }
static inline CS_TYPE CS_(__low2, )(CS_PAIR v) { return v.x; }
static inline CS_TYPE CS_(__high2, )(CS_PAIR v) { return v.y; }
static inline CS_PAIR CS_(__low2, 2)(CS_PAIR v) { return {v.x, v.x}; }
static inline CS_PAIR CS_(__high2, 2)(CS_PAIR v) { return {v.y, v.y}; }
static inline CS_PAIR CS_(__lows2, 2)(CS_PAIR a, CS_PAIR b) { return {a.x, b.x}; }
static inline CS_PAIR CS_(__highs2, 2)(CS_PAIR a, CS_PAIR b) { return {a.y, b.y}; }
static inline float __low2float(CS_PAIR v) { return v.x; }
static inline float __high2float(CS_PAIR v) { return v.y; }
static inline CS_PAIR __lowhigh2highlow(CS_PAIR v) { return {v.y, v.x}; }

// ---- arithmetic -------------------------------------------------------------------------------

#define CS_ARITHMETIC(name, op)                                                                \
    static inline CS_TYPE operator op(const CS_TYPE& a, const CS_TYPE& b) {                    \
        return (float) a op (float) b;                                                         \
    }                                                                                          \
    static inline CS_TYPE& operator op##=(CS_TYPE& a, const CS_TYPE& b) { return a = a op b; } \
    static inline CS_TYPE __h##name(CS_TYPE a, CS_TYPE b) { return a op b; }                   \
    static inline CS_PAIR operator op(const CS_PAIR& a, const CS_PAIR& b) {                    \
        return {a.x op b.x, a.y op b.y};                                                       \
    }                                                                                          \
    static inline CS_PAIR& operator op##=(CS_PAIR& a, const CS_PAIR& b) { return a = a op b; }
CS_ARITHMETIC(add, +) CS_ARITHMETIC(sub, -) CS_ARITHMETIC(mul, *) CS_ARITHMETIC(div, /)
#undef CS_ARITHMETIC
#define CS_VARIANTS(name, op)                                                                  \
    static inline CS_TYPE __h##name##_rn(CS_TYPE a, CS_TYPE b) { return a op b; }              \
    static inline CS_TYPE __h##name##_sat(CS_TYPE a, CS_TYPE b) {                              \
        return __saturatef((float) a op (float) b);                                            \
    }                                                                                          \
    static inline CS_PAIR __h##name##2(CS_PAIR a, CS_PAIR b) { return a op b; }                \
    static inline CS_PAIR __h##name##2_rn(CS_PAIR a, CS_PAIR b) { return a op b; }             \
    static inline CS_PAIR __h##name##2_sat(CS_PAIR a, CS_PAIR b) {                             \
        return {__h##name##_sat(a.x, b.x), __h##name##_sat(a.y, b.y)};                         \
    }
CS_VARIANTS(add, +) CS_VARIANTS(sub, -) CS_VARIANTS(mul, *)
#undef CS_VARIANTS
static inline CS_PAIR __h2div(CS_PAIR a, CS_PAIR b) { return a / b; }

static inline CS_TYPE operator+(const CS_TYPE& v) { return v; }
static inline CS_TYPE operator-(const CS_TYPE& v) {
    return CS_RAW{(unsigned short) (v.cs_value ^ 0x8000)};
}
static inline CS_TYPE& operator++(CS_TYPE& v) { return v = v + CS_TYPE(1.0f); }
static inline CS_TYPE& operator--(CS_TYPE& v) { return v = v - CS_TYPE(1.0f); }
static inline CS_TYPE operator++(CS_TYPE& v, int) { CS_TYPE old = v; return ++v, old; }
static inline CS_TYPE operator--(CS_TYPE& v, int) { CS_TYPE old = v; return --v, old; }
static inline CS_PAIR operator+(const CS_PAIR& v) { return v; }
static inline CS_PAIR operator-(const CS_PAIR& v) { return {-v.x, -v.y}; }
static inline CS_TYPE __hneg(CS_TYPE v) { return -v; }
static inline CS_PAIR __hneg2(CS_PAIR v) { return -v; }
static inline CS_TYPE __habs(CS_TYPE v) { return CS_RAW{(unsigned short) (v.cs_value & 0x7fff)}; }
static inline CS_PAIR __habs2(CS_PAIR v) { return {__habs(v.x), __habs(v.y)}; }
// In double the product is exact and the sum all but.
static inline CS_TYPE __hfma(CS_TYPE a, CS_TYPE b, CS_TYPE c) {
    return __builtin_fma((double) (float) a, (double) (float) b, (double) (float) c);
}
static inline CS_TYPE __hfma_relu(CS_TYPE a, CS_TYPE b, CS_TYPE c) {
    CS_TYPE v = __hfma(a, b, c);
    return (float) v < 0 ? CS_TYPE(0.0f) : v;
}
static inline CS_TYPE __hfma_sat(CS_TYPE a, CS_TYPE b, CS_TYPE c) {
    return __saturatef((float) __hfma(a, b, c));
}
#define CS_FMA(name)                                                                           \
    static inline CS_PAIR __hfma2##name(CS_PAIR a, CS_PAIR b, CS_PAIR c) {                     \
        return {__hfma##name(a.x, b.x, c.x), __hfma##name(a.y, b.y, c.y)};                     \
    }
CS_FMA() CS_FMA(_relu) CS_FMA(_sat)
#undef CS_FMA

// ---- comparisons: _u: also true if either is a NaN --------------------------------------------

static inline bool __hisnan(CS_TYPE v) { return __builtin_isnan((float) v); }
static inline int __hisinf(CS_TYPE v) { return __builtin_isinf_sign((float) v); }
static inline CS_PAIR __hisnan2(CS_PAIR v) {
    return {(float) __hisnan(v.x), (float) __hisnan(v.y)};
}
#define CS_COMPARE(name, op)                                                                   \
    static inline bool operator op(const CS_TYPE& a, const CS_TYPE& b) {                       \
        return (float) a op (float) b;                                                         \
    }                                                                                          \
    static inline bool operator op(const CS_PAIR& a, const CS_PAIR& b) {                       \
        return a.x op b.x && a.y op b.y;                                                       \
    }                                                                                          \
    static inline bool __h##name(CS_TYPE a, CS_TYPE b) { return a op b; }                      \
    static inline bool __h##name##u(CS_TYPE a, CS_TYPE b) {                                    \
        return __hisnan(a) || __hisnan(b) || a op b;                                           \
    }                                                                                          \
    static inline bool __hb##name##2(CS_PAIR a, CS_PAIR b) { return a op b; }                  \
    static inline bool __hb##name##u2(CS_PAIR a, CS_PAIR b) {                                  \
        return __h##name##u(a.x, b.x) && __h##name##u(a.y, b.y);                               \
    }                                                                                          \
    static inline CS_PAIR __h##name##2(CS_PAIR a, CS_PAIR b) {                                 \
        return {(float) __h##name(a.x, b.x), (float) __h##name(a.y, b.y)};                     \
    }                                                                                          \
    static inline CS_PAIR __h##name##u2(CS_PAIR a, CS_PAIR b) {                                \
        return {(float) __h##name##u(a.x, b.x), (float) __h##name##u(a.y, b.y)};               \
    }                                                                                          \
    static inline unsigned __h##name##2_mask(CS_PAIR a, CS_PAIR b) {                           \
        return (__h##name(a.x, b.x) ? 0xffffu : 0) | (__h##name(a.y, b.y) ? 0xffff0000u : 0);  \
    }
CS_COMPARE(eq, ==) CS_COMPARE(ne, !=) CS_COMPARE(lt, <) CS_COMPARE(le, <=) CS_COMPARE(gt, >)
CS_COMPARE(ge, >=)
#undef CS_COMPARE

// The larger and the smaller one: of a number and a NaN the number, or with _nan the NaN; -0 < +0.
#define CS_BETWEEN(name, op)                                                                   \
    static inline CS_TYPE __h##name(CS_TYPE a, CS_TYPE b) {                                    \
        if (__hisnan(a)) return __hisnan(b) ? CS_TYPE(CS_RAW{0x7fff}) : b;                     \
        if (__hisnan(b)) return a;                                                             \
        if (a == b) return (a.cs_value & 0x8000) op (b.cs_value & 0x8000) ? b : a;             \
        return a op b ? a : b;                                                                 \
    }                                                                                          \
    static inline CS_TYPE __h##name##_nan(CS_TYPE a, CS_TYPE b) {                              \
        return __hisnan(a) || __hisnan(b) ? CS_TYPE(CS_RAW{0x7fff}) : __h##name(a, b);         \
    }                                                                                          \
    static inline CS_PAIR __h##name##2(CS_PAIR a, CS_PAIR b) {                                 \
        return {__h##name(a.x, b.x), __h##name(a.y, b.y)};                                     \
    }                                                                                          \
    static inline CS_PAIR __h##name##2_nan(CS_PAIR a, CS_PAIR b) {                             \
        return {__h##name##_nan(a.x, b.x), __h##name##_nan(a.y, b.y)};                         \
    }
CS_BETWEEN(max, >) CS_BETWEEN(min, <)
#undef CS_BETWEEN

// ---- functions --------------------------------------------------------------------------------

#define CS_FUNCTION(name, of)                                                                  \
    static inline CS_TYPE h##name(CS_TYPE v) { return (float) of((float) v); }                 \
    static inline CS_PAIR h2##name(CS_PAIR v) { return {h##name(v.x), h##name(v.y)}; }
CS_FUNCTION(exp, __builtin_expf) CS_FUNCTION(exp2, __builtin_exp2f)
CS_FUNCTION(exp10, __builtin_exp10f) CS_FUNCTION(log, __builtin_logf)
CS_FUNCTION(log2, __builtin_log2f) CS_FUNCTION(log10, __builtin_log10f)
CS_FUNCTION(sqrt, __builtin_sqrtf) CS_FUNCTION(rsqrt, rsqrtf) CS_FUNCTION(rcp, 1.0f /)
CS_FUNCTION(sin, __builtin_sinf) CS_FUNCTION(cos, __builtin_cosf)
CS_FUNCTION(tanh, __builtin_tanhf) CS_FUNCTION(tanh_approx, __builtin_tanhf)
CS_FUNCTION(ceil, __builtin_ceilf) CS_FUNCTION(floor, __builtin_floorf)
CS_FUNCTION(trunc, __builtin_truncf) CS_FUNCTION(rint, __builtin_rintf)
#undef CS_FUNCTION

#undef CS_TYPE
#undef CS_PAIR
#undef CS_RAW
#undef CS_PAIR_RAW
#undef CS_
#undef CS_FROM
#undef CS_TO
