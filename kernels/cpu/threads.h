// A loop shared by threads: share(work, context, n, each) calls work(context, i) once for each i below
// n, alone where it isn't worth waking others: each is how many operations work() is, such as make up a
// vector's, 32 a cycle.
//
// Which thread takes which i is left open, so each i must write to a place of its own: then results
// don't depend on the threads.
#pragma once
#include <stdint.h>

typedef void Work(void *context, intptr_t i);

#define ELEMENT 16.                     // of them in what elementwise work does to an element
void share(Work *work, void *context, intptr_t n, double each);
int threads(void);                      // how many share() uses at most, the caller included

// Memory of this thread, for n floats, aligned to 64 bytes and kept for the next call with the same
// place (below PLACES): what was in it is lost.
enum { PLACES = 5 };
float *scratch(int place, intptr_t n);
