// Barriers, shuffles, votes, and atomic operations.
#pragma once

extern "C" {
void cs_syncthreads(int site);
int cs_syncthreads_vote(int site, int predicate, int kind);
unsigned long cs_warp(unsigned mask, unsigned long value, int op, int argument, int width,
                      int site);
void cs_atomic(void* p, size_t bytes, void* pc);
}

// A barrier is known by its place in the source, wherever the optimiser puts copies of it.
#define __syncthreads() cs_syncthreads(__COUNTER__)
#define __syncthreads_count(predicate) cs_syncthreads_vote(__COUNTER__, !!(predicate), 0)
#define __syncthreads_and(predicate) cs_syncthreads_vote(__COUNTER__, !!(predicate), 1)
#define __syncthreads_or(predicate) cs_syncthreads_vote(__COUNTER__, !!(predicate), 2)

enum cs_warp_op {               // as in runtime/cooperate.cpp
    CS_SHUFFLE, CS_DOWN, CS_UP, CS_XOR, CS_BALLOT, CS_SYNC, CS_MATCH_ANY, CS_MATCH_ALL, CS_ACTIVE,
    CS_ADD, CS_MIN, CS_MAX, CS_UNSIGNED_MIN, CS_UNSIGNED_MAX, CS_AND, CS_OR, CS_BITWISE_XOR,
    CS_TOGETHER
};

template <class T> static __forceinline__ unsigned long cs_word(T v) {
    static_assert(sizeof(T) <= 8, "CUDA shuffles and compares no more than 8 bytes");
    unsigned long bits = 0;
    __builtin_memcpy((void*) &bits, (const void*) &v, sizeof v);
    return bits;
}

template <class T>
static __forceinline__ T cs_shuffle(unsigned mask, T v, int op, int a, int width) {
    unsigned long bits = cs_warp(mask, cs_word(v), op, a, width, 0);
    __builtin_memcpy((void*) &v, (const void*) &bits, sizeof v);
    return v;
}
template <class T>
static __forceinline__ T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    return cs_shuffle(mask, v, CS_SHUFFLE, lane, width);
}
template <class T>
static __forceinline__ T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32) {
    return cs_shuffle(mask, v, CS_DOWN, (int) delta, width);
}
template <class T>
static __forceinline__ T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32) {
    return cs_shuffle(mask, v, CS_UP, (int) delta, width);
}
template <class T>
static __forceinline__ T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
    return cs_shuffle(mask, v, CS_XOR, lanes, width);
}
static __forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
    return (unsigned) cs_warp(mask, predicate != 0, CS_BALLOT, 0, 32, 0);
}
static __forceinline__ int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
static __forceinline__ int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, !predicate) == 0;
}
static __forceinline__ void __syncwarp(unsigned mask = 0xffffffffu) {
    cs_warp(mask, 0, CS_SYNC, 0, 32, 0);
}
#define __activemask() ((unsigned) cs_warp(0, 0, CS_ACTIVE, 0, 32, __COUNTER__))

// int, unsigned, long, unsigned long, long long, unsigned long long, float and double.
template <class T> static __forceinline__ unsigned __match_any_sync(unsigned mask, T v) {
    return (unsigned) cs_warp(mask, cs_word(v), CS_MATCH_ANY, 0, 32, 0);
}
template <class T> static __forceinline__ unsigned __match_all_sync(unsigned mask, T v, int* all) {
    unsigned lanes = (unsigned) cs_warp(mask, cs_word(v), CS_MATCH_ALL, 0, 32, 0);
    *all = lanes != 0;
    return lanes;
}

#define CS_REDUCE(name, T, op)                                                                 \
    static __forceinline__ T __reduce_##name##_sync(unsigned mask, T v) {                      \
        return (T) cs_warp(mask, (unsigned) v, op, 0, 32, 0);                                  \
    }
CS_REDUCE(add, int, CS_ADD) CS_REDUCE(add, unsigned, CS_ADD)
CS_REDUCE(min, int, CS_MIN) CS_REDUCE(min, unsigned, CS_UNSIGNED_MIN)
CS_REDUCE(max, int, CS_MAX) CS_REDUCE(max, unsigned, CS_UNSIGNED_MAX)
CS_REDUCE(and, unsigned, CS_AND) CS_REDUCE(or, unsigned, CS_OR)
CS_REDUCE(xor, unsigned, CS_BITWISE_XOR)
#undef CS_REDUCE

// ---- atomics: only for the types that CUDA has them for ---------------------------------------

struct __half;
struct __half2;
struct __nv_bfloat16;
struct __nv_bfloat162;

// Not inlined and not checked itself, so that its caller's place is the kernel's line.
template <class T, class F> __attribute__((noinline, no_sanitize("thread", "undefined")))
static T cs_update(T* p, F f) {
    cs_atomic((void*) p, sizeof(T), __builtin_return_address(0));
    T old = *p;
    *p = f(old);
    return old;
}

#define CS_WORDS int, unsigned, unsigned long long
#define CS_ATOMIC(name, result, ...)                                                           \
    template <class T> static __forceinline__ T name(T* p, cs_exactly<T> v) {                  \
        static_assert(cs_one_of<T, __VA_ARGS__>, "CUDA has no " #name " for this type");       \
        return cs_update(p, [v](T old) -> T { return result; });                               \
    }                                                                                          \
    template <class T> static __forceinline__ T name##_block(T* p, cs_exactly<T> v) {          \
        return name(p, v);                                                                     \
    }                                                                                          \
    template <class T> static __forceinline__ T name##_system(T* p, cs_exactly<T> v) {         \
        return name(p, v);                                                                     \
    }
template <class T> static __attribute__((no_sanitize("undefined"))) T cs_wrapping_sum(T a, T b) {
    return a + b;
}
static inline int cs_wrapping_sum(int a, int b) { return (int) ((unsigned) a + (unsigned) b); }
CS_ATOMIC(atomicAdd, cs_wrapping_sum(old, v), CS_WORDS, float, double, __half, __half2,
          __nv_bfloat16, __nv_bfloat162)
CS_ATOMIC(atomicSub, (T) ((unsigned) old - (unsigned) v), int, unsigned)
CS_ATOMIC(atomicExch, v, CS_WORDS, float)
CS_ATOMIC(atomicMin, old < v ? old : v, CS_WORDS, long long)
CS_ATOMIC(atomicMax, old > v ? old : v, CS_WORDS, long long)
CS_ATOMIC(atomicAnd, old & v, CS_WORDS)
CS_ATOMIC(atomicOr, old | v, CS_WORDS)
CS_ATOMIC(atomicXor, old ^ v, CS_WORDS)
CS_ATOMIC(atomicInc, old >= v ? 0 : old + 1, unsigned)
CS_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1, unsigned)
#undef CS_ATOMIC

template <class T>
static __forceinline__ T atomicCAS(T* p, cs_exactly<T> compare, cs_exactly<T> v) {
    static_assert(cs_one_of<T, CS_WORDS, unsigned short>, "CUDA has no atomicCAS for this type");
    return cs_update(p, [compare, v](T old) -> T { return old == compare ? v : old; });
}
#undef CS_WORDS
