// Kernels with one mistake each, and what is to find it.
#include "ptx.cuh"

// Found by the scheduler in every build: a launch failure with kernel, block, thread and line.

extern "C" __global__ void bug_deadlock(float* out) {
    if (threadIdx.x < 16) {
        __syncthreads();
    } else {
        __syncwarp();
    }
    out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void bug_different_operations(float* out) {
    float x = out[threadIdx.x];
    if (threadIdx.x < 16) {
        x = __shfl_xor_sync(0xffffffff, x, 1);
    } else {
        x = __ballot_sync(0xffffffff, x > 0.0f);
    }
    out[threadIdx.x] = x;
}

extern "C" __global__ void bug_lane_not_in_mask(float* out) { out[threadIdx.x] = __shfl_xor_sync(0xffff, out[threadIdx.x], 1); }

extern "C" __global__ void bug_lanes_returned(float* out) {
    if (threadIdx.x >= 16) return;
    out[threadIdx.x] = __shfl_down_sync(0xffffffff, out[threadIdx.x], 16);
}

extern "C" __global__ void bug_misaligned_copy(float* out) {
    __shared__ __align__(16) float tile[64];
    cp_async16(&tile[1], out);
    cp_async_commit();
    cp_async_wait<0>();
    out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void bug_misaligned_row(float* out) {
    __shared__ __align__(16) float tile[256];
    uint32_t r[4];
    ldmatrix_x4(r, &tile[threadIdx.x * 4 + 2]);
    out[threadIdx.x] = __uint_as_float(r[0]);
}

// Found as a signal, which names no line.

extern "C" __global__ void bug_wild_address(float* out) { out[int64_t(1) << 40] = 1.0f; }

extern "C" __global__ void bug_division_by_zero(float* out) { out[threadIdx.x] = 32 / (int(threadIdx.x) - 1); }

// Found as NaN in the result.

extern "C" __global__ void bug_uninitialised_shared(float* out) {
    __shared__ float tile[32];
    if (threadIdx.x < 16) tile[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void bug_uninitialised_dynamic(float* out) {
    DYN_SHARED(float, tile);
    if (threadIdx.x < 16) tile[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

// Found as NaN, and by ThreadSanitizer.
extern "C" __global__ void bug_copy_not_awaited(float* out) {
    __shared__ __align__(16) float tile[32];
    if (threadIdx.x < 8) cp_async16(&tile[threadIdx.x * 4], out + threadIdx.x * 4);
    cp_async_commit();
    __syncthreads();
    out[threadIdx.x] = tile[31 - threadIdx.x];
    cp_async_wait<0>();
}

// Found by AddressSanitizer; `out` has 32 elements.

extern "C" __global__ void bug_write_past_end(float* out) { out[threadIdx.x + 1] = 1.0f; }

extern "C" __global__ void bug_read_past_end(float* out) { out[threadIdx.x] = out[threadIdx.x * 2]; }

extern "C" __global__ void bug_copy_past_end(float* out) {
    __shared__ __align__(16) float tile[256];
    cp_async16(&tile[threadIdx.x * 4], out + threadIdx.x * 4);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void bug_shared_past_end(float* out) {
    __shared__ float tile[32];
    float* p = tile;
    p[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = p[threadIdx.x + 1];
}

extern "C" __global__ void bug_dynamic_past_end(float* out) {
    DYN_SHARED(float, tile);
    tile[threadIdx.x + 1] = 1.0f;
    out[threadIdx.x] = 1.0f;
}

// Found by UndefinedBehaviorSanitizer.

extern "C" __global__ void bug_row_past_end(float* out) {
    __shared__ float tile[4][8];
    const int i = threadIdx.x;
    tile[i / 8][i % 8] = 1.0f;
    __syncthreads();
    out[i] = tile[i / 8][i % 8 + (i == 7)];
}

extern "C" __global__ void bug_misaligned_vector(float* out) {
    const float4 v = *reinterpret_cast<const float4*>(out + 1 + threadIdx.x % 4 * 4);
    __syncthreads();
    out[threadIdx.x] = v.x;
}

extern "C" __global__ void bug_integer_overflow(float* out) {
    const int big = 0x7fffffff - int(threadIdx.x);
    out[threadIdx.x] = float(big + 20);
}

// Found by ThreadSanitizer.

extern "C" __global__ void bug_missing_barrier(float* out) {
    __shared__ float tile[32];
    tile[threadIdx.x] = out[threadIdx.x];
    out[threadIdx.x] = tile[31 - threadIdx.x];
}

extern "C" __global__ void bug_missing_warp_barrier(float* out) {
    __shared__ float tile[32];
    tile[threadIdx.x] = 1.0f;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffff, tile[threadIdx.x ^ 1], 1);
}

extern "C" __global__ void bug_blocks_write_one_place(float* out) {
    if (threadIdx.x == 0) out[0] += 1.0f;
}

extern "C" __global__ void bug_blocks_read_each_other(float* out) {
    if (blockIdx.x == 0) out[threadIdx.x] = 1.0f;
    if (blockIdx.x == 1 && threadIdx.x > 0) out[0] = out[threadIdx.x];
}
