// The table of a module's kernels: how to call each, and the types of its parameters.
//
// A signature is a list "code size alignment,". Codes: ? b h i l B H I L are bool and integers of 1
// to 8 bytes (capital: unsigned), e E f d are half, bfloat16, float and double, S is a struct. A
// pointer is P (p to const) and the code of what it points to, v for void and A for a pointer.
#pragma once

struct cs_kernel {
    const char* name;
    void (*call)(void (*)(), const char*);
    void (*function)();
    unsigned argument_bytes;
    int max_threads;
    char signature[1024];
};

template <class T> constexpr char cs_code() {
    if constexpr (cs_is<T, bool>) return '?';
    else if constexpr (cs_is<T, float>) return 'f';
    else if constexpr (cs_is<T, double>) return 'd';
    else if constexpr (cs_is<T, __half>) return 'e';
    else if constexpr (cs_is<T, __nv_bfloat16>) return 'E';
    else if constexpr (__is_enum(T)) return cs_code<__underlying_type(T)>();
    else if constexpr (cs_integer<T>) {
        constexpr int place = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
        return (T) -1 < (T) 0 ? "bhil"[place] : "BHIL"[place];
    } else return 'S';
}
template <class T> struct cs_plain { typedef T type; static constexpr bool is_const = false; };
template <class T> struct cs_plain<const T> {
    typedef T type;
    static constexpr bool is_const = true;
};
template <class T> struct cs_plain<volatile T> : cs_plain<T> {};
template <class T> struct cs_plain<const volatile T> : cs_plain<const T> {};

template <class T> struct cs_parameter {
    static char* put(char* to) { return *to = cs_code<T>(), to + 1; }
};
template <> struct cs_parameter<void> {
    static char* put(char* to) { return *to = 'v', to + 1; }
};
template <class T> struct cs_parameter<T*> {
    static char* put(char* to) {
        *to = cs_plain<T>::is_const ? 'p' : 'P';
        return cs_parameter<typename cs_plain<T>::type>::put(to + 1);
    }
};
template <class T> struct cs_parameter<T**> {
    static char* put(char* to) { return *to = 'P', to[1] = 'A', to + 2; }
};
template <class T> struct cs_parameter<T* const*> {
    static char* put(char* to) { return *to = 'p', to[1] = 'A', to + 2; }
};

template <size_t... I> struct cs_indices {};
template <int N> struct cs_count { typedef cs_indices<__integer_pack(N)...> type; };

template <class... A> struct cs_thunk {
    struct Offsets {
        unsigned at[sizeof...(A) + 1];
        constexpr Offsets() : at() {
            const unsigned sizes[] = {sizeof(A)..., 0}, aligns[] = {alignof(A)..., 1};
            unsigned end = 0;
            for (unsigned i = 0; i < sizeof...(A); ++i) {
                at[i] = (end + aligns[i] - 1) / aligns[i] * aligns[i];
                end = at[i] + sizes[i];
            }
            at[sizeof...(A)] = end;
        }
    };
    static constexpr Offsets offsets = {};
    template <size_t... I> __attribute__((no_sanitize("thread", "undefined")))
    static void spread(void (*f)(A...), const char* arguments, cs_indices<I...>) {
        f(*(A*) (arguments + offsets.at[I])...);
    }
    __attribute__((no_sanitize("thread", "undefined")))
    static void call(void (*f)(), const char* arguments) {
        spread((void (*)(A...)) f, arguments, typename cs_count<sizeof...(A)>::type());
    }
};

static char* cs_number(char* to, unsigned n) {
    char digits[12];
    int count = 0;
    do digits[count++] = (char) ('0' + n % 10);
    while (n /= 10);
    while (count) *to++ = digits[--count];
    return to;
}

template <class... A>
static cs_kernel cs_export(const char* name, int max_threads, void (*f)(A...)) {
    cs_kernel k = {name, &cs_thunk<A...>::call, (void (*)()) f,
                   cs_thunk<A...>::offsets.at[sizeof...(A)], max_threads, {0}};
    char* to = k.signature;
    static_assert(sizeof...(A) < 64, "more than 63 parameters");
    ((to = cs_parameter<A>::put(to), *to++ = ' ', to = cs_number(to, sizeof(A)), *to++ = ' ',
      to = cs_number(to, alignof(A)), *to++ = ','), ...);
    *to = 0;
    return k;
}
