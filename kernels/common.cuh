// What every kernel file shares: element types and the type their sums are kept in, packs of 16 bytes, sums over a warp
// and a block in a fixed order, the counter-based generator, and the macros that give a template its exported names.
//
// A kernel receives the parameter struct by value, then its inputs, then its outputs: the order of the `kernel!` line in
// the Rust file of the same name. T is the type it stores in, Wide<T> the one it adds up in.
#pragma once
#include "ptx.cuh"

using bf16 = __nv_bfloat16;
using f16 = __half;

// Threads of a block where nothing asks for another number; `Grid::THREADS` in src/device/mod.rs must agree.
constexpr int THREADS = 256;
constexpr int WARP = 32;

template <class T> struct WideOf { using type = float; };
template <> struct WideOf<double> { using type = double; };
// The type that sums over elements of T are kept in.
template <class T> using Wide = typename WideOf<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(f16 x) { return __half2float(x); }

template <class T> __device__ __forceinline__ T narrow(Wide<T> x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ double narrow<double>(double x) { return x; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16(x); }
template <> __device__ __forceinline__ f16 narrow<f16>(float x) { return __float2half(x); }

// Elements of T in one memory access of 16 bytes.
template <class T> constexpr int PACK = 16 / int(sizeof(T));

// N neighbouring elements, moved in one access when they are 16 bytes (or a power of two below).
template <class T, int N = PACK<T>> struct alignas(sizeof(T) * N) Pack {
    T v[N];
};

template <int N, class T> __device__ __forceinline__ Pack<T, N> load(const T* p) {
    return *reinterpret_cast<const Pack<T, N>*>(p);
}

template <int N, class T> __device__ __forceinline__ void store(T* p, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// This thread's place in a one-dimensional grid.
__device__ __forceinline__ long long global_thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

// Sum over the 32 lanes of a warp, in every lane; the order is that of a butterfly, always the same.
template <class A> __device__ __forceinline__ A warp_sum(A x) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
    return x;
}

// The largest of the 32 lanes of a warp, in every lane.
template <class A> __device__ __forceinline__ A warp_max(A x) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, lanes));
    return x;
}

// Sum over all threads of a block of a multiple of 32 threads, in every thread; `slots` holds one value a warp.
template <class A> __device__ __forceinline__ A block_sum(A x, A* slots) {
    x = warp_sum(x);
    int warps = blockDim.x / WARP;
    __syncthreads(); // the slots may still be read by an earlier sum
    if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = x;
    __syncthreads();
    A sum = 0;
    for (int i = 0; i < warps; i++) sum += slots[i];
    return sum;
}

// The largest of all threads of such a block, likewise.
template <class A> __device__ __forceinline__ A block_max(A x, A* slots) {
    x = warp_max(x);
    __syncthreads(); // as above
    if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = x;
    __syncthreads();
    for (int i = 0; i < int(blockDim.x) / WARP; i++) x = max(x, slots[i]);
    return x;
}

// Philox4x32-10 (Salmon et al. 2011), as src/rng.rs: four random words from a counter and a key.
__device__ inline uint4 philox(uint4 counter, uint2 key) {
    for (int round = 0; round < 10; round++) {
        unsigned long long a = 0xD2511F53ull * counter.x, b = 0xCD9E8D57ull * counter.z;
        counter = make_uint4((unsigned)(b >> 32) ^ counter.y ^ key.x, (unsigned)b,
                             (unsigned)(a >> 32) ^ counter.w ^ key.y, (unsigned)a);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// A number in [0, 1) of 24 random bits, as `unit` in src/rng.rs.
__device__ __forceinline__ float unit(unsigned word) { return (word >> 8) * (1.0f / 16777216.0f); }

// Each file writes the signature of a kernel once, in a macro over the type T, and applies it to one of these lists.
#define FOR_FLOATS(KERNEL) KERNEL(float, f32) KERNEL(double, f64) KERNEL(bf16, bf16) KERNEL(f16, f16)
// For kernels whose tensors are all of the wide type.
#define FOR_WIDE(KERNEL) KERNEL(float, f32) KERNEL(double, f64)
// For kernels on the tensor cores.
#define FOR_HALVES(KERNEL) KERNEL(bf16, bf16) KERNEL(f16, f16)
