// Max, average, global and adaptive average pooling of x [n, h, w, c]. Backward gathers: each input pixel looks at the windows
// that cover it, in their order. All are bound by bytes; windows that overlap find their common pixels in cache. A thread writes 16
// bytes (place.cuh); in global pooling a block has a span of the channels of one image (channels.cuh).
#include "place.cuh"

// As `Pool` in src/ops/pool.rs.
struct Pool {
    int n, h, w, c, oh, ow, r, s, stride_h, stride_w, pad_h, pad_w, count_pad;
};

// One axis of the window.
struct Axis {
    int size, out, kernel, stride, pad;

    // Taps first ≤ tap < end of the window at o that fall inside the image.
    __device__ __forceinline__ int first_tap(int o) const { return max(pad - o * stride, 0); }
    __device__ __forceinline__ int end_tap(int o) const { return min(kernel, size + pad - o * stride); }

    // x / stride, without a division for the one that nearly all have.
    __device__ __forceinline__ int strides(int x) const { return stride == 2 ? x >> 1 : x / stride; }

    // Windows first ≤ o < end that cover position i.
    __device__ __forceinline__ int first_window(int i) const { return strides(max(i + pad + 1 - kernel, 0) + stride - 1); }
    __device__ __forceinline__ int end_window(int i) const { return min(strides(i + pad) + 1, out); }

    // Positions that count in the average under the window at o: those inside the image, or also those in the padding.
    __device__ __forceinline__ int extent(int o, bool count_pad) const {
        return count_pad ? min(kernel, size + 2 * pad - o * stride) : end_tap(o) - first_tap(o);
    }
};

__device__ __forceinline__ Axis rows_of(const Pool& p) { return {p.h, p.oh, p.r, p.stride_h, p.pad_h}; }
__device__ __forceinline__ Axis cols_of(const Pool& p) { return {p.w, p.ow, p.s, p.stride_w, p.pad_w}; }

// What the average under the window at (oh, ow) is multiplied by.
template <class W> __device__ __forceinline__ W factor(const Pool& p, const Axis& rows, const Axis& cols, int oh, int ow) {
    return W(1) / W(rows.extent(oh, p.count_pad) * cols.extent(ow, p.count_pad));
}

// Calls body(tap, x) with each pixel x under the window at a place of the output, N channels of it.
template <int N, class T, class Body>
__device__ __forceinline__ void for_taps(const Pool& p, const Axis& rows, const Axis& cols, const Place<N>& place, const T* x, Body body) {
    for (int r = rows.first_tap(place.line); r < rows.end_tap(place.line); r++) {
        int ih = place.line * rows.stride + r - rows.pad, iw = place.pixel * cols.stride - cols.pad;
        const T* line = x + place.offset(p.h, p.w, p.c, ih, 0);
#pragma unroll 3
        for (int s = cols.first_tap(place.pixel); s < cols.end_tap(place.pixel); s++) {
            body(r * cols.kernel + s, read<N>(line + (long long)(iw + s) * p.c));
        }
    }
}

// y [n, oh, ow, c]: the largest value under each window, and the tap it was found at. The first maximum wins, and NaN beats
// everything: both as in PyTorch.
template <class T> __device__ __forceinline__ void max_pool_fwd(const Pool& p, const T* x, T* y, uint8_t* argmax) {
    with_place<T>(p.oh, p.ow, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        const Axis rows = rows_of(p), cols = cols_of(p);
        Pack<Wide<T>, N> best;
        Pack<uint8_t, N> winner;
        for (int i = 0; i < N; i++) {
            best.v[i] = -INFINITY;
            // Also where nothing is greater, the place is one inside the image.
            winner.v[i] = rows.first_tap(place.line) * cols.kernel + cols.first_tap(place.pixel);
        }
        for_taps(p, rows, cols, place, x, [&](int tap, auto v) {
            for (int i = 0; i < N; i++) {
                bool take = v.v[i] > best.v[i] || (v.v[i] != v.v[i] && best.v[i] == best.v[i]);
                best.v[i] = take ? v.v[i] : best.v[i];
                winner.v[i] = take ? uint8_t(tap) : winner.v[i];
            }
        });
        long long at = place.offset(p.oh, p.ow, p.c);
        write<N>(y + at, best);
        store<N>(argmax + at, winner);
    });
}
#define MAX_POOL_FWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        max_pool_fwd_##dtype(const Pool p, const T* x, T* y, uint8_t* argmax) {                                        \
        max_pool_fwd(p, x, y, argmax);                                                                                 \
    }
FOR_FLOATS(MAX_POOL_FWD)

// Calls body(oh, ow, offset of the thread's channels in [n, oh, ow, c]) for every window that covers a place of the input.
template <int N, class Body> __device__ __forceinline__ void for_windows(const Pool& p, const Place<N>& place, Body body) {
    const Axis rows = rows_of(p), cols = cols_of(p);
    const int first = cols.first_window(place.pixel), end = cols.end_window(place.pixel);
    const int end_row = rows.end_window(place.line);
    for (int oh = rows.first_window(place.line); oh < end_row; oh++) {
        long long line = ((long long)place.n * p.oh + oh) * p.ow;
#pragma unroll 2
        for (int ow = first; ow < end; ow++) body(oh, ow, (line + ow) * p.c + place.channel);
    }
}

// gx[h, w] = Σ gy[oh, ow] over the windows whose maximum was found at (h, w).
template <class T> __device__ __forceinline__ void max_pool_bwd(const Pool& p, const T* gy, const uint8_t* argmax, T* gx) {
    with_place<T>(p.h, p.w, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        Pack<Wide<T>, N> sum = {};
        for_windows(p, place, [&](int oh, int ow, long long at) {
            int r = place.line + p.pad_h - oh * p.stride_h, s = place.pixel + p.pad_w - ow * p.stride_w;
            auto g = read<N>(gy + at);
            auto winner = load<N>(argmax + at);
            for (int i = 0; i < N; i++) sum.v[i] += winner.v[i] == r * p.s + s ? g.v[i] : Wide<T>(0);
        });
        write<N>(gx + place.offset(p.h, p.w, p.c), sum);
    });
}
#define MAX_POOL_BWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                              \
        max_pool_bwd_##dtype(const Pool p, const T* gy, const uint8_t* argmax, T* gx) {                                \
        max_pool_bwd(p, gy, argmax, gx);                                                                               \
    }
FOR_FLOATS(MAX_POOL_BWD)

// y[oh, ow] = Σ x over the window / its extent.
template <class T> __device__ __forceinline__ void avg_pool_fwd(const Pool& p, const T* x, T* y) {
    with_place<T>(p.oh, p.ow, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        const Axis rows = rows_of(p), cols = cols_of(p);
        Pack<Wide<T>, N> sum = {};
        for_taps(p, rows, cols, place, x, [&](int, auto v) {
            for (int i = 0; i < N; i++) sum.v[i] += v.v[i];
        });
        const Wide<T> share = factor<Wide<T>>(p, rows, cols, place.line, place.pixel);
        for (int i = 0; i < N; i++) sum.v[i] *= share;
        write<N>(y + place.offset(p.oh, p.ow, p.c), sum);
    });
}
#define AVG_POOL_FWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) avg_pool_fwd_##dtype(const Pool p, const T* x, T* y) {       \
        avg_pool_fwd(p, x, y);                                                                                         \
    }
FOR_FLOATS(AVG_POOL_FWD)

// gx[h, w] = Σ gy[oh, ow] / extent over the windows that cover (h, w).
template <class T> __device__ __forceinline__ void avg_pool_bwd(const Pool& p, const T* gy, T* gx) {
    with_place<T>(p.h, p.w, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        const Axis rows = rows_of(p), cols = cols_of(p);
        Pack<Wide<T>, N> sum = {};
        for_windows(p, place, [&](int oh, int ow, long long at) {
            const Wide<T> share = factor<Wide<T>>(p, rows, cols, oh, ow);
            auto g = read<N>(gy + at);
            for (int i = 0; i < N; i++) sum.v[i] += g.v[i] * share;
        });
        write<N>(gx + place.offset(p.h, p.w, p.c), sum);
    });
}
#define AVG_POOL_BWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 4) avg_pool_bwd_##dtype(const Pool p, const T* gy, T* gx) {     \
        avg_pool_bwd(p, gy, gx);                                                                                       \
    }
FOR_FLOATS(AVG_POOL_BWD)

// As `Global` in src/ops/pool.rs: n images of hw pixels.
struct Global {
    int n, hw, c;
};

// Pixels that a block of the backward pass covers; `GLOBAL_ROWS` in src/ops/pool.rs must agree.
constexpr int GLOBAL_ROWS = 256;

// y[n, c] = Σ x / hw over the pixels of the image. Block (image, span of channels).
template <class T>
__device__ __forceinline__ void global_avg_pool_fwd(const Global& p, const T* x, Wide<T>* y) {
    __shared__ ColumnSlots<T> slots;
    with_lane<T>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        Pack<Wide<T>, N> sums[1] = {};
        const long long n = range_of_block();
        auto add = [&](long long, auto v) {
            for (int i = 0; i < N; i++) sums[0].v[i] += v.v[i];
        };
        if (lane.active) for_rows(lane, p.hw, n * p.hw * p.c + lane.channel, p.c, add, x);
        column_sums(lane, sums, slots, [&](int, int column, Wide<T> sum) {
            int channel = lane.block_channel() + column;
            if (channel < p.c) y[n * p.c + channel] = sum * (Wide<T>(1) / Wide<T>(p.hw));
        });
    });
}
#define GLOBAL_AVG_POOL_FWD(T, dtype)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        global_avg_pool_fwd_##dtype(const Global p, const T* x, Wide<T>* y) {                                          \
        global_avg_pool_fwd(p, x, y);                                                                                  \
    }
FOR_FLOATS(GLOBAL_AVG_POOL_FWD)

// gx[n, hw, c] = gy[n, c] / hw. Block (image, span of channels, GLOBAL_ROWS pixels).
template <class T>
__device__ __forceinline__ void global_avg_pool_bwd(const Global& p, const Wide<T>* gy, T* gx) {
    with_lane<T>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        if (!lane.active) return;
        const long long n = range_of_block();
        auto share = load<N>(gy + n * p.c + lane.channel);
        for (int i = 0; i < N; i++) share.v[i] *= Wide<T>(1) / Wide<T>(p.hw);
        int first = blockIdx.z * GLOBAL_ROWS, rows = min(GLOBAL_ROWS, p.hw - first);
        T* image = gx + (n * p.hw + first) * p.c + lane.channel;
        for (int row = lane.row; row < rows; row += lane.step) write<N>(image + (long long)row * p.c, share);
    });
}
#define GLOBAL_AVG_POOL_BWD(T, dtype)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        global_avg_pool_bwd_##dtype(const Global p, const Wide<T>* gy, T* gx) {                                        \
        global_avg_pool_bwd<T>(p, gy, gx);                                                                             \
    }
FOR_FLOATS(GLOBAL_AVG_POOL_BWD)

// As `Adaptive` in src/ops/pool.rs.
struct Adaptive {
    int n, h, w, c, oh, ow;
};

// Cells first ≤ j < end of an axis of `to` cells that cell i of the same axis cut into `from` cells overlaps.
struct Overlap {
    int first, end;

    __device__ __forceinline__ Overlap(int i, int from, int to) : first(i * to / from), end(ceil_div((i + 1) * to, from)) {}
    __device__ __forceinline__ int size() const { return end - first; }
};

// y[oh, ow] = the mean of x over the pixels that cell (oh, ow) overlaps.
template <class T> __device__ __forceinline__ void adaptive_avg_pool_fwd(const Adaptive& p, const T* x, T* y) {
    with_place<T>(p.oh, p.ow, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        const Overlap rows(place.line, p.oh, p.h), cols(place.pixel, p.ow, p.w);
        Pack<Wide<T>, N> sum = {};
        for (int h = rows.first; h < rows.end; h++) {
            const T* line = x + place.offset(p.h, p.w, p.c, h, 0);
#pragma unroll 2
            for (int w = cols.first; w < cols.end; w++) {
                auto v = read<N>(line + (long long)w * p.c);
                for (int i = 0; i < N; i++) sum.v[i] += v.v[i];
            }
        }
        const Wide<T> share = Wide<T>(1) / Wide<T>(rows.size() * cols.size());
        for (int i = 0; i < N; i++) sum.v[i] *= share;
        write<N>(y + place.offset(p.oh, p.ow, p.c), sum);
    });
}
#define ADAPTIVE_AVG_POOL_FWD(T, dtype)                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        adaptive_avg_pool_fwd_##dtype(const Adaptive p, const T* x, T* y) {                                            \
        adaptive_avg_pool_fwd(p, x, y);                                                                                \
    }
FOR_FLOATS(ADAPTIVE_AVG_POOL_FWD)

// gx[h, w] = Σ gy / size over the cells that overlap pixel (h, w).
template <class T> __device__ __forceinline__ void adaptive_avg_pool_bwd(const Adaptive& p, const T* gy, T* gx) {
    with_place<T>(p.h, p.w, p.c, [&](auto place) {
        constexpr int N = decltype(place)::N;
        const Overlap rows(place.line, p.h, p.oh), cols(place.pixel, p.w, p.ow);
        Pack<Wide<T>, N> sum = {};
        for (int oh = rows.first; oh < rows.end; oh++) {
            const T* line = gy + place.offset(p.oh, p.ow, p.c, oh, 0);
            const int height = Overlap(oh, p.oh, p.h).size();
#pragma unroll 1
            for (int ow = cols.first; ow < cols.end; ow++) {
                const Wide<T> share = Wide<T>(1) / Wide<T>(height * Overlap(ow, p.ow, p.w).size());
                auto g = read<N>(line + (long long)ow * p.c);
                for (int i = 0; i < N; i++) sum.v[i] += g.v[i] * share;
            }
        }
        write<N>(gx + place.offset(p.h, p.w, p.c), sum);
    });
}
#define ADAPTIVE_AVG_POOL_BWD(T, dtype)                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        adaptive_avg_pool_bwd_##dtype(const Adaptive p, const T* gy, T* gx) {                                          \
        adaptive_avg_pool_bwd(p, gy, gx);                                                                              \
    }
FOR_FLOATS(ADAPTIVE_AVG_POOL_BWD)
