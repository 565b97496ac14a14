// Depthwise convolution: y[n, oh, ow, c] = Σ_rs x[n, oh·stride + r − pad, ow·stride + s − pad, c] · w[c, r, s], its gradients and,
// with it, the moments of its result. Images are NHWC.
// One image is read and one written, so bytes bound all of them (5x5 windows come close to the arithmetic bound in half types).
// A thread keeps a pack of channels (channels.cuh) and makes COLS neighbouring pixels of a line at a time, so that windows that
// overlap along a line share their loads and the taps of a line are read once; those that overlap across lines meet in cache.
// Packs are of four, so that the sums and taps of a tile fit in registers. The pixels of a batch are fewer than 2^31.
#include "moments.cuh"

// As `Conv` in src/ops/conv/mod.rs, with k == c.
struct Conv {
    int n, h, w, c, k, r, s, oh, ow, stride_h, stride_w, pad_h, pad_w;
};

// Neighbouring pixels of one tile; `COLS` in src/ops/depthwise/mod.rs must agree.
constexpr int COLS = 4;
// Channels of a thread, where c is a multiple of them.
template <class T> constexpr int CHANNELS = PACK<T> < 4 ? PACK<T> : 4;

// Width and horizontal stride of a window, known to the compiler; width 0 stands for any.
template <int S_, int STRIDE_> struct Window {
    static constexpr int S = S_, STRIDE = STRIDE_;
};

// Runs body(Window<S, STRIDE>()): the usual windows by name, as far as their loads fit in registers, and Window<0, 0> for others.
template <int N, class Body> __device__ __forceinline__ void with_window(const Conv& p, Body body) {
    if constexpr (N == 4) {
        if (p.s == 3 && p.stride_w == 1) return body(Window<3, 1>());
        if (p.s == 3 && p.stride_w == 2) return body(Window<3, 2>());
        if (p.s == 5 && p.stride_w == 1) return body(Window<5, 1>());
    }
    body(Window<0, 0>());
}

// The sum of windows that makes y of x. A tile is COLS pixels of y from column COLS·i on.
struct Forward {
    static __device__ int lines(const Conv& p) { return p.oh; }
    static __device__ int columns(const Conv& p) { return p.ow; }
    static __device__ int source_lines(const Conv& p) { return p.h; }
    static __device__ int source_columns(const Conv& p) { return p.w; }
    static __device__ int first_column(const Conv& p, int tile) { return tile * COLS; }

    // Along r: the first tap, the distance of the next, and the line of x that a tap meets.
    static __device__ int first_tap(const Conv& p, int line) { return 0; }
    static __device__ int tap_step(const Conv& p) { return 1; }
    static __device__ int source_line(const Conv& p, int line, int r) { return line * p.stride_h + r - p.pad_h; }
    // Along s: the column of x that tap s of the pixel in `column` meets, or a negative number.
    static __device__ int source_column(const Conv& p, int column, int s) { return column * p.stride_w + s - p.pad_w; }

    // The columns of x that the windows of a tile reach: how many, the first, and the tap by which pixel i of the tile meets
    // the j-th; none if it is not in 0..S.
    template <class W> static constexpr int REACH = (COLS - 1) * W::STRIDE + W::S;
    template <class W> static __device__ int first_source(const Conv& p, int tile) { return tile * COLS * W::STRIDE - p.pad_w; }
    template <class W> static constexpr __device__ int tap(int i, int j) { return j - i * W::STRIDE; }
};

// The sum that makes gx of gy: pixel (h, w) meets the windows that read it, so gy[(h + pad − r) / stride] where that is whole.
// A tile begins at column COLS·i − pad, so that its taps do not depend on the padding.
struct Backward {
    static __device__ int lines(const Conv& p) { return p.h; }
    static __device__ int columns(const Conv& p) { return p.w; }
    static __device__ int source_lines(const Conv& p) { return p.oh; }
    static __device__ int source_columns(const Conv& p) { return p.ow; }
    static __device__ int first_column(const Conv& p, int tile) { return tile * COLS - p.pad_w; }

    static __device__ int first_tap(const Conv& p, int line) { return (line + p.pad_h) % p.stride_h; }
    static __device__ int tap_step(const Conv& p) { return p.stride_h; }
    static __device__ int source_line(const Conv& p, int line, int r) {
        int reach = line + p.pad_h - r;
        return reach < 0 ? -1 : reach / p.stride_h;
    }
    static __device__ int source_column(const Conv& p, int column, int s) {
        int reach = column + p.pad_w - s;
        return reach < 0 || reach % p.stride_w ? -1 : reach / p.stride_w;
    }

    template <class W> static constexpr int BEFORE = (W::S - 1) / W::STRIDE;
    template <class W> static constexpr int REACH = BEFORE<W> + (COLS - 1) / W::STRIDE + 1;
    template <class W> static __device__ int first_source(const Conv&, int tile) { return tile * COLS / W::STRIDE - BEFORE<W>; }
    template <class W> static constexpr __device__ int tap(int i, int j) { return i - (j - BEFORE<W>) * W::STRIDE; }
};

// The taps of the block's channels in shared memory, [r·s, channels of the block].
template <int N, class T>
__device__ __forceinline__ void stage_taps(const Conv& p, const Lane<N>& lane, const T* w, T* taps) {
    const int columns = lane.width * N, size = p.r * p.s, first = lane.channel - lane.column;
    for (int i = threadIdx.x; i < columns * size; i += blockDim.x) {
        int column = i / size, tap = i % size;
        taps[tap * columns + column] = first + column < p.c ? w[(long long)first * size + i] : narrow<T>(0);
    }
    __syncthreads();
}

// Elements at a column of a line, zeros where there is none.
template <int N, class T> __device__ __forceinline__ Pack<T, N> load_column(const T* line, int column, int columns, int c) {
    Pack<T, N> zeros = {};
    return unsigned(column) < unsigned(columns) ? load<N>(line + (long long)column * c) : zeros;
}

// The sums of the windows of one tile, for the pack of channels of a thread. `source` is the image at that pack, and `taps` the
// staged taps at it, `pitch` from one tap to the next.
template <class Direction, class W, int N, class T>
__device__ __forceinline__ void sum_windows(const Conv& p, const T* source, const T* taps, int pitch, int line, int tile,
                                            Pack<Wide<T>, N> (&sums)[COLS]) {
    const int columns = Direction::source_columns(p);
#pragma unroll 1
    for (int r = Direction::first_tap(p, line); r < p.r; r += Direction::tap_step(p)) {
        int source_line = Direction::source_line(p, line, r);
        if (unsigned(source_line) >= unsigned(Direction::source_lines(p))) continue;
        const T* x = source + (long long)source_line * columns * p.c;
        if constexpr (W::S > 0) {
            Pack<Wide<T>, N> tap[W::S];
#pragma unroll
            for (int s = 0; s < W::S; s++) tap[s] = read<N>(taps + (r * W::S + s) * pitch);
            const int first = Direction::template first_source<W>(p, tile);
#pragma unroll
            for (int j = 0; j < Direction::template REACH<W>; j++) {
                auto v = widen(load_column<N>(x, first + j, columns, p.c));
#pragma unroll
                for (int i = 0; i < COLS; i++) {
                    const int s = Direction::template tap<W>(i, j);
                    if (s < 0 || s >= W::S) continue;
                    for (int k = 0; k < N; k++) sums[i].v[k] += v.v[k] * tap[s].v[k];
                }
            }
        } else {
            for (int s = 0; s < p.s; s++) {
                auto tap = read<N>(taps + (r * p.s + s) * pitch);
#pragma unroll
                for (int i = 0; i < COLS; i++) {
                    int column = Direction::source_column(p, Direction::first_column(p, tile) + i, s);
                    auto v = widen(load_column<N>(x, column, columns, p.c));
                    for (int k = 0; k < N; k++) sums[i].v[k] += v.v[k] * tap.v[k];
                }
            }
        }
    }
}

// Tiles first ≤ tile < end of all lines of a batch, `per_line` of them a line; each of the block's rows of threads takes every
// lane.step-th. Writes the pixels first_pixel ≤ pixel < end_pixel of them.
struct Tiles {
    int per_line, first, end, first_pixel, end_pixel;
};

template <class Direction, int N, class T>
__device__ __forceinline__ void depthwise_tiles(const Conv& p, const Lane<N>& lane, const Tiles& tiles, const T* source,
                                                const T* taps, T* out) {
    const int lines = Direction::lines(p), columns = Direction::columns(p), pitch = lane.width * N;
    const long long image = (long long)Direction::source_lines(p) * Direction::source_columns(p) * p.c;
    with_window<N>(p, [&](auto window) {
        using W = decltype(window);
        for (int at = tiles.first + lane.row; at < tiles.end; at += lane.step) {
            const int tile = at % tiles.per_line, batch_line = at / tiles.per_line;
            Pack<Wide<T>, N> sums[COLS] = {};
            sum_windows<Direction, W>(p, source + batch_line / lines * image + lane.channel, taps + lane.column, pitch,
                                      batch_line % lines, tile, sums);
            for (int i = 0; i < COLS; i++) {
                int column = Direction::first_column(p, tile) + i;
                int pixel = batch_line * columns + column;
                bool own = unsigned(column) < unsigned(columns) && pixel >= tiles.first_pixel && pixel < tiles.end_pixel;
                if (own) write<N>(out + (long long)pixel * p.c + lane.channel, sums[i]);
            }
        }
    });
}

// y, and its moments [⌈n·oh·ow/PARTIAL_ROWS⌉, 2, c] of the values as stored, if `moments` is not null. Block: PARTIAL_ROWS pixels
// of y, a span of channels.
template <class T>
__device__ __forceinline__ void depthwise_fwd(const Conv& p, const T* x, const T* w, T* y, Wide<T>* moments,
                                              MomentSlots<T>* slots) {
    DYN_SHARED(T, taps);
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        stage_taps(p, lane, w, taps);
        Tiles tiles;
        tiles.per_line = (p.ow + COLS - 1) / COLS;
        tiles.first_pixel = blockIdx.x * PARTIAL_ROWS;
        tiles.end_pixel = tiles.first_pixel + min(PARTIAL_ROWS, p.n * p.oh * p.ow - tiles.first_pixel);
        auto tile_of = [&](int pixel) { return pixel / p.ow * tiles.per_line + pixel % p.ow / COLS; };
        tiles.first = tile_of(tiles.first_pixel);
        tiles.end = tile_of(tiles.end_pixel - 1) + 1;
        if (lane.active) depthwise_tiles<Forward>(p, lane, tiles, x, taps, y);
        if (!moments) return;
        __syncthreads(); // what the other threads of the block wrote can be read from here on
        block_moments(lane, y + (long long)tiles.first_pixel * p.c, tiles.end_pixel - tiles.first_pixel, p.c,
                      moments + (long long)blockIdx.x * 2 * p.c, *slots);
    });
}
#define DEPTHWISE_FWD(T, dtype)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        depthwise_fwd_##dtype(const Conv p, const T* x, const T* w, T* y) {                                            \
        depthwise_fwd<T>(p, x, w, y, nullptr, nullptr);                                                                \
    }
FOR_FLOATS(DEPTHWISE_FWD)
#define DEPTHWISE_MOMENTS_FWD(T, dtype)                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        depthwise_moments_fwd_##dtype(const Conv p, const T* x, const T* w, T* y, Wide<T>* moments) {                  \
        __shared__ MomentSlots<T> slots;                                                                               \
        depthwise_fwd<T>(p, x, w, y, moments, &slots);                                                                 \
    }
FOR_FLOATS(DEPTHWISE_MOMENTS_FWD)

// Tiles of gx that a block makes; `DGRAD_TILES` in src/ops/depthwise/mod.rs must agree.
constexpr int DGRAD_TILES = 64;

// gx. Block: DGRAD_TILES tiles of gx, a span of channels.
template <class T> __device__ __forceinline__ void depthwise_dgrad(const Conv& p, const T* gy, const T* w, T* gx) {
    DYN_SHARED(T, taps);
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        stage_taps(p, lane, w, taps);
        if (!lane.active) return;
        const int per_line = (p.w + p.pad_w + COLS - 1) / COLS, lines = p.n * p.h, first = blockIdx.x * DGRAD_TILES;
        const Tiles tiles = {per_line, first, min(first + DGRAD_TILES, lines * per_line), 0, lines * p.w};
        depthwise_tiles<Backward>(p, lane, tiles, gy, taps, gx);
    });
}
#define DEPTHWISE_DGRAD(T, dtype)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        depthwise_dgrad_##dtype(const Conv p, const T* gy, const T* w, T* gx) {                                        \
        depthwise_dgrad(p, gy, w, gx);                                                                                 \
    }
FOR_FLOATS(DEPTHWISE_DGRAD)

// The taps that a thread sums up: those of one line of the window, or a single one where its width is not known.
template <class W> constexpr int TAPS = W::S > 0 ? W::S : 1;

// Adds Σ x · gy over one tile to the taps from (r, s) on. `x` and `gy` are the images at a thread's pack of channels.
template <class W, int N, class T>
__device__ __forceinline__ void add_tile(const Conv& p, const T* x, const T* gy, int line, int tile, int r, int s,
                                         Pack<Wide<T>, N> (&sums)[TAPS<W>]) {
    const int x_line = Forward::source_line(p, line, r);
    if (unsigned(x_line) >= unsigned(p.h)) return;
    x += (long long)x_line * p.w * p.c;
    gy += (long long)line * p.ow * p.c;
    Pack<Wide<T>, N> g[COLS];
#pragma unroll
    for (int i = 0; i < COLS; i++) g[i] = widen(load_column<N>(gy, tile * COLS + i, p.ow, p.c));
    if constexpr (W::S > 0) {
        const int first = Forward::first_source<W>(p, tile);
#pragma unroll
        for (int j = 0; j < Forward::REACH<W>; j++) {
            auto v = widen(load_column<N>(x, first + j, p.w, p.c));
#pragma unroll
            for (int i = 0; i < COLS; i++) {
                const int s = Forward::tap<W>(i, j);
                if (s < 0 || s >= W::S) continue;
                for (int k = 0; k < N; k++) sums[s].v[k] += v.v[k] * g[i].v[k];
            }
        }
    } else {
#pragma unroll
        for (int i = 0; i < COLS; i++) {
            auto v = widen(load_column<N>(x, Forward::source_column(p, tile * COLS + i, s), p.w, p.c));
            for (int k = 0; k < N; k++) sums[0].v[k] += v.v[k] * g[i].v[k];
        }
    }
}

// Part blockIdx.x of gridDim.x of gw[c, r, s] = Σ gy[n, oh, ow, c] · x[n, oh·stride + r − pad, ow·stride + s − pad, c]: the sum
// over a range of the tiles of gy. Block: a part, a span of channels; its rows of threads are dealt to the groups of taps in
// turn, those of one group share the tiles.
template <class T>
__device__ __forceinline__ void depthwise_wgrad(const Conv& p, const T* x, const T* gy, Wide<T>* gw) {
    __shared__ ColumnSlots<T> slots;
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        with_window<N>(p, [&](auto window) {
            using W = decltype(window);
            const int taps = p.r * p.s, groups = taps / TAPS<W>, together = min(groups, lane.step);
            const int columns = lane.width * N, block_channel = lane.channel - lane.column;
            const int per_line = (p.ow + COLS - 1) / COLS, sharers = lane.step / together, sharer = lane.row / together;
            const int tiles = p.n * p.oh * per_line, range = (tiles + gridDim.x - 1) / gridDim.x;
            const int first = blockIdx.x * range, end = min(first + range, tiles);
            gw += (long long)blockIdx.x * p.c * taps;
            for (int first_group = 0; first_group < groups; first_group += together) {
                const int group = first_group + lane.row % together, tap = group * TAPS<W>;
                Pack<Wide<T>, N> sums[TAPS<W>] = {};
                if (lane.active && sharer < sharers && group < groups) {
                    for (int at = first + sharer; at < end; at += sharers) {
                        const int batch_line = at / per_line, n = batch_line / p.oh;
                        add_tile<W>(p, x + (long long)n * p.h * p.w * p.c + lane.channel,
                                    gy + (long long)n * p.oh * p.ow * p.c + lane.channel, batch_line % p.oh,
                                    at % per_line, tap / p.s, tap % p.s, sums);
                    }
                }
#pragma unroll
                for (int t = 0; t < TAPS<W>; t++) {
                    __syncthreads(); // the slots may still be read
                    if (lane.row < lane.step) store<N>(slots.v + lane.row * columns + lane.column, sums[t]);
                    __syncthreads();
                    for (int i = threadIdx.x; i < together * columns; i += blockDim.x) {
                        int column = i % columns, own_tap = (first_group + i / columns) * TAPS<W> + t;
                        Wide<T> sum = 0;
                        for (int k = 0; k < sharers; k++) sum += slots.v[i + k * together * columns];
                        bool inside = block_channel + column < p.c && own_tap < taps;
                        if (inside) gw[(long long)(block_channel + column) * taps + own_tap] = sum;
                    }
                }
            }
        });
    });
}
#define DEPTHWISE_WGRAD(T, dtype)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        depthwise_wgrad_##dtype(const Conv p, const T* x, const T* gy, Wide<T>* gw) {                                  \
        depthwise_wgrad(p, x, gy, gw);                                                                                 \
    }
FOR_FLOATS(DEPTHWISE_WGRAD)
