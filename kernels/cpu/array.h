// NumPy arrays as the kernels get them: by reference, as Python has them.
//
// backend/compiled.py passes the object itself, which is several times faster than asking it for its
// address. The fields are those of NumPy's PyArrayObject, the same in NumPy 1 and 2; HEAD is the size
// of a Python object's head. compiled.py checks both when it loads the library.
#pragma once
#include <stdint.h>
#include <stddef.h>
#include <math.h>
#include <string.h>

typedef struct {
    char head[HEAD];
    char *data;
    int ndim;
    intptr_t *shape;
    intptr_t *strides;                  // in bytes
    void *base, *dtype;
    int flags;
} Array;

// Of an array's flags.
enum { IN_C_ORDER = 1, IN_FORTRAN_ORDER = 2, ALIGNED = 0x100, WRITEABLE = 0x400 };

// A Python list.
typedef struct {
    char head[HEAD];
    intptr_t n;
    void **items;
} List;

typedef float real;                     // what all kernels here take

static inline real *reals(const Array *a) { return (real *)a->data; }
static inline int64_t *indices(const Array *a) { return (int64_t *)a->data; }

// The product of the sizes of dims from..to-1.
static inline intptr_t count(const Array *a, int from, int to) {
    intptr_t n = 1;
    for (int i = from; i < to; i++) n *= a->shape[i];
    return n;
}
static inline intptr_t size(const Array *a) { return count(a, 0, a->ndim); }

static inline intptr_t smaller(intptr_t a, intptr_t b) { return a < b ? a : b; }
static inline intptr_t larger(intptr_t a, intptr_t b) { return a > b ? a : b; }
// How many parts of a size n things fill.
static inline intptr_t parts(intptr_t n, intptr_t size) { return (n + size - 1) / size; }
