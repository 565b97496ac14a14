// Random omissions in training, drawn from (seed, step, place, index) as src/ops/regularise.rs does: bit for bit the same on
// every device. Bound by bytes, with some hundred integer instructions for each draw of four words.
#include "common.cuh"

// As `Omit` in src/ops/regularise.rs.
struct Omit {
    long long len, image;
    uint2 seed;
    unsigned place;
    float p;
};

// `Purpose` in src/rng.rs.
constexpr unsigned PURPOSE_DROPOUT = 4, PURPOSE_DEPTH = 8;
// Elements of one draw of the generator.
constexpr int DRAW = 4;

template <class T> __device__ __forceinline__ Wide<T> keep_scale(const Omit& o) { return Wide<T>(1) / (Wide<T>(1) - Wide<T>(o.p)); }

// y = x / (1 - p) where a draw in [0, 1) is not below p, else 0. One thread draws for four elements.
template <class T> __device__ __forceinline__ void dropout(const Omit& o, const T* x, const unsigned* step, T* y) {
    long long draw = global_thread(), i = draw * DRAW;
    if (i >= o.len) return;
    uint4 words = philox(make_uint4(unsigned(draw), *step, o.place, PURPOSE_DROPOUT), o.seed);
    Wide<T> scale = keep_scale<T>(o);
    const unsigned word[DRAW] = {words.x, words.y, words.z, words.w};
    const bool whole = i + DRAW <= o.len;
    Pack<T, DRAW> pack;
    if (whole) pack = load<DRAW>(x + i);
    for (int j = 0; j < DRAW; j++) {
        if (!whole && i + j < o.len) pack.v[j] = x[i + j];
        pack.v[j] = narrow<T>(unit(word[j]) < o.p ? Wide<T>(0) : widen(pack.v[j]) * scale);
        if (!whole && i + j < o.len) y[i + j] = pack.v[j];
    }
    if (whole) store(y + i, pack);
}
#define DROPOUT(T, dtype)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        dropout_##dtype(const Omit o, const T* x, const unsigned* step, T* y) {                                        \
        dropout(o, x, step, y);                                                                                        \
    }
FOR_FLOATS(DROPOUT)

template <int N, class T> __device__ __forceinline__ void scale_image(long long len, Wide<T> scale, const T* x, T* y) {
    long long i = ((long long)blockIdx.y * blockDim.x + threadIdx.x) * N;
    for (; i < len; i += (long long)gridDim.y * blockDim.x * N) {
        Pack<T, N> pack;
        // A block that was left out is not even read: a NaN in it does not matter.
        if (scale != 0) pack = load<N>(x + i);
        for (int j = 0; j < N; j++) pack.v[j] = narrow<T>(scale != 0 ? widen(pack.v[j]) * scale : Wide<T>(0));
        store<N>(y + i, pack);
    }
}

// y[n, ...] = x[n, ...] / (1 - p) where the draw of image n is not below p, else 0. Blocks of column n of the grid share an image.
template <class T> __device__ __forceinline__ void stochastic_depth(const Omit& o, const T* x, const unsigned* step, T* y) {
    unsigned word = philox(make_uint4(blockIdx.x, *step, o.place, PURPOSE_DEPTH), o.seed).x;
    Wide<T> scale = unit(word) < o.p ? Wide<T>(0) : keep_scale<T>(o);
    x += blockIdx.x * o.image;
    y += blockIdx.x * o.image;
    o.image % PACK<T> == 0 ? scale_image<PACK<T>>(o.image, scale, x, y) : scale_image<1>(o.image, scale, x, y);
}
#define STOCHASTIC_DEPTH(T, dtype)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        stochastic_depth_##dtype(const Omit o, const T* x, const unsigned* step, T* y) {                               \
        stochastic_depth(o, x, step, y);                                                                               \
    }
FOR_FLOATS(STOCHASTIC_DEPTH)
