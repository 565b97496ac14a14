// Depthwise convolution: y[n, oh, ow, c] = Σ_rs x[n, oh·stride + r − pad, ow·stride + s − pad, c] · w[c, r, s], its gradients and,
// with it, the moments of its result. Images are NHWC.
// One image is read and one written, so bytes bound all of them (5x5 windows come close to the arithmetic bound in half types).
// A thread keeps a pack of channels (channels.cuh) of COLS neighbouring columns, a tile, and walks down the lines: it loads and
// widens each line of its source once, adds it to the sums of all lines that meet it, which stay in registers, and has the next
// line under way meanwhile. In bf16 that is 25 instructions an element for 3x3, 31 with moments, and 55 for 5x5; while it moves
// the 4 bytes of one at 2.5 TB/s, an H200 has time for 47. The pixels of a batch are fewer than 2^31.
// Launch: BLOCK threads for each span of channels and each band of lines (src/ops/depthwise/mod.rs); forward and dgrad keep the
// block's taps in dynamic shared memory. A band leaves one part of the moments, and one of gw for `combine_parts` (conv_wgrad.cu).
#include "depthwise.cuh"

// Makes the lines of a run, and calls emit(line, sums) with each. `source` is the image at the thread's pack of channels, `taps`
// are those in shared memory at the pack.
template <class Direction, int N, class W, class T, class Emit>
__device__ __forceinline__ void sum_windows(W, const Conv& p, const Run& run, const T* source, const Wide<T>* taps, Emit emit) {
    constexpr int OPEN = Direction::template OPEN<W>, ENDS = Direction::template ENDS<W>, TAKES = Direction::template TAKES<W>;
    const int steps = run.end - run.first + W::HALO, first = Direction::template first_source_line<W>(p, run.first);
    constexpr int REACH = Direction::template REACH<W>;
    Walk<REACH, N, T> walk(source, Direction::source_lines(p), Direction::source_columns(p), p.c, first,
                           first + steps * TAKES, Direction::template first_source<W>(p, run.tile));
    Pack<Wide<T>, N> sums[OPEN][W::COLS] = {};
#pragma unroll 1
    for (int step = run.first - W::HALO; step < run.end; step++) {
        forget_shared();
#pragma unroll
        for (int line = 0; line < TAKES; line++) {
            Pack<Wide<T>, N> x[REACH];
            walk.for_next([&](int j, const Pack<T, N>& stored) { x[j] = widen(stored); });
#pragma unroll
            for (int k = 0; k < OPEN; k++) {
                const int r = Direction::template line_tap<W>(k, line);
                if (r >= W::S) continue;
                Pack<Wide<T>, N> tap[W::S];
#pragma unroll
                for (int s = 0; s < W::S; s++) tap[s] = load<N>(taps + (r * W::S + s) * SPAN<T>);
#pragma unroll
                for (int j = 0; j < REACH; j++) {
#pragma unroll
                    for (int i = 0; i < W::COLS; i++) {
                        const int s = Direction::template tap<W>(i, j);
                        if (s < 0 || s >= W::S) continue;
                        for (int n = 0; n < N; n++) sums[k][i].v[n] += x[j].v[n] * tap[s].v[n];
                    }
                }
            }
        }
#pragma unroll
        for (int k = 0; k < ENDS; k++) {
            if (step >= run.first) emit(Direction::first_line(p, step) + k, sums[k]);
        }
#pragma unroll
        for (int k = 0; k < OPEN; k++) {
#pragma unroll
            for (int i = 0; i < W::COLS; i++) sums[k][i] = k + ENDS < OPEN ? sums[k + ENDS][i] : Pack<Wide<T>, N>{};
        }
    }
}

// The same for any window.
template <class Direction, int N, class T, class Emit>
__device__ __forceinline__ void sum_windows(AnyWindow, const Conv& p, const Run& run, const T* source, const Wide<T>* taps, Emit emit) {
    using W = AnyWindow;
    const int columns = Direction::source_columns(p);
    for (int line = Direction::first_line(p, run.first); line < Direction::first_line(p, run.end); line++) {
        Pack<Wide<T>, N> sums[W::COLS] = {};
        for (int r = Direction::first_tap(p, line); r < p.r; r += Direction::tap_step(p)) {
            const int source_line = Direction::source_line(p, line, r);
            if (unsigned(source_line) >= unsigned(Direction::source_lines(p))) continue;
            const T* x = source + (long long)source_line * columns * p.c;
            for (int s = 0; s < p.s; s++) {
                auto tap = load<N>(taps + (r * p.s + s) * SPAN<T>);
#pragma unroll
                for (int i = 0; i < W::COLS; i++) {
                    int column = Direction::source_column(p, Direction::template first_column<W>(p, run.tile) + i, s);
                    auto v = widen(load_column<N>(x, column, columns, p.c));
                    for (int n = 0; n < N; n++) sums[i].v[n] += v.v[n] * tap.v[n];
                }
            }
        }
        emit(line, sums);
    }
}

// Writes y or gx, of `height` lines and `width` columns, and calls use(i, x) with the pack of column i as stored.
template <class Direction, int N, class T, class Use>
__device__ __forceinline__ void depthwise_tiles(const Conv& p, const Lane<N>& lane, const T* source, const Wide<T>* taps, T* out,
                                                int height, int width, Use use) {
    const long long image = (long long)Direction::source_lines(p) * Direction::source_columns(p) * p.c;
    with_window<Direction, T, N>(p, [&](auto window) {
        using W = decltype(window);
        for_runs<Direction, W>(p, lane, [&](const Run& run) {
            const int first = Direction::template first_column<W>(p, run.tile);
            T* corner = out + ((long long)run.image * height * width + first) * p.c + lane.channel;
            auto emit = [&](int line, const Pack<Wide<T>, N>(&sums)[W::COLS]) {
                if (unsigned(line) >= unsigned(height)) return;
                T* at = corner + (long long)line * width * p.c;
#pragma unroll
                for (int i = 0; i < W::COLS; i++) {
                    if (unsigned(first + i) >= unsigned(width)) continue;
                    Pack<T, N> stored;
                    for (int n = 0; n < N; n++) stored.v[n] = narrow<T>(sums[i].v[n]);
                    store<N>(at + unsigned(i * p.c), stored);
                    use(i, stored);
                }
            };
            sum_windows<Direction, N>(window, p, run, source + run.image * image + lane.channel, taps + lane.column, emit);
        });
    });
}

// y, and if MOMENTS its moments [gridDim.x, 2, c] of the values as stored. Block: a band of lines of y, a span of channels.
template <bool MOMENTS, class T>
__device__ __forceinline__ void depthwise_fwd(const Conv& p, const T* x, const T* w, T* y, Wide<T>* moments,
                                              MomentSlots<T>* slots) {
    DYN_SHARED(Wide<T>, taps);
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        stage_taps(p, lane, w, taps);
        OwnMoments<T, N> own = {};
        auto use = [&](int i, const Pack<T, N>& stored) {
            if constexpr (!MOMENTS) return;
            const auto x = widen(stored);
            if (i == 0) own.begin(x); // the first column of a tile is never beyond the image
            own.add(x);
        };
        if (lane.active) depthwise_tiles<Forward>(p, lane, x, taps, y, p.oh, p.ow, use);
        if constexpr (MOMENTS) {
            block_moments(lane, own, Band(p.n * p.oh).steps * p.ow, p.c, moments + (long long)range_of_block() * 2 * p.c, *slots);
        }
    });
}
#define DEPTHWISE_FWD(T, dtype)                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK, 5)                                                             \
        depthwise_fwd_##dtype(const Conv p, const T* x, const T* w, T* y) {                                            \
        depthwise_fwd<false, T>(p, x, w, y, nullptr, nullptr);                                                         \
    }
FOR_FLOATS(DEPTHWISE_FWD)
#define DEPTHWISE_MOMENTS_FWD(T, dtype)                                                                                \
    extern "C" __global__ void __launch_bounds__(BLOCK, 4)                                                             \
        depthwise_moments_fwd_##dtype(const Conv p, const T* x, const T* w, T* y, Wide<T>* moments) {                  \
        __shared__ MomentSlots<T> slots;                                                                               \
        depthwise_fwd<true, T>(p, x, w, y, moments, &slots);                                                           \
    }
FOR_FLOATS(DEPTHWISE_MOMENTS_FWD)

// gx. Block: a band of steps of Backward, a span of channels.
template <class T> __device__ __forceinline__ void depthwise_dgrad(const Conv& p, const T* gy, const T* w, T* gx) {
    DYN_SHARED(Wide<T>, taps);
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        stage_taps(p, lane, w, taps);
        if (lane.active) depthwise_tiles<Backward>(p, lane, gy, taps, gx, p.h, p.w, [](int, auto&) {});
    });
}
#define DEPTHWISE_DGRAD(T, dtype)                                                                                      \
    extern "C" __global__ void __launch_bounds__(BLOCK, 5)                                                             \
        depthwise_dgrad_##dtype(const Conv p, const T* gy, const T* w, T* gx) {                                        \
        depthwise_dgrad(p, gy, w, gx);                                                                                 \
    }
FOR_FLOATS(DEPTHWISE_DGRAD)

// Taps that are added up over the rows of threads at a time: a line of the widest window that is known.
constexpr int TAP_SLOTS = 5;
template <class T> using TapSlots = ColumnSlots<T, TAP_SLOTS, CHANNELS<T>>;

// The block's part of K taps from `tap` on: the sum of what its threads have.
template <int K, int N, class T>
__device__ __forceinline__ void write_taps(const Conv& p, const Lane<N>& lane, const Pack<Wide<T>, N> (&sums)[K], int tap,
                                           TapSlots<T>& slots, Wide<T>* gw) {
    const int taps = p.r * p.s, block_channel = lane.block_channel();
    const long long first = (long long)range_of_block() * p.c + block_channel;
    __syncthreads(); // the slots may still be read
    column_sums(lane, sums, slots, [&](int k, int column, Wide<T> sum) {
        if (block_channel + column < p.c) gw[(first + column) * taps + tap + k] = sum;
    });
}

// Sums of a known window's taps over the thread's runs. `x` and `gy` are the batches at the thread's pack of channels.
template <class W, int N, class T>
__device__ __forceinline__ void depthwise_wgrad(W, const Conv& p, const Lane<N>& lane, const T* x, const T* gy, TapSlots<T>& slots,
                                                Wide<T>* gw) {
    constexpr int OPEN = Forward::OPEN<W>, REACH = Forward::REACH<W>, S = W::S;
    Pack<Wide<T>, N> sums[S][S] = {};
    auto add = [&](const Run& run) {
        const int steps = run.end - run.first + W::HALO, first = Forward::first_source_line<W>(p, run.first);
        Walk<REACH, N, T> xs(x + (long long)run.image * p.h * p.w * p.c, p.h, p.w, p.c, first,
                             first + steps * W::STRIDE, Forward::first_source<W>(p, run.tile));
        Walk<W::COLS, N, T> gs(gy + (long long)run.image * p.oh * p.ow * p.c, p.oh, p.ow, p.c, run.first, run.end, run.tile * W::COLS);
        Pack<T, N> g[OPEN][W::COLS] = {};
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
#pragma unroll
            for (int k = 0; k + 1 < OPEN; k++) {
#pragma unroll
                for (int i = 0; i < W::COLS; i++) g[k][i] = g[k + 1][i];
            }
            gs.for_next([&](int i, const Pack<T, N>& v) { g[OPEN - 1][i] = v; });
#pragma unroll
            for (int line = 0; line < W::STRIDE; line++) {
                Pack<Wide<T>, N> v[REACH];
                xs.for_next([&](int j, const Pack<T, N>& stored) { v[j] = widen(stored); });
#pragma unroll
                for (int k = 0; k < OPEN; k++) {
                    const int r = Forward::line_tap<W>(k, line);
                    if (r >= S) continue;
#pragma unroll
                    for (int i = 0; i < W::COLS; i++) {
                        const auto own = widen(g[k][i]);
#pragma unroll
                        for (int s = 0; s < S; s++) {
                            for (int n = 0; n < N; n++) sums[r][s].v[n] += v[i * W::STRIDE + s].v[n] * own.v[n];
                        }
                    }
                }
            }
        }
    };
    if (lane.active) for_runs<Forward, W>(p, lane, add);
#pragma unroll
    for (int r = 0; r < S; r++) write_taps<S, N, T>(p, lane, sums[r], r * S, slots, gw);
}

// The same for any window, tap after tap.
template <int N, class T>
__device__ __forceinline__ void depthwise_wgrad(AnyWindow, const Conv& p, const Lane<N>& lane, const T* x, const T* gy,
                                                TapSlots<T>& slots, Wide<T>* gw) {
    using W = AnyWindow;
    for (int tap = 0; tap < p.r * p.s; tap++) {
        Pack<Wide<T>, N> sums[1] = {};
        auto add = [&](const Run& run) {
            for (int line = run.first; line < run.end; line++) {
                const int x_line = Forward::source_line(p, line, tap / p.s);
                if (unsigned(x_line) >= unsigned(p.h)) continue;
                const T* g = gy + ((long long)run.image * p.oh + line) * p.ow * p.c;
                const T* v = x + ((long long)run.image * p.h + x_line) * p.w * p.c;
#pragma unroll
                for (int i = 0; i < W::COLS; i++) {
                    const int column = run.tile * W::COLS + i;
                    auto a = widen(load_column<N>(g, column, p.ow, p.c));
                    auto b = widen(load_column<N>(v, Forward::source_column(p, column, tap % p.s), p.w, p.c));
                    for (int n = 0; n < N; n++) sums[0].v[n] += a.v[n] * b.v[n];
                }
            }
        };
        if (lane.active) for_runs<Forward, W>(p, lane, add);
        write_taps<1, N, T>(p, lane, sums, tap, slots, gw);
    }
}

// The block's of gridDim.x parts of gw[c, r, s] = Σ gy[n, oh, ow, c] · x[n, oh·stride + r − pad, ow·stride + s − pad, c]: the sum
// over a band of lines of gy. Block: a part, a span of channels.
template <class T>
__device__ __forceinline__ void depthwise_wgrad(const Conv& p, const T* x, const T* gy, Wide<T>* gw) {
    __shared__ TapSlots<T> slots;
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        with_window<Forward, T, decltype(lane)::N>(p, [&](auto window) {
            depthwise_wgrad(window, p, lane, x + lane.channel, gy + lane.channel, slots, gw);
        });
    });
}
#define DEPTHWISE_WGRAD(T, dtype)                                                                                      \
    extern "C" __global__ void __launch_bounds__(BLOCK, 4)                                                             \
        depthwise_wgrad_##dtype(const Conv p, const T* x, const T* gy, Wide<T>* gw) {                                  \
        depthwise_wgrad(p, x, gy, gw);                                                                                 \
    }
FOR_FLOATS(DEPTHWISE_WGRAD)
