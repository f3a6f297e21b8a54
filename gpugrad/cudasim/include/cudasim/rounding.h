// float16 and bfloat16 by bit patterns: to float exactly, from float and double rounded once.
#pragma once

enum cs_rounding { CS_NEAREST, CS_TO_ZERO, CS_UP_, CS_DOWN_ };

// double to float so that a second rounding, to fewer bits, is as if it were the only one: what is
// cut off is remembered in the last bit.
static inline float cs_round_to_odd(double d) {
    float f = (float) d;
    if ((double) f == d || f != f) return f;
    unsigned bits = cs_bits<unsigned>(f);
    if (__builtin_fabs((double) f) > __builtin_fabs(d)) --bits;       // towards zero
    return cs_bits<float>(bits | 1);
}

// Whether to add one unit to a magnitude whose bits `rest` (of `unit`) are cut off.
static inline bool cs_away(unsigned kept, unsigned rest, unsigned unit, bool negative,
                           cs_rounding how) {
    if (how == CS_NEAREST) return rest * 2 > unit || (rest * 2 == unit && kept & 1);
    return rest && (how == CS_UP_ ? !negative : how == CS_DOWN_ && negative);
}

static inline unsigned short cs_float_to_half(float f, cs_rounding how = CS_NEAREST) {
    unsigned bits = cs_bits<unsigned>(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude == 0x7f800000) return (unsigned short) (sign | 0x7c00);
    unsigned kept, rest, unit;
    if (magnitude >= 0x38800000) {                    // 2^-14 and more: a normal half
        kept = (magnitude - 0x38000000) >> 13;
        rest = magnitude & 0x1fff;
        unit = 0x2000;
        if (kept >= 0x7c00) kept = 0x7bff, rest = unit - 1;           // beyond the largest one
    } else {                                          // a multiple of 2^-24
        int exponent = (int) (magnitude >> 23), shift = 126 - exponent;
        unsigned mantissa = exponent ? (magnitude & 0x7fffff) | 0x800000 : 0;
        if (shift > 25) kept = 0, rest = magnitude != 0, unit = 4;
        else kept = mantissa >> shift, unit = 1u << shift, rest = mantissa & (unit - 1);
    }
    return (unsigned short) (sign | (kept + cs_away(kept, rest, unit, sign != 0, how)));
}

static inline float cs_half_to_float(unsigned short h) {
    unsigned sign = (unsigned) (h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) return cs_bits<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    // The exponent is 112 too small, and the product mends it, of subnormal numbers too.
    return cs_bits<float>(sign | cs_bits<unsigned>(cs_bits<float>(magnitude << 13) * 0x1p112f));
}

static inline unsigned short cs_float_to_bfloat16(float f, cs_rounding how = CS_NEAREST) {
    unsigned bits = cs_bits<unsigned>(f);
    if (f != f) return 0x7fff;
    unsigned kept = bits >> 16 & 0x7fff, rest = bits & 0xffff, sign = bits >> 16 & 0x8000;
    if (kept >= 0x7f80) return (unsigned short) (sign | kept);
    return (unsigned short) (sign | (kept + cs_away(kept, rest, 0x10000, sign != 0, how)));
}

static inline float cs_bfloat16_to_float(unsigned short h) {
    return cs_bits<float>((unsigned) h << 16);
}
