// CUDA C++ for g++, as NVRTC knows it: included before every simulated source.
//
// No header of C or C++ is included, as there is none for NVRTC either: what a source may use is
// declared here, and a name such as `select` stays free for its own kernels.
#pragma once
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 12
#define __CUDACC_VER_MINOR__ 9
#define __GPUGRAD_CUDASIM__ 1

#include "cudasim/types.h"
#include "cudasim/math.h"
#include "cudasim/intrinsics.h"
#include "cudasim/cooperate.h"
#include "cudasim/tensor_cores.h"
#include "cudasim/export.h"
