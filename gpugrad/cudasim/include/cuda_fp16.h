// __half and __half2.
#pragma once
#include "cudasim/rounding.h"
#define CS_TYPE __half
#define CS_PAIR __half2
#define CS_RAW __half_raw
#define CS_PAIR_RAW __half2_raw
#define CS_(a, b) a##half##b
#define CS_FROM cs_float_to_half
#define CS_TO cs_half_to_float
#include "cudasim/small_float.h"

typedef __half half;
typedef __half2 half2;
typedef __half nv_half;
typedef __half2 nv_half2;
static inline __half2 __half2half2(__half v) { return {v, v}; }
