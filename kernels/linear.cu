// Fully connected layer, x [n, i], w [o, i], b [o]: y = x wT + b; gx = gy w; gw = gyT x and gb = the sum of gy's rows.
// The same tiles as a 1x1 convolution of n single pixels. A head's few rows leave most of a tile empty: bound by the bytes of w.
// Launch: 256 threads for each tile of 128 rows and 64 or 128 columns (src/ops/conv/tiles.rs).
#include "conv.cuh"

// As `Linear` in src/ops/linear.rs.
struct Linear {
    int n, i, o;
    __device__ Conv as_conv() const { return {n, 1, 1, i, o, 1, 1, 1, 1, 1, 1, 0, 0}; }
};

// gb[o] = sum over n of gy[n][o]: by the first row of tiles, each for its columns.
template <class T> __device__ void column_sums(const Linear& p, const T* gy, Wide<T>* gb) {
    with_shape<T>(is_packed<T>(p.as_conv()), p.o, [&](auto shape) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.o, COLUMNS);
        const int column = corner.column + threadIdx.x;
        if (corner.row > 0 || threadIdx.x >= COLUMNS || column >= p.o) return;
        Wide<T> sum = 0;
        for (int row = 0; row < p.n; row++) sum += widen(gy[(long long)row * p.o + column]);
        gb[column] = sum;
    });
}

#define TILED extern "C" __global__ void __launch_bounds__(THREADS, 2)

#define LINEAR(T, dtype)                                                                                        \
    TILED linear_fwd_##dtype(const Linear p, const T* x, const T* w, const Wide<T>* b, T* y) {                  \
        conv_fwd<T>(p.as_conv(), x, w, b, y, nullptr);                                                          \
    }                                                                                                           \
    TILED linear_dgrad_##dtype(const Linear p, const T* gy, const T* w, T* gx) { conv_dgrad<T>(p.as_conv(), gy, w, gx); } \
    TILED linear_wgrad_##dtype(const Linear p, const T* x, const T* gy, Wide<T>* gw, Wide<T>* gb) {             \
        conv_wgrad<T>(p.as_conv(), x, gy, gw);                                                                  \
        column_sums(p, gy, gb);                                                                                 \
    }
FOR_FLOATS(LINEAR)
