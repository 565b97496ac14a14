// Images of another size, x [n, h, w, c] to y [n, oh, ow, c]: nearest and bilinear interpolation, cropping and padding. Backward
// gathers: each input pixel looks at the output pixels that read it. All are bound by bytes; a thread writes 16 of them
// (place.cuh), and pixels that are read repeatedly are found in cache.
#include "place.cuh"

// As `Nearest` in src/ops/resample.rs.
struct Nearest {
    int n, h, w, c, factor;
};

// y[oh, ow] = x[oh / factor, ow / factor].
template <class T> __device__ __forceinline__ void upsample_nearest_fwd(const Nearest& p, const T* x, T* y) {
    with_place<T>(p.h * p.factor, p.w * p.factor, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        auto v = load<N>(x + place.offset(p.h, p.w, p.c, place.line / p.factor, place.pixel / p.factor));
        store(y + place.offset(p.h * p.factor, p.w * p.factor, p.c), v);
    });
}
#define UPSAMPLE_NEAREST_FWD(T, dtype)                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        upsample_nearest_fwd_##dtype(const Nearest p, const T* x, T* y) {                                              \
        upsample_nearest_fwd(p, x, y);                                                                                 \
    }
FOR_FLOATS(UPSAMPLE_NEAREST_FWD)

// gx[h, w] = Σ gy over the factor · factor pixels that it became.
template <class T> __device__ __forceinline__ void upsample_nearest_bwd(const Nearest& p, const T* gy, T* gx) {
    with_place<T>(p.h, p.w, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        Pack<Wide<T>, N> sum = {};
        const T* line = gy + place.offset(p.h * p.factor, p.w * p.factor, p.c, place.line * p.factor, place.pixel * p.factor);
        for (int r = 0; r < p.factor; r++) {
#pragma unroll 2
            for (int s = 0; s < p.factor; s++) {
                auto g = read<N>(line + (long long)s * p.c);
                for (int i = 0; i < N; i++) sum.v[i] += g.v[i];
            }
            line += (long long)p.w * p.factor * p.c;
        }
        write<N>(gx + place.offset(p.h, p.w, p.c), sum);
    });
}
#define UPSAMPLE_NEAREST_BWD(T, dtype)                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        upsample_nearest_bwd_##dtype(const Nearest p, const T* gy, T* gx) {                                            \
        upsample_nearest_bwd(p, gy, gx);                                                                               \
    }
FOR_FLOATS(UPSAMPLE_NEAREST_BWD)

// As `Scale` in src/ops/resample.rs: output o reads position (step · o + offset) / unit of the input.
struct Scale {
    int size, out, step, offset, unit;

    // Outputs first ≤ o < end that may read pixel i: those whose position is less than a pixel away.
    __device__ __forceinline__ int first_output(int i) const {
        int before = (i - 1) * unit - offset;
        return step == 0 || before < 0 ? 0 : before / step + 1;
    }
    __device__ __forceinline__ int end_output(int i) const {
        int behind = (i + 1) * unit - offset;
        return step == 0 ? out : min((max(behind, 0) + step - 1) / step, out);
    }
};

// The two pixels that an output lies between, and the weight of the second.
template <class W> struct Source {
    int below, above;
    W share;

    __device__ __forceinline__ Source(const Scale& scale, int o) {
        int position = max(scale.step * o + scale.offset, 0);
        below = position / scale.unit;
        above = min(below + 1, scale.size - 1);
        share = W(position - below * scale.unit) / W(scale.unit); // and not times 1 / unit: quarters are exact
    }
    // What the output takes of pixel i.
    __device__ __forceinline__ W weight(int i) const { return (below == i ? W(1) - share : W(0)) + (above == i ? share : W(0)); }
};

// As `Bilinear` in src/ops/resample.rs.
struct Bilinear {
    int n, c;
    Scale rows, cols;
};

// y = the mixture of the four pixels around the output's position.
template <class T> __device__ __forceinline__ void bilinear_fwd(const Bilinear& p, const T* x, T* y) {
    with_place<T>(p.rows.out, p.cols.out, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        using W = Wide<T>;
        const Source<W> row(p.rows, place.line), col(p.cols, place.pixel);
        auto mix = [&](int line) {
            auto left = read<N>(x + place.offset(p.rows.size, p.cols.size, p.c, line, col.below));
            auto right = read<N>(x + place.offset(p.rows.size, p.cols.size, p.c, line, col.above));
            for (int i = 0; i < N; i++) left.v[i] = left.v[i] * (W(1) - col.share) + right.v[i] * col.share;
            return left;
        };
        auto upper = mix(row.below), lower = mix(row.above);
        for (int i = 0; i < N; i++) upper.v[i] = upper.v[i] * (W(1) - row.share) + lower.v[i] * row.share;
        write<N>(y + place.offset(p.rows.out, p.cols.out, p.c), upper);
    });
}
#define BILINEAR_FWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) bilinear_fwd_##dtype(const Bilinear p, const T* x, T* y) {   \
        bilinear_fwd(p, x, y);                                                                                         \
    }
FOR_FLOATS(BILINEAR_FWD)

// gx = Σ gy · weight over the outputs that read the pixel.
template <class T> __device__ __forceinline__ void bilinear_bwd(const Bilinear& p, const T* gy, T* gx) {
    with_place<T>(p.rows.size, p.cols.size, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        using W = Wide<T>;
        const int first = p.cols.first_output(place.pixel), end = p.cols.end_output(place.pixel);
        const int end_line = p.rows.end_output(place.line);
        Pack<W, N> sum = {};
        for (int oh = p.rows.first_output(place.line); oh < end_line; oh++) {
            const W down = Source<W>(p.rows, oh).weight(place.line);
            const T* line = gy + place.offset(p.rows.out, p.cols.out, p.c, oh, 0);
            for (int ow = first; ow < end; ow++) {
                const W weight = down * Source<W>(p.cols, ow).weight(place.pixel);
                auto g = read<N>(line + (long long)ow * p.c);
                for (int i = 0; i < N; i++) sum.v[i] += g.v[i] * weight;
            }
        }
        write<N>(gx + place.offset(p.rows.size, p.cols.size, p.c), sum);
    });
}
#define BILINEAR_BWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) bilinear_bwd_##dtype(const Bilinear p, const T* gy, T* gx) { \
        bilinear_bwd(p, gy, gx);                                                                                       \
    }
FOR_FLOATS(BILINEAR_BWD)

// As `Shift` in src/ops/resample.rs.
struct Shift {
    int n, h, w, c, oh, ow, top, left;
};

// y[oh, ow] = x[oh + top, ow + left], or 0 where x has no such pixel.
template <class T> __device__ __forceinline__ void crop_or_pad(const Shift& p, const T* x, T* y) {
    with_place<T>(p.oh, p.ow, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        const int h = place.line + p.top, w = place.pixel + p.left;
        Pack<T, N> v;
        for (int i = 0; i < N; i++) v.v[i] = narrow<T>(0);
        if (h >= 0 && h < p.h && w >= 0 && w < p.w) v = load<N>(x + place.offset(p.h, p.w, p.c, h, w));
        store(y + place.offset(p.oh, p.ow, p.c), v);
    });
}
#define CROP_OR_PAD(T, dtype)                                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS) crop_or_pad_##dtype(const Shift p, const T* x, T* y) {       \
        crop_or_pad(p, x, y);                                                                                          \
    }
FOR_FLOATS(CROP_OR_PAD)
