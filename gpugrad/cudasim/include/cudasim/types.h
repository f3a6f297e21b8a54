// Built-in types and variables of CUDA C++.
#pragma once

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;

#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __maxnreg__(n)
#define __builtin_assume(condition) ((void) 0)
#define __assume(condition) ((void) 0)

#define CS_VECTORS(T, name, align2, align4)                                                    \
    struct name##1 { T x; };                                                                   \
    struct alignas(align2) name##2 { T x, y; };                                                \
    struct name##3 { T x, y, z; };                                                             \
    struct alignas(align4) name##4 { T x, y, z, w; };                                          \
    static inline name##1 make_##name##1(T x) { return {x}; }                                  \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                          \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                  \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CS_VECTORS(signed char, char, 2, 4)
CS_VECTORS(unsigned char, uchar, 2, 4)
CS_VECTORS(short, short, 4, 8)
CS_VECTORS(unsigned short, ushort, 4, 8)
CS_VECTORS(int, int, 8, 16)
CS_VECTORS(unsigned, uint, 8, 16)
CS_VECTORS(long, long, 16, 16)
CS_VECTORS(unsigned long, ulong, 16, 16)
CS_VECTORS(long long, longlong, 16, 16)
CS_VECTORS(unsigned long long, ulonglong, 16, 16)
CS_VECTORS(float, float, 8, 16)
CS_VECTORS(double, double, 16, 16)
#undef CS_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};

// The running thread's place: the runtime sets it whenever a thread goes on. For a thread itself it
// never changes, so it is const here, which also spares it the checks.
struct cs_position_t {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};
extern "C" const cs_position_t cs_position;
#define threadIdx (cs_position.thread)
#define blockIdx (cs_position.block)
#define blockDim (cs_position.block_dim)
#define gridDim (cs_position.grid_dim)
static constexpr int warpSize = 32;

// What the source's rewriting (source.py) calls for __shared__ variables.
extern "C" char* const cs_dynamic_shared;
extern "C" void cs_shared(void* p, size_t bytes, size_t element);
extern "C" int cs_shared_of_file(void* p, size_t bytes);

template <class T> struct cs_element { static constexpr size_t size = sizeof(T); };
template <class T, size_t N> struct cs_element<T[N]> : cs_element<T> {};
template <class T> static __forceinline__ void cs_shared_variable(T& v) {
    cs_shared((void*) &v, sizeof(T), cs_element<T>::size);
}
template <class T> static int cs_shared_variable_of_file(T& v) {
    return cs_shared_of_file((void*) &v, sizeof(T));
}

// ---- the little of <type_traits> that the other headers need -----------------------------------

template <class T> struct cs_same { typedef T type; };
template <class T> using cs_exactly = typename cs_same<T>::type;       // takes no part in deduction
template <bool B, class T = void> struct cs_if {};
template <class T> struct cs_if<true, T> { typedef T type; };
template <class A, class B> constexpr bool cs_is = false;
template <class A> constexpr bool cs_is<A, A> = true;
template <class T, class... Of> constexpr bool cs_one_of = (cs_is<T, Of> || ...);
template <class T> constexpr bool cs_integer = cs_one_of<T, bool, char, signed char, unsigned char,
    short, unsigned short, int, unsigned, long, unsigned long, long long, unsigned long long>;

template <class To, class From> static inline To cs_bits(From v) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    __builtin_memcpy((void*) &to, (const void*) &v, sizeof to);
    return to;
}
