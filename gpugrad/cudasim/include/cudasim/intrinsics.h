// Intrinsics: fast functions (exact here), bits, conversions, caches.
#pragma once

static inline float __expf(float x) { return __builtin_expf(x); }
static inline float __exp10f(float x) { return __builtin_exp10f(x); }
static inline float __logf(float x) { return __builtin_logf(x); }
static inline float __log2f(float x) { return __builtin_log2f(x); }
static inline float __log10f(float x) { return __builtin_log10f(x); }
static inline float __powf(float x, float y) { return __builtin_powf(x, y); }
static inline float __sinf(float x) { return __builtin_sinf(x); }
static inline float __cosf(float x) { return __builtin_cosf(x); }
static inline float __tanf(float x) { return __builtin_tanf(x); }
static inline float __tanhf(float x) { return __builtin_tanhf(x); }
static inline void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1.0f : 0.0f; }

// Arithmetic that is never contracted. (Towards zero and the like are left out: rarely used.)
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dsub_rn(double x, double y) { return x - y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline double __ddiv_rn(double x, double y) { return x / y; }
static inline double __drcp_rn(double x) { return 1.0 / x; }
static inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
static inline double __fma_rn(double x, double y, double z) { return __builtin_fma(x, y, z); }

// ---- bits -------------------------------------------------------------------------------------

static inline int __float_as_int(float x) { return cs_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return cs_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return cs_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return cs_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return cs_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return cs_bits<double>(x); }
static inline int __double2hiint(double x) { return (int) (cs_bits<unsigned long long>(x) >> 32); }
static inline int __double2loint(double x) { return (int) cs_bits<unsigned long long>(x); }
static inline double __hiloint2double(int high, int low) {
    return cs_bits<double>((unsigned long long) (unsigned) high << 32 | (unsigned) low);
}

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned) x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long) x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
    return r;
}
static inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long) __brev((unsigned) x) << 32 | __brev((unsigned) (x >> 32));
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    unsigned long long both = (unsigned long long) y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; ++i) {
        unsigned s = selector >> 4 * i & 15, byte = (unsigned) (both >> 8 * (s & 7)) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << 8 * i;
    }
    return r;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) {
    unsigned long long both = (unsigned long long) high << 32 | low;
    return (unsigned) ((both << (n & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
    unsigned long long both = (unsigned long long) high << 32 | low;
    return (unsigned) (both >> (n & 31));
}
static inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned n) {
    return n >= 32 ? low : __funnelshift_l(low, high, n);
}
static inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned n) {
    return n >= 32 ? high : __funnelshift_r(low, high, n);
}

static inline int __mulhi(int a, int b) { return (int) ((long long) a * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned) ((unsigned long long) a * b >> 32);
}
static inline long long __mul64hi(long long a, long long b) {
    return (long long) ((__int128) a * b >> 64);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long) ((unsigned __int128) a * b >> 64);
}
static inline int __mul24(int a, int b) {
    int x = (int) ((unsigned) a << 8) >> 8, y = (int) ((unsigned) b << 8) >> 8;
    return (int) ((long long) x * y);
}
static inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffff) * (b & 0xffffff); }
static inline unsigned __sad(int a, int b, unsigned c) {
    return c + (a > b ? (unsigned) a - (unsigned) b : (unsigned) b - (unsigned) a);
}
static inline unsigned __usad(unsigned a, unsigned b, unsigned c) {
    return c + (a > b ? a - b : b - a);
}
static inline int __hadd(int a, int b) { return (int) (((long long) a + b) >> 1); }
static inline int __rhadd(int a, int b) { return (int) (((long long) a + b + 1) >> 1); }
static inline unsigned __uhadd(unsigned a, unsigned b) {
    return (unsigned) (((unsigned long long) a + b) >> 1);
}
static inline unsigned __urhadd(unsigned a, unsigned b) {
    return (unsigned) (((unsigned long long) a + b + 1) >> 1);
}
static inline int __dp4a(int a, int b, int c) {
    unsigned sum = (unsigned) c;
    for (int i = 0; i < 32; i += 8)
        sum += (unsigned) ((signed char) (a >> i) * (signed char) (b >> i));
    return (int) sum;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 32; i += 8) c += (a >> i & 255) * (b >> i & 255);
    return c;
}

// ---- conversions: out of range they give the nearest number, and 0 for a NaN ------------------

template <class T, class F> static inline T cs_to_integer(F x) {
    constexpr bool is_signed = (T) -1 < (T) 0;
    constexpr int bits = 8 * sizeof(T) - is_signed;
    const F end = (F) (1ull << (bits - 1)) * 2;
    const T most = (T) (~0ull >> (64 - bits)), least = is_signed ? -most - 1 : 0;
    return x != x ? (T) 0 : x >= end ? most : x < (F) least ? least : (T) x;
}
#define CS_CONVERT(from, F, to, T)                                                             \
    static inline T __##from##2##to##_rn(F x) { return cs_to_integer<T>(rint(x)); }            \
    static inline T __##from##2##to##_rz(F x) { return cs_to_integer<T>(trunc(x)); }           \
    static inline T __##from##2##to##_ru(F x) { return cs_to_integer<T>(ceil(x)); }            \
    static inline T __##from##2##to##_rd(F x) { return cs_to_integer<T>(floor(x)); }
CS_CONVERT(float, float, int, int) CS_CONVERT(float, float, uint, unsigned)
CS_CONVERT(float, float, ll, long long) CS_CONVERT(float, float, ull, unsigned long long)
CS_CONVERT(double, double, int, int) CS_CONVERT(double, double, uint, unsigned)
CS_CONVERT(double, double, ll, long long) CS_CONVERT(double, double, ull, unsigned long long)
#undef CS_CONVERT
static inline float __double2float_rn(double x) { return (float) x; }
static inline float __int2float_rn(int x) { return (float) x; }
static inline float __uint2float_rn(unsigned x) { return (float) x; }
static inline float __ll2float_rn(long long x) { return (float) x; }
static inline float __ull2float_rn(unsigned long long x) { return (float) x; }
static inline double __int2double_rn(int x) { return x; }
static inline double __uint2double_rn(unsigned x) { return x; }
static inline double __ll2double_rn(long long x) { return (double) x; }
static inline double __ull2double_rn(unsigned long long x) { return (double) x; }

// ---- memory -----------------------------------------------------------------------------------

template <class T> static __forceinline__ T __ldg(const T* p) { return *p; }
template <class T> static __forceinline__ T __ldcg(const T* p) { return *p; }
template <class T> static __forceinline__ T __ldca(const T* p) { return *p; }
template <class T> static __forceinline__ T __ldcs(const T* p) { return *p; }
template <class T> static __forceinline__ T __ldlu(const T* p) { return *p; }
template <class T> static __forceinline__ T __ldcv(const T* p) { return *p; }
template <class T> static __forceinline__ void __stwb(T* p, cs_exactly<T> v) { *p = v; }
template <class T> static __forceinline__ void __stcg(T* p, cs_exactly<T> v) { *p = v; }
template <class T> static __forceinline__ void __stcs(T* p, cs_exactly<T> v) { *p = v; }
template <class T> static __forceinline__ void __stwt(T* p, cs_exactly<T> v) { *p = v; }

extern "C" void cs_touch(const void* p, size_t bytes, int write);
static __forceinline__ void* memcpy(void* to, const void* from, size_t n) {
    cs_touch(from, n, 0);
    cs_touch(to, n, 1);
    return __builtin_memcpy(to, from, n);
}
static __forceinline__ void* memset(void* to, int byte, size_t n) {
    cs_touch(to, n, 1);
    return __builtin_memset(to, byte, n);
}

extern "C" {
unsigned long long cs_clock();
void cs_fence();
void cs_trap(const char* what, const char* file, int line) __attribute__((noreturn));
int cs_printf(const char* format, ...) __attribute__((format(printf, 1, 2)));
}
static inline long long clock64() { return (long long) cs_clock(); }
static inline int clock() { return (int) cs_clock(); }
static inline void __nanosleep(unsigned) {}
static inline void __threadfence() { cs_fence(); }
static inline void __threadfence_system() { cs_fence(); }
static inline void __threadfence_block() {}
#define printf cs_printf
#define __trap() cs_trap("__trap()", __FILE__, __LINE__)
#define __brkpt() cs_trap("__brkpt()", __FILE__, __LINE__)
#ifdef NDEBUG
#define assert(condition) ((void) 0)
#else
#define assert(condition)                                                                      \
    ((condition) ? (void) 0 : cs_trap("assertion failed: " #condition, __FILE__, __LINE__))
#endif
