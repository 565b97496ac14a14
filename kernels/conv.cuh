// The operands of a convolution's three products, and the products.
// Pixel and channel counts fit in 31 bits, and so do the elements of one image and those of the filters; those of a batch need not.
#pragma once
#include "tile.cuh"

// As `Conv` in src/ops/conv/mod.rs.
struct Conv {
    int n, h, w, c, k, r, s, oh, ow, stride_h, stride_w, pad_h, pad_w;
};

// Whether 0 <= i < extent. Joined by & and not by &&, which would branch.
__device__ __forceinline__ bool is_within(int i, int extent) { return (unsigned)i < (unsigned)extent; }

// A bit for each number from 0 to `n`, that excluded.
__device__ __forceinline__ unsigned bits_below(int n) { return n <= 0 ? 0 : 0xffffffffu >> (32 - min(n, 32)); }

// Rows: windows of an image [n, h, w, c]; k: their taps and channels. Window (n, i, j) begins at pixel (i, j)*stride + first, and
// tap (r, s) is (r, s) pixels on (DIRECTION 1: forward) or back (-1: backward by data). Which taps meet the image is the same in all
// channels: a row keeps it as bits.
template <class T, int DIRECTION> struct Windows {
    static constexpr bool ALONG_K = true, ONE_TAP = false;
    struct Row {
        const T* first; // the pixel that it begins with, which may be outside
        unsigned down, across; // taps that are inside
    };

    const T* data;
    int h, w, c;
    Nest windows;
    int count;
    int stride_h, stride_w, first_h, first_w;
    Nest nest; // taps and channels
    int r;

    // Of `taps` taps from pixel `start` on, those that meet one of `extent` pixels.
    __device__ static unsigned inside(int start, int taps, int extent) {
        const int begin = DIRECTION > 0 ? -start : start - extent + 1, end = DIRECTION > 0 ? extent - start : start + 1;
        return bits_below(min(end, taps)) & ~bits_below(begin);
    }

    __device__ Row row(int i) const {
        if (i >= count) return {data, 0, 0};
        Position at = windows.at(i);
        int y = at.middle * stride_h + first_h, x = at.inner * stride_w + first_w;
        return {data + (long long)((at.outer * h + y) * w + x) * c, inside(y, r, h), inside(x, nest.middle, w)};
    }

    __device__ Element<T> at(const Row& row, const Position& k) const {
        const unsigned down = k.outer < 32 ? 1u << k.outer : 0, across = 1u << k.middle;
        const bool inside = ((row.down & down) != 0) & ((row.across & across) != 0);
        return {row.first + (DIRECTION * (k.outer * w + k.middle) * c + k.inner), inside};
    }
};

// Rows: input channels; k: every stride-th tap from (r, s) on, and the output channels.
template <class T, bool ONE_TAP_> struct FiltersByChannel {
    static constexpr bool ALONG_K = false, ONE_TAP = ONE_TAP_;
    using Row = Beside<T>;

    const T* first; // of the first tap
    int c, taps; // along r
    int of_filter, of_down, of_across; // distances of elements
    Nest nest;

    __device__ FiltersByChannel(const T* w, const Conv& p, int r, int s, int taps, Nest nest)
        : first(w + (r * p.s + s) * p.c), c(p.c), taps(taps), of_filter(p.r * p.s * p.c), of_down(p.stride_h * p.s * p.c),
          of_across(p.stride_w * p.c), nest(nest) {}

    __device__ Row row(int i) const { return {first + i, c - i}; }
    __device__ void next_row(Row& row) const { row.next(); }
    __device__ Element<T> at(const Row& row, const Position& k) const {
        const bool inside = (row.left > 0) & (k.outer < taps);
        return {row.first + (k.inner * of_filter + k.outer * of_down + k.middle * of_across), inside};
    }
};

// Rows: taps and channels; k: the windows of `Windows`, by output pixel up to `end`.
template <class T> struct WindowsByTap {
    static constexpr bool ALONG_K = false, ONE_TAP = false;
    struct Row {
        Position tap;
        const T* first; // the element that it meets in window 0, which may be outside
        bool inside;
    };

    const T* x;
    Conv p;
    Nest taps;
    int count;
    Nest nest;
    int end;
    int of_image, of_down, of_across; // distances of elements

    __device__ WindowsByTap(const T* x, const Conv& p, int end)
        : x(x), p(p), taps{p.s, p.c}, count(p.r * p.s * p.c), nest{p.oh, p.ow}, end(end), of_image(p.h * p.w * p.c),
          of_down(p.stride_h * p.w * p.c), of_across(p.stride_w * p.c) {}

    __device__ Row row(const Position& tap) const {
        const int y = tap.outer - p.pad_h, x_ = tap.middle - p.pad_w;
        return {tap, x + ((long long)(y * p.w + x_) * p.c + tap.inner), tap.flat < count};
    }
    __device__ Row row(int i) const { return row(taps.at(i)); }
    __device__ void next_row(Row& row_) const {
        taps.next(row_.tap);
        row_ = row(row_.tap);
    }
    __device__ Element<T> at(const Row& row, const Position& k) const {
        const int y = k.middle * p.stride_h - p.pad_h + row.tap.outer, x = k.inner * p.stride_w - p.pad_w + row.tap.middle;
        const bool inside = is_within(y, p.h) & is_within(x, p.w) & row.inside & (k.flat < end);
        return {row.first + (wide_product(k.outer, of_image) + unsigned(k.middle * of_down + k.inner * of_across)), inside};
    }
};

// Mean and sum of squared deviations from it, of each column of a staged tile. Taken in one pass from the distances d to the tile's first
// row: mean = first + Σd / rows, and Σd² - (Σd)² / rows.
template <class T> using StagedSlots = Wide<T>[THREADS / WARP][2][ON_TENSOR_CORES<T> ? WIDE : NARROW];

template <class T, int COLUMNS> struct StagedMoments {
    using W = Wide<T>;
    using Tile = Staged<T, COLUMNS>;

    const Tile& staged;
    Pack<T> first;
    W sums[2][PACK<T>] = {};

    __device__ StagedMoments(const Tile& staged) : staged(staged), first(load<PACK<T>>(&staged.at(0, Tile::own_column()))) {}

    __device__ void add(const Pack<T>& row) {
        for (int j = 0; j < PACK<T>; j++) {
            W d = widen(row.v[j]) - widen(first.v[j]);
            sums[0][j] += d;
            sums[1][j] += d * d;
        }
    }

    // Of the first `columns` columns. All threads of the block must call.
    __device__ void write(int rows, int columns, W* means, W* deviations, StagedSlots<T>& slots) {
        const int warp = threadIdx.x / WARP;
        for (int k = 0; k < 2; k++) {
            for (int j = 0; j < PACK<T>; j++) {
                W sum = sums[k][j];
                for (int lanes = WARP / 2; lanes >= Tile::ACROSS; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
                if (threadIdx.x % WARP < Tile::ACROSS) slots[warp][k][Tile::own_column() + j] = sum;
            }
        }
        __syncthreads();
        const int column = threadIdx.x;
        if (column >= min(COLUMNS, columns)) return;
        W d = 0, d2 = 0;
        for (const auto& of_warp : slots) {
            d += of_warp[0][column];
            d2 += of_warp[1][column];
        }
        means[column] = widen(staged.at(0, column)) + d / rows;
        deviations[column] = d2 - d * (d / rows);
    }
};

// Whether the windows are the pixels themselves: then nothing is gathered, and the images are matrices.
__device__ __forceinline__ bool is_pointwise(const Conv& p) {
    return (p.r == 1) & (p.s == 1) & (p.stride_h == 1) & (p.stride_w == 1) & (p.pad_h == 0) & (p.pad_w == 0);
}

// y[m][k] = sum over r, s, c of x[window m][r, s, c] w[k][r, s, c]; `moments` may be null.
template <class T> __device__ void conv_fwd(const Conv& p, const T* x, const T* w, T* y, Wide<T>* moments) {
    DYN_SHARED(Pack<T>, shared);
    const int pixels = p.n * p.oh * p.ow, depth = p.r * p.s * p.c;
    const bool packed = is_packed<T>(p.c, p.k);
    auto convolve = [&](auto shape, const auto& a) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.k, COLUMNS);
        const MatrixRows<T> b = {w, p.k, depth};
        const auto product = tile_product<T>(shape, a, b, corner, 0, depth, shared);
        const Staged<T, COLUMNS> staged = {reinterpret_cast<T*>(shared)};
        staged.take(product);
        const int columns = p.k - corner.column, rows = min(TILE_ROWS, pixels - corner.row);
        StagedMoments<T, COLUMNS> sums(staged);
        auto target = [&](int row) { return row < rows ? y + (long long)(corner.row + row) * p.k + corner.column : nullptr; };
        staged.template store_rows<TILE_ROWS>(columns, packed, target, [&](const Pack<T>& row) { sums.add(row); });
        if (moments != nullptr) {
            Wide<T>* means = moments + (long long)(corner.row / TILE_ROWS) * 2 * p.k + corner.column;
            // Where the ring was: the ring and slots of their own would be more than some chips have for a block.
            auto& slots = *reinterpret_cast<StagedSlots<T>*>(shared + Staged<T, COLUMNS>::PACKS);
            sums.write(rows, columns, means, means + p.k, slots);
        }
    };
    if (packed && is_pointwise(p)) {
        const MatrixRows<T> a = {x, pixels, p.c};
        with_shape<T, true>(packed, p.k, [&](auto shape) { convolve(shape, a); });
    } else {
        const Nest taps = {p.s, p.c};
        const Windows<T, 1> a = {x, p.h, p.w, p.c, {p.oh, p.ow}, pixels, p.stride_h, p.stride_w, -p.pad_h, -p.pad_w, taps, p.r};
        with_shape<T>(packed, p.k, [&](auto shape) { convolve(shape, a); });
    }
}

// The pixels of x that the taps r0, r0 + stride, r0 + 2 stride, ... reach, and no others: those at first, first + stride, ... along
// one axis. The i-th of them is reached by tap r0 + j*stride from output i + origin - j.
struct Phase {
    int first, count, r0, taps, origin;
    __device__ Phase(int index, int extent, int kernel, int stride, int pad) {
        first = index;
        count = max(0, ceil_div(extent - first, stride));
        r0 = (first + pad) % stride;
        taps = max(0, ceil_div(kernel - r0, stride));
        origin = (first + pad) / stride;
    }
};

// gx[m][c] = sum over the taps that reach pixel m, and k, of gy[...][k] w[k][r, s, c]. Pixels are taken by phase, one for each
// blockIdx.z, so that all rows of a tile meet the same taps and nothing is multiplied by the zeros between strides. With ADD it is
// added to what gx holds.
template <class T, bool ADD> __device__ void conv_dgrad(const Conv& p, const T* gy, const T* w, T* gx) {
    DYN_SHARED(Pack<T>, shared);
    const bool packed = is_packed<T>(p.c, p.k);
    // `target(row)` is the pixel of gx that a row of the product goes to.
    auto convolve = [&](auto shape, const auto& a, const auto& b, int pixels, int depth, auto target) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.c, COLUMNS);
        if (corner.row >= pixels) return; // a smaller phase than the first
        const auto product = tile_product<T>(shape, a, b, corner, 0, depth, shared);
        const Staged<T, COLUMNS> staged = {reinterpret_cast<T*>(shared)};
        staged.take(product);
        const int columns = p.c - corner.column;
        auto to = [&](int row) -> T* {
            return corner.row + row < pixels ? gx + target(corner.row + row) * p.c + corner.column : nullptr;
        };
        if constexpr (ADD) staged.template add_stored<TILE_ROWS>(columns, packed, to);
        staged.template store_rows<TILE_ROWS>(columns, packed, to);
    };
    if (packed && is_pointwise(p)) {
        const int pixels = p.n * p.h * p.w;
        const MatrixRows<T> a = {gy, pixels, p.k};
        const MatrixColumns<T> b = {w, p.c, p.k};
        with_shape<T, true>(packed, p.c, [&](auto shape) {
            convolve(shape, a, b, pixels, p.k, [](int row) { return (long long)row; });
        });
        return;
    }
    const Phase down(blockIdx.z / p.stride_w, p.h, p.r, p.stride_h, p.pad_h);
    const Phase across(blockIdx.z % p.stride_w, p.w, p.s, p.stride_w, p.pad_w);
    const int pixels = p.n * down.count * across.count, depth = down.taps * across.taps * p.k;
    const Nest of_phase = {max(1, down.count), max(1, across.count)}, taps = {max(1, across.taps), p.k};
    const int lines = across.taps ? down.taps : 0; // of taps that there are at all
    const Windows<T, -1> a = {gy, p.oh, p.ow, p.k, of_phase, pixels, 1, 1, down.origin, across.origin, taps, lines};
    auto target = [&](int row) {
        const Position at = of_phase.at(row);
        const int y = down.first + at.middle * p.stride_h, x = across.first + at.inner * p.stride_w;
        return (long long)(at.outer * p.h + y) * p.w + x;
    };
    auto gather = [&](auto one_tap) {
        constexpr bool ONE_TAP = decltype(one_tap)::value;
        const FiltersByChannel<T, ONE_TAP> b(w, p, down.r0, across.r0, lines, taps);
        with_shape<T, ONE_TAP>(packed, p.c, [&](auto shape) { convolve(shape, a, b, pixels, depth, target); });
    };
    packed && p.k % TILE_DEPTH<T> == 0 ? gather(Is<true>()) : gather(Is<false>());
}

// gw[k][r, s, c] = sum over pixels m of gy[m][k] x[window m][r, s, c], over the blockIdx.z-th part of the pixels into the
// blockIdx.z-th part of gw. The rows of the tile are (r, s, c), so that its width suits k as it does forward.
template <class T> __device__ void conv_wgrad(const Conv& p, const T* x, const T* gy, Wide<T>* gw) {
    DYN_SHARED(Pack<T>, shared);
    const int pixels = p.n * p.oh * p.ow, weights = p.r * p.s * p.c;
    const bool packed = is_packed<T>(p.c, p.k);
    const Part<T> part(pixels);
    gw += (long long)blockIdx.z * p.k * weights;
    auto convolve = [&](auto shape, const auto& a) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.k, COLUMNS);
        const MatrixColumns<T> b = {gy, p.k, part.end};
        const auto product = tile_product<T>(shape, a, b, corner, part.begin, part.end, shared);
        store_transposed<COLUMNS>(product, corner, weights, p.k, gw, shared);
    };
    if (packed && is_pointwise(p)) {
        const MatrixColumns<T> a = {x, p.c, part.end};
        with_shape<T, true>(packed, p.k, [&](auto shape) { convolve(shape, a); });
    } else {
        const WindowsByTap<T> a(x, p, part.end);
        with_shape<T>(packed, p.k, [&](auto shape) { convolve(shape, a); });
    }
}
