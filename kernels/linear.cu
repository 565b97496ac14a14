// Fully connected layer, x [n, i], w [o, i], b [o]: y = x wT + b; gx = gy w; gw = gyT x, and gb is the sum of gy's rows.
// A tile at a time (tile.cuh). A head's few rows leave most of a tile empty: bound by the bytes of w.
// Launch: 256 threads for each tile of 128 rows and 64 or 128 columns (src/ops/conv/tiles.rs).
#include "tile.cuh"

// As `Linear` in src/ops/linear.rs.
struct Linear {
    int n, i, o;
};

template <class T> __device__ void linear_fwd(const Linear& p, const T* x, const T* w, const Wide<T>* bias, T* y) {
    DYN_SHARED(Pack<T>, shared);
    const bool packed = is_packed<T>(p.i, p.o);
    with_shape<T>(packed, p.o, [&](auto shape) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.o, COLUMNS);
        const MatrixRows<T> a = {x, p.n, p.i}, b = {w, p.o, p.i};
        const auto product = tile_product<T>(shape, a, b, corner, 0, p.i, shared);
        const Staged<T, COLUMNS> staged = {reinterpret_cast<T*>(shared)};
        const int columns = p.o - corner.column;
        staged.take(product, [&](int column) { return column < columns ? bias[corner.column + column] : 0; });
        staged.template store_rows<TILE_ROWS>(columns, packed, [&](int row) {
            return corner.row + row < p.n ? y + (long long)(corner.row + row) * p.o + corner.column : nullptr;
        });
    });
}

template <class T> __device__ void linear_dgrad(const Linear& p, const T* gy, const T* w, T* gx) {
    DYN_SHARED(Pack<T>, shared);
    const bool packed = is_packed<T>(p.i, p.o);
    with_shape<T>(packed, p.i, [&](auto shape) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.i, COLUMNS);
        const MatrixRows<T> a = {gy, p.n, p.o};
        const MatrixColumns<T> b = {w, p.i, p.o};
        const auto product = tile_product<T>(shape, a, b, corner, 0, p.o, shared);
        const Staged<T, COLUMNS> staged = {reinterpret_cast<T*>(shared)};
        staged.take(product);
        staged.template store_rows<TILE_ROWS>(p.i - corner.column, packed, [&](int row) {
            return corner.row + row < p.n ? gx + (long long)(corner.row + row) * p.i + corner.column : nullptr;
        });
    });
}

// The first row of tiles adds up gb, each tile for its columns.
template <class T> __device__ void linear_wgrad(const Linear& p, const T* x, const T* gy, Wide<T>* gw, Wide<T>* gb) {
    DYN_SHARED(Pack<T>, shared);
    with_shape<T>(is_packed<T>(p.i, p.o), p.o, [&](auto shape) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.o, COLUMNS);
        const MatrixColumns<T> a = {x, p.i, p.n}, b = {gy, p.o, p.n};
        const auto product = tile_product<T>(shape, a, b, corner, 0, p.n, shared);
        store_transposed<COLUMNS>(product, corner, p.i, p.o, gw, shared);
        const int column = corner.column + threadIdx.x;
        if (corner.row > 0 || threadIdx.x >= COLUMNS || column >= p.o) return;
        Wide<T> sum = 0;
        for (int row = 0; row < p.n; row++) sum += widen(gy[(long long)row * p.o + column]);
        gb[column] = sum;
    });
}

#define LINEAR(T, dtype)                                                                                                  \
    TILED(T) linear_fwd_##dtype(const Linear p, const T* x, const T* w, const Wide<T>* b, T* y) { linear_fwd(p, x, w, b, y); } \
    TILED(T) linear_dgrad_##dtype(const Linear p, const T* gy, const T* w, T* gx) { linear_dgrad(p, gy, w, gx); }            \
    TILED(T) linear_wgrad_##dtype(const Linear p, const T* x, const T* gy, Wide<T>* gw, Wide<T>* gb) {                       \
        linear_wgrad(p, x, gy, gw, gb);                                                                                   \
    }
FOR_FLOATS(LINEAR)
