// What NVRTC declares by itself and CuPy's headers use.
#pragma once
#ifndef NULL
#define NULL 0
#endif

namespace std {
// Its layout, and that there is one, is what g++ takes for granted of braces.
template <class E> class initializer_list {
    const E* first;
    unsigned long count;
    constexpr initializer_list(const E* first, unsigned long count) : first(first), count(count) {}

public:
    typedef const E* iterator;
    constexpr initializer_list() : first(0), count(0) {}
    constexpr unsigned long size() const { return count; }
    constexpr const E* begin() const { return first; }
    constexpr const E* end() const { return first + count; }
};
}
