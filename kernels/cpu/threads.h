// A loop shared by threads: run(work, context, n) calls work(context, i) once for each i below n.
//
// Which thread takes which i is left open, so each i must write to a place of its own: then results
// don't depend on the threads.
#pragma once
#include <stdint.h>

typedef void Work(void *context, intptr_t i);

void run(Work *work, void *context, intptr_t n);
int threads(void);                      // how many run() uses at most, the caller included
