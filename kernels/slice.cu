// Ranges of channels of images, copied: y[row, y_from + i] = x[row, x_from + i] for i < width. Rows are pixels of x_c and y_c
// channels. Bound by bytes; one thread moves 16 of them where every width and start is a multiple of that, else one element.
#include "common.cuh"

// As `Copy` in src/ops/slice.rs.
struct Copy {
    long long rows;
    int width, x_c, x_from, y_c, y_from, unused;
};

template <class T> __device__ __forceinline__ bool packed(const Copy& p) {
    return (p.width | p.x_c | p.x_from | p.y_c | p.y_from) % PACK<T> == 0;
}

// The rest of y stays: a concatenation is one launch for each of its inputs, and only together do they write every element.
template <int N, class T> __device__ __forceinline__ void copy_channels(const Copy& p, const T* x, T* y) {
    int lanes = p.width / N;
    long long row = global_thread() / lanes;
    int c = int(global_thread() % lanes) * N;
    if (row < p.rows) store<N>(y + row * p.y_c + p.y_from + c, load<N>(x + row * p.x_c + p.x_from + c));
}
#define COPY_CHANNELS(T, dtype)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS) copy_channels_##dtype(const Copy p, const T* x, T* y) {      \
        packed<T>(p) ? copy_channels<PACK<T>>(p, x, y) : copy_channels<1>(p, x, y);                                    \
    }
FOR_FLOATS(COPY_CHANNELS)

// The adjoint: as above, and zero in the rest of y. PACKED: x, too, is read 16 bytes at a time.
template <int N, bool PACKED, class T> __device__ __forceinline__ void spread_channels(const Copy& p, const T* x, T* y) {
    int lanes = p.y_c / N;
    long long row = global_thread() / lanes;
    int c = int(global_thread() % lanes) * N, from = c - p.y_from;
    if (row >= p.rows) return;
    Pack<T, N> pack;
    for (int j = 0; j < N; j++) {
        const bool copied = !PACKED && unsigned(from + j) < unsigned(p.width);
        pack.v[j] = copied ? x[row * p.x_c + from + j] : narrow<T>(0);
    }
    if (PACKED && unsigned(from) < unsigned(p.width)) pack = load<N>(x + row * p.x_c + from);
    store<N>(y + row * p.y_c + c, pack);
}
#define SPREAD_CHANNELS(T, dtype)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS) spread_channels_##dtype(const Copy p, const T* x, T* y) {    \
        if (packed<T>(p)) return spread_channels<PACK<T>, true>(p, x, y);                                              \
        p.y_c % PACK<T> == 0 ? spread_channels<PACK<T>, false>(p, x, y) : spread_channels<1, false>(p, x, y);          \
    }
FOR_FLOATS(SPREAD_CHANNELS)
