// The gradient of the filters w [k, r, s, c] of a 2-D convolution, from x [n, h, w, c] and gy [n, oh, ow, k]:
//   gw[k, r, s, c] = sum over n, oy, ox of x[n, oy*stride + r - pad, ox*stride + s - pad, c] gy[n, oy, ox, k]
// As a matrix product, conv.cu says of what. Its depth is cut into parts, which fill the GPU; `combine_parts` adds up what they leave.
// Launch: 256 threads for each tile of 128 rows and 64 or 128 columns of each part (src/ops/conv/tiles.rs); for combine_parts below.
#include "channels.cuh"
#include "conv.cuh"

#define CONV2D_WGRAD(T, dtype)                                                                                                          \
    TILED(T) conv2d_wgrad_##dtype(const Conv p, const T* x, const T* gy, Wide<T>* gw) { conv_wgrad<T>(p, x, gy, gw); }
FOR_FLOATS(CONV2D_WGRAD)

// As `Parts` in src/ops/conv/mod.rs.
struct Parts {
    long long len, parts;
};

// Parts that a thread loads before it adds up the first of them.
constexpr int PART_BATCH = 16;
// So many parts are shared by so many threads; must agree with `COMBINE` in src/ops/conv/mod.rs.
constexpr int MANY_PARTS = 128, PART_SHARERS = 8;

// y = the sum of `parts` arrays of `len`, always in the same order. Bound by bytes, and by latency where the arrays are short:
// of SHARERS threads that share an element, each adds up every SHARERS-th part.
template <int SHARERS, class T> __device__ __forceinline__ void combine_parts(const Parts& p, const Wide<T>* partials, T* y) {
    constexpr int ELEMENTS = THREADS / SHARERS;
    const int sharer = threadIdx.x / ELEMENTS;
    const long long i = (long long)blockIdx.x * ELEMENTS + threadIdx.x % ELEMENTS;
    Wide<T> sum = 0;
    auto add = [&](int, auto part) { sum += part.v[0]; };
    if (i < p.len) {
        for_batches<1, PART_BATCH>(sharer, SHARERS, int(p.parts), add, Column<const Wide<T>>{partials + i, int(p.len)});
    }
    if constexpr (SHARERS > 1) {
        __shared__ Wide<T> sums[THREADS];
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (sharer > 0) return;
        for (int j = 1; j < SHARERS; j++) sum += sums[j * ELEMENTS + threadIdx.x];
    }
    if (i < p.len) y[i] = narrow<T>(sum);
}

#define COMBINE_PARTS(T, dtype)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                                    \
        combine_parts_##dtype(const Parts p, const Wide<T>* partials, T* y) {                                                \
        if (p.parts < MANY_PARTS) return combine_parts<1>(p, partials, y);                                                   \
        combine_parts<PART_SHARERS>(p, partials, y);                                                                         \
    }
FOR_FLOATS(COMBINE_PARTS)
