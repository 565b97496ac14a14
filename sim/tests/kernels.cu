// Kernels that try the simulator itself: each of its features, used rightly.
#include "ptx.cuh"

extern "C" __global__ void sim_add(const float* a, const float* b, float* c, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

// Sum of n floats in one block: shuffles within warps, then shared memory between them.
extern "C" __global__ void __launch_bounds__(256) sim_sum(const float* x, float* total, int n) {
    __shared__ float warps[8];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    for (int offset = 16; offset; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned w = 1; w < blockDim.x / 32; w++) sum += warps[w];
        *total = sum;
    }
}

// Transposes n x n by tiles of 32 x 32 in dynamic shared memory; blocks of 32 x 8.
extern "C" __global__ void sim_transpose(const float* in, float* out, int n) {
    DYN_SHARED(float, tile);
    const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32;
    for (int i = threadIdx.y; i < 32; i += 8) {
        if (x < n && y + i < n) tile[i * 33 + threadIdx.x] = in[size_t(y + i) * n + x];
    }
    __syncthreads();
    const int tx = blockIdx.y * 32 + threadIdx.x, ty = blockIdx.x * 32;
    for (int i = threadIdx.y; i < 32; i += 8) {
        if (tx < n && ty + i < n) out[size_t(ty + i) * n + tx] = tile[threadIdx.x * 33 + i];
    }
}

struct Gemm {
    int m, n, k;
};

// C = A B^T for A [m,k] and B [n,k] with m, n, k multiples of 16: one warp a tile of 16 x 16, two stages of cp.async.
template <typename T>
__device__ __forceinline__ void gemm(const Gemm& p, const T* a, const T* b, float* c) {
    constexpr int TILE = 16, PITCH = TILE + 8;  // padded so that rows of ldmatrix fall into different banks
    __shared__ __align__(16) T as[2][TILE][PITCH], bs[2][TILE][PITCH];
    const int lane = threadIdx.x, row = lane / 2, column = lane % 2 * 8;
    const int m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
    auto load = [&](int stage, int k0) {
        cp_async16(&as[stage][row][column], a + size_t(m0 + row) * p.k + k0 + column);
        cp_async16(&bs[stage][row][column], b + size_t(n0 + row) * p.k + k0 + column);
        cp_async_commit();
    };
    float d[2][4] = {};
    load(0, 0);
    for (int k0 = 0; k0 < p.k; k0 += TILE) {
        const int stage = k0 / TILE % 2;
        if (k0 + TILE < p.k) {
            load(1 - stage, k0 + TILE);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        uint32_t fa[4], fb[4];
        ldmatrix_x4(fa, &as[stage][lane % 16][lane / 16 * 8]);
        ldmatrix_x4(fb, &bs[stage][lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8]);
        mma_m16n8k16<T>(d[0], fa, {fb[0], fb[1]});
        mma_m16n8k16<T>(d[1], fa, {fb[2], fb[3]});
        __syncthreads();
    }
    for (int j = 0; j < 2; j++) {
        for (int i = 0; i < 4; i++) {
            c[size_t(m0 + lane / 4 + i / 2 * 8) * p.n + n0 + j * 8 + lane % 4 * 2 + i % 2] = d[j][i];
        }
    }
}
extern "C" __global__ void __launch_bounds__(32) sim_gemm_bf16(const Gemm p, const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
    gemm(p, a, b, c);
}
extern "C" __global__ void __launch_bounds__(32) sim_gemm_f16(const Gemm p, const __half* a, const __half* b, float* c) {
    gemm(p, a, b, c);
}

// Rounds n floats to both 16-bit types.
extern "C" __global__ void sim_narrow(const float* x, __half* f16, __nv_bfloat16* bf16, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    f16[i] = __float2half(x[i]);
    bf16[i] = __float2bfloat16(x[i]);
}

// All 65536 values of both 16-bit types as floats.
extern "C" __global__ void sim_widen(float* f16, float* bf16) {
    const unsigned short bits = blockIdx.x * blockDim.x + threadIdx.x;
    f16[bits] = __half2float(__ushort_as_half(bits));
    bf16[bits] = __bfloat162float(__ushort_as_bfloat16(bits));
}

// Every shuffle and vote, in groups of 8 lanes, by one warp.
extern "C" __global__ void sim_warp(int* out) {
    const int lane = threadIdx.x;
    const unsigned all = 0xffffffff;
    int* mine = out + lane * 8;
    mine[0] = __shfl_sync(all, lane, 3, 8);
    mine[1] = __shfl_up_sync(all, lane, 2, 8);
    mine[2] = __shfl_down_sync(all, lane, 2, 8);
    mine[3] = __shfl_xor_sync(all, lane, 9);
    mine[4] = int(__shfl_xor_sync(all, double(lane), 1));
    mine[5] = __ballot_sync(all, lane % 3 == 0);
    mine[6] = __any_sync(all, lane == 7) + 2 * __all_sync(all, lane < 32) + 4 * __all_sync(all, lane < 31);
    mine[7] = lane < 16 ? __shfl_xor_sync(0xffff, lane, 1) : __shfl_xor_sync(0xffff0000, lane, 2);
}

// Lane l's registers of each ldmatrix over four matrices whose element (m, row, column) is 64 m + 8 row + column.
extern "C" __global__ void sim_ldmatrix(uint32_t* out) {
    __shared__ __align__(16) uint16_t matrices[4][8][8];
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) (&matrices[0][0][0])[i] = i;
    __syncthreads();
    const uint16_t* row = matrices[lane / 8][lane % 8];
    uint32_t plain[4], transposed[4], two[2], two_transposed[2], one[1], one_transposed[1];
    ldmatrix_x4(plain, row);
    ldmatrix_x4_trans(transposed, row);
    ldmatrix_x2(two, row);
    ldmatrix_x2_trans(two_transposed, row);
    ldmatrix_x1(one, row);
    ldmatrix_x1_trans(one_transposed, row);
    uint32_t* mine = out + lane * 14;
    for (int i = 0; i < 4; i++) mine[i] = plain[i], mine[4 + i] = transposed[i];
    for (int i = 0; i < 2; i++) mine[8 + i] = two[i], mine[10 + i] = two_transposed[i];
    mine[12] = one[0];
    mine[13] = one_transposed[0];
}

// Sum of all n numbers, by the last block to finish; `partials` has one element a block, `arrivals` begins as zero.
extern "C" __global__ void sim_last_block(const int* x, int* partials, unsigned* arrivals, int* total, int n) {
    __shared__ bool last;
    __shared__ int sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(&sum, x[i]);
    __syncthreads();
    if (threadIdx.x == 0) {
        partials[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(arrivals, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x > 0) return;
    __threadfence();
    int all = 0;
    for (unsigned b = 0; b < gridDim.x; b++) all += partials[b];
    *total = all;
}

struct Table {
    int count;
    const float* in[2000];
    float* out[2000];
};

// Adds one to each number of a table, which makes the largest parameters that fit.
extern "C" __global__ void sim_table(const Table table) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < table.count) *table.out[i] = *table.in[i] + 1.0f;
}

// A kernel that must have its thread bounds read from an expression.
constexpr int WARPS = 2;
extern "C" __global__ void __launch_bounds__(WARPS * warpSize, 4) sim_bounds(float* out) { out[threadIdx.x] = blockDim.x; }
