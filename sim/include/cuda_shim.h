// CUDA C++ as far as the kernels use it, for an ordinary C++17 compiler. Included ahead of every .cu file.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

using std::isfinite;
using std::isinf;
using std::isnan;

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __grid_constant__
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
// nvcc takes `__shared__ alignas(16) T x`; in standard C++ alignas stands first, and __shared__ is `static` here.
#define alignas(n) __attribute__((aligned(n)))
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
// An attribute that no compiler knows: sim/src/compile.rs reads it, since launching more threads fails on hardware. The zero lets
// the compiler read an expression that begins with a name.
#define __launch_bounds__(...) __attribute__((sim_launch_bounds(0, __VA_ARGS__)))

// Blocks that run at once are on different OS threads, so that each has its own. Sanitized builds have one OS thread, and plain
// variables, between which AddressSanitizer puts red zones.
#if defined(SIM_ASAN) || defined(SIM_TSAN)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

#include "sim/vectors.h"
#include "sim/runtime.h"
#include "sim/half.h"
#include "sim/intrinsics.h"
#include "sim/warp.h"

#define threadIdx (sim::thread->index)
#define blockIdx (sim::thread->block->index)
#define blockDim (sim::thread->block->size)
#define gridDim (sim::thread->block->grid)
constexpr int warpSize = 32;
