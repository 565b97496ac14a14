// What the threads of a depthwise convolution walk over: windows and their two directions, the steps of a block, the taps in shared
// memory, and the lines of an image.
#pragma once
#include "moments.cuh"

// As `Conv` in src/ops/conv/mod.rs, with k == c.
struct Conv {
    int n, h, w, c, k, r, s, oh, ow, stride_h, stride_w, pad_h, pad_w;
};

// Threads of a block; `THREADS` in src/ops/depthwise/mod.rs must agree. Few, so that as many blocks fit as registers allow.
constexpr int BLOCK = 128;
// Channels of a thread, where c is a multiple of them: 4 bytes, so that a warp moves cache lines and the sums of a tile fit
// in registers. `channels` in src/ops/depthwise/mod.rs must agree.
template <class T> constexpr int CHANNELS = sizeof(T) < 4 ? 2 : 1;

// Side and stride of a square window, known to the compiler, and the columns of a tile. HALO: a line of the result meets those
// lines of x that begin as many strides before the last one that it meets.
template <int S_, int STRIDE_, int COLS_> struct Window {
    static constexpr int S = S_, STRIDE = STRIDE_, COLS = COLS_, HALO = (S - 1) / STRIDE;
};
struct AnyWindow {
    static constexpr int COLS = 4;
};

// Runs body(Window<S, STRIDE, COLS>()) for the usual windows, as far as their sums fit in registers, else body(AnyWindow()).
template <class Direction, class T, int N, class Body> __device__ __forceinline__ void with_window(const Conv& p, Body body) {
    auto is = [&](int side, int stride) {
        return p.r == side && p.s == side && p.stride_h == stride && p.stride_w == stride;
    };
    if constexpr (N == CHANNELS<T>) {
        if (is(3, 1)) return body(Window<3, 1, Direction::template COLS<3, 1>>());
        if (is(3, 2)) return body(Window<3, 2, Direction::template COLS<3, 2>>());
        if constexpr (sizeof(Wide<T>) == 4) {
            if (is(5, 1)) return body(Window<5, 1, Direction::template COLS<5, 1>>());
            if (is(5, 2)) return body(Window<5, 2, Direction::template COLS<5, 2>>());
        }
    }
    body(AnyWindow());
}

// The sum of windows that makes y of x. A step is one line of y. Tiles begin at column COLS·i.
struct Forward {
    // Columns of a tile, as many as fit in registers.
    template <int S, int STRIDE> static constexpr int COLS = S == 3 && STRIDE == 1 ? 4 : 2;
    static __device__ int steps(const Conv& p) { return p.oh; }
    template <class W> static __device__ int tiles(const Conv& p) { return ceil_div(p.ow, W::COLS); }
    static __device__ int source_lines(const Conv& p) { return p.h; }
    static __device__ int source_columns(const Conv& p) { return p.w; }

    // For any window: the first line of a step and column of a tile, the first tap along r and the distance of the next, and
    // the line and column of x that a tap meets.
    static __device__ int first_line(const Conv& p, int step) { return step; }
    template <class W> static __device__ int first_column(const Conv& p, int tile) { return tile * W::COLS; }
    static __device__ int first_tap(const Conv& p, int line) { return 0; }
    static __device__ int tap_step(const Conv& p) { return 1; }
    static __device__ int source_line(const Conv& p, int line, int r) { return line * p.stride_h + r - p.pad_h; }
    static __device__ int source_column(const Conv& p, int column, int s) { return column * p.stride_w + s - p.pad_w; }

    // For a known one: lines of x that a step takes, lines of y that it ends, and lines of y that are open at a time; the tap
    // by which the i-th line of the step's x meets the k-th open line.
    template <class W> static constexpr int TAKES = W::STRIDE;
    template <class W> static constexpr int ENDS = 1;
    template <class W> static constexpr int OPEN = W::HALO + 1;
    template <class W> static constexpr __device__ int line_tap(int k, int i) { return W::STRIDE * (W::HALO - k) + i; }
    // The first line of x that a run from `step` on meets.
    template <class W> static __device__ int first_source_line(const Conv& p, int step) { return step * W::STRIDE - p.pad_h; }
    // The columns of x that the windows of a tile reach: how many, the first, and the tap by which column i of the tile meets
    // the j-th; none if it is not in 0..S.
    template <class W> static constexpr int REACH = (W::COLS - 1) * W::STRIDE + W::S;
    template <class W> static __device__ int first_source(const Conv& p, int tile) { return tile * W::COLS * W::STRIDE - p.pad_w; }
    template <class W> static constexpr __device__ int tap(int i, int j) { return j - i * W::STRIDE; }
};

// The sum that makes gx of gy: pixel (h, w) meets the windows that read it, so gy[(h + pad − r) / stride] where that is whole.
// A step is the lines of gx from step·stride − pad on, as many as the stride. Tiles begin at column COLS·i − pad, so that their
// taps do not depend on the padding.
struct Backward {
    template <int S, int STRIDE> static constexpr int COLS = S == 3 ? 4 : 2;
    static __device__ int steps(const Conv& p) { return ceil_div(p.h + p.pad_h, p.stride_h); }
    template <class W> static __device__ int tiles(const Conv& p) { return ceil_div(p.w + p.pad_w, W::COLS); }
    static __device__ int source_lines(const Conv& p) { return p.oh; }
    static __device__ int source_columns(const Conv& p) { return p.ow; }

    static __device__ int first_line(const Conv& p, int step) { return step * p.stride_h - p.pad_h; }
    template <class W> static __device__ int first_column(const Conv& p, int tile) { return tile * W::COLS - p.pad_w; }
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

    template <class W> static constexpr int TAKES = 1;
    template <class W> static constexpr int ENDS = W::STRIDE;
    template <class W> static constexpr int OPEN = W::S;
    template <class W> static constexpr __device__ int line_tap(int k, int) { return k; }
    template <class W> static __device__ int first_source_line(const Conv&, int step) { return step - W::HALO; }
    template <class W> static constexpr int REACH = W::HALO + (W::COLS - 1) / W::STRIDE + 1;
    template <class W> static __device__ int first_source(const Conv&, int tile) { return tile * W::COLS / W::STRIDE - W::HALO; }
    template <class W> static constexpr __device__ int tap(int i, int j) { return i - (j - W::HALO) * W::STRIDE; }
};

// The steps first ≤ step < end of one tile of an image.
struct Run {
    int image, tile, first, end;
};

// The steps of the block: all images' are cut into as many bands as there are blocks along x.
struct Band {
    int first, steps;
    __device__ __forceinline__ explicit Band(int all) {
        int most = ceil_div(all, gridDim.x);
        first = range_of_block() * most;
        steps = min(most, all - first);
    }
};

// Calls body(run) for the thread's share of the tiles of the block: equal numbers of steps for all rows of threads, tile by tile.
template <class Direction, class W, int N, class Body>
__device__ __forceinline__ void for_runs(const Conv& p, const Lane<N>& lane, Body body) {
    const int per_image = Direction::steps(p);
    const Band band(p.n * per_image);
    const int all = band.steps * Direction::template tiles<W>(p), share = ceil_div(all, lane.step);
    const int end = min((lane.row + 1) * share, all);
    for (int at = lane.row * share; at < end;) {
        const int tile = at / band.steps, skipped = at % band.steps;
        const int image = (band.first + skipped) / per_image, first = (band.first + skipped) % per_image;
        const int steps = min(min(end - at, band.steps - skipped), per_image - first);
        body(Run{image, tile, first, first + steps});
        at += steps;
    }
}

// Has what is in shared memory read again from here on: all taps of a 5x5 window do not fit in registers.
__device__ __forceinline__ void forget_shared() { asm volatile("" ::: "memory"); }

// Most channels of a block.
template <class T> constexpr int SPAN = SPAN_BYTES / sizeof(T);

// The taps of the block's channels in shared memory, [r·s, SPAN].
template <int N, class T>
__device__ __forceinline__ void stage_taps(const Conv& p, const Lane<N>& lane, const T* w, Wide<T>* taps) {
    const int columns = lane.width * N, size = p.r * p.s, first = lane.block_channel();
    for (int i = threadIdx.x; i < columns * size; i += blockDim.x) {
        int column = i / size, tap = i % size;
        taps[tap * SPAN<T> + column] = first + column < p.c ? widen(w[(long long)first * size + i]) : 0;
    }
    __syncthreads();
}

// Elements at a column of a line, zeros where there is none.
template <int N, class T> __device__ __forceinline__ Pack<T, N> load_column(const T* line, int column, int columns, int c) {
    Pack<T, N> zeros = {};
    return unsigned(column) < unsigned(columns) ? load<N>(line + (long long)column * c) : zeros;
}

// The bits of a pack of so many bytes: what waits for its use as a pack of halves would be taken apart and put together again.
template <int BYTES> struct BitsOf { using type = unsigned; };
template <> struct BitsOf<2> { using type = unsigned short; };
template <> struct BitsOf<8> { using type = unsigned long long; };

// Some neighbouring columns of an image, line after line, each loaded while the one before is computed with.
template <int COLUMNS, int N, class T> struct Walk {
    const T* next;         // the first column in the next line
    int line, end, height; // the next line, the first that is not wanted, the lines that there are
    int c, pitch;          // elements from a column and from a line to the next
    unsigned inside;       // a bit for each column that there is
    using Bits = typename BitsOf<sizeof(Pack<T, N>)>::type;
    Bits ahead[COLUMNS];

    // Lines first_line ≤ line < end_line, columns from `column` on, of an image of `h` lines and `w` columns.
    __device__ __forceinline__ Walk(const T* image, int h, int w, int channels, int first_line, int end_line, int column)
        : next(image + ((long long)first_line * w + column) * channels), line(first_line), end(min(end_line, h)), c(channels),
          pitch(w * channels), inside(0) {
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) inside |= unsigned(unsigned(column + j) < unsigned(w)) << j;
        for_next([](int, const Pack<T, N>&) {});
    }

    // Calls body(j, x) with the j-th column of a line and goes on to the next one.
    template <class Body> __device__ __forceinline__ void for_next(Body body) {
        const unsigned present = line >= 0 && line < end ? inside : 0;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            Pack<T, N> x;
            memcpy(&x, &ahead[j], sizeof x);
            ahead[j] = 0;
            if (present >> j & 1) ahead[j] = *reinterpret_cast<const Bits*>(next + unsigned(j * c));
            body(j, x);
        }
        next += pitch;
        line++;
    }
};
