// __nv_bfloat16 and __nv_bfloat162.
#pragma once
#include "cudasim/rounding.h"
#define CS_TYPE __nv_bfloat16
#define CS_PAIR __nv_bfloat162
#define CS_RAW __nv_bfloat16_raw
#define CS_PAIR_RAW __nv_bfloat162_raw
#define CS_(a, b) a##bfloat16##b
#define CS_FROM cs_float_to_bfloat16
#define CS_TO cs_bfloat16_to_float
#include "cudasim/small_float.h"

typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;
static inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 v) { return {v, v}; }
