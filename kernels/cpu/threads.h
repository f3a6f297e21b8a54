// A loop shared by threads: run(work, context, n) calls work(context, i) once for each i below n.
//
// Which thread takes which i is left open, so each i must write to a place of its own: then results
// don't depend on the threads.
#pragma once
#include <stdint.h>

typedef void Work(void *context, intptr_t i);

void run(Work *work, void *context, intptr_t n);
// The same, but alone where it isn't worth waking others: each is how many operations work() is,
// such as make up a vector's, 32 a cycle.
void share(Work *work, void *context, intptr_t n, double each);
int threads(void);                      // how many run() uses at most, the caller included

// Memory of this thread, for n floats, aligned to 64 bytes and kept for the next call with the same
// place (below PLACES): what was in it is lost.
enum { PLACES = 5 };
float *scratch(int place, intptr_t n);
