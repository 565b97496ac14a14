// Fully connected layer, x [n, i], w [o, i], b [o]: y = x wT + b; gx = gy w; gw = gyT x, and gb is the sum of gy's rows.
// A tile at a time (tile.cuh). A head's few rows leave most of a tile empty: bound by the bytes of w, which few tiles of long
// sums would not read fast enough, so that y and gx are cut into parts of their sums that `combine_parts` (conv_wgrad.cu) adds up.
// Launch: 256 threads for each tile of 128 rows and 64 or 128 columns and for each part (src/ops/conv/tiles.rs). Single and double
// precision, which tensor cores do not multiply, have small tiles of 32x32 unless the large ones are many (small.cuh).
#include "channels.cuh"
#include "small.cuh"

// As `Linear` in src/ops/linear.rs.
struct Linear {
    int n, i, o;
};

// Stores a tile in the rows of `out` [rows][columns], `plus(column)` added.
template <int COLUMNS, class O, class P, class F>
__device__ __forceinline__ void store_matrix(const P& product, Corner corner, int rows, int columns, bool packed, O* out, void* shared,
                                             F plus) {
    const Staged<O, COLUMNS> staged = {static_cast<O*>(shared)};
    staged.take(product, plus);
    staged.template store_rows<TILE_ROWS>(columns - corner.column, packed, [&](int row) {
        return corner.row + row < rows ? out + (long long)(corner.row + row) * columns + corner.column : nullptr;
    });
}

// The same in T, or where this is one part of several as it is, in the part's own matrix.
template <class T, int COLUMNS, class P, class F>
__device__ __forceinline__ void store_part(const P& product, Corner corner, int rows, int columns, bool packed, void* out, void* shared,
                                           F plus) {
    if constexpr (sizeof(T) < sizeof(Wide<T>)) {
        if (gridDim.z == 1) return store_matrix<COLUMNS>(product, corner, rows, columns, packed, static_cast<T*>(out), shared, plus);
    }
    Wide<T>* sums = static_cast<Wide<T>*>(out) + (long long)blockIdx.z * rows * columns;
    store_matrix<COLUMNS>(product, corner, rows, columns, packed, sums, shared, plus);
}

// The small tiles of a product [rows][columns], which is this part's matrix in `out`; returns whether the product has them.
template <class T, class A, class B, class F>
__device__ __forceinline__ bool stored_small(const A& a, const B& b, int depth, T* out, F plus) {
    if (!has_small_tiles(a.count, b.count)) return false;
    const Part<T> part(depth);
    SmallProduct<T> product(b.count);
    product.add(a, b, part.begin, part.end, [](T) {});
    product.store(a.count, b.count, out + (long long)blockIdx.z * a.count * b.count, plus);
    return true;
}

// This block's tile, and part of the sums, of a product that becomes y or gx; `plus(column)` is added.
template <class T, class A, class B, class F>
__device__ __forceinline__ void store_product(const A& a, const B& b, bool packed, void* out, F plus) {
    if constexpr (!ON_TENSOR_CORES<T>) {
        if (stored_small(a, b, a.depth, static_cast<T*>(out), plus)) return;
    }
    DYN_SHARED(Pack<T>, shared);
    with_shape<T>(packed, b.count, [&](auto shape) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(b.count, COLUMNS);
        const Part<T> part(a.depth);
        const auto product = tile_product<T>(shape, a, b, corner, part.begin, part.end, shared);
        store_part<T, COLUMNS>(product, corner, a.count, b.count, packed, out, shared,
                               [&](int column) { return plus(corner.column + column); });
    });
}

template <class T> __device__ void linear_fwd(const Linear& p, const T* x, const T* w, const Wide<T>* bias, void* y) {
    const MatrixRows<T> a = {x, p.n, p.i}, b = {w, p.o, p.i};
    // Once, with the first part, and not behind the last column.
    auto plus = [&](int column) { return blockIdx.z == 0 && column < p.o ? bias[column] : Wide<T>(0); };
    store_product<T>(a, b, is_packed<T>(p.i, p.o), y, plus);
}

template <class T> __device__ void linear_dgrad(const Linear& p, const T* gy, const T* w, void* gx) {
    const MatrixRows<T> a = {gy, p.n, p.o};
    const MatrixColumns<T> b = {w, p.i, p.o};
    store_product<T>(a, b, is_packed<T>(p.i, p.o), gx, [](int) { return Wide<T>(0); });
}

// Rows that a thread loads before it adds up the first of them.
constexpr int BIAS_BATCH = 16;

// gb of this tile's columns: the sum of the rows of gy, a few threads to a column.
template <int COLUMNS, class T>
__device__ __forceinline__ void bias_gradient(const Linear& p, int first, const T* gy, Wide<T>* sums, Wide<T>* gb) {
    constexpr int SHARERS = THREADS / COLUMNS;
    const int column = first + threadIdx.x % COLUMNS, sharer = threadIdx.x / COLUMNS;
    Wide<T> sum = 0;
    auto add = [&](int, auto g) { sum += g.v[0]; };
    if (column < p.o) for_batches<1, BIAS_BATCH>(sharer, SHARERS, p.n, add, Column<const T>{gy + column, p.o});
    __syncthreads(); // the tile is stored
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (sharer > 0 || column >= p.o) return;
    for (int i = 1; i < SHARERS; i++) sum += sums[i * COLUMNS + threadIdx.x];
    gb[column] = sum;
}

// gw and gb in small tiles. The tiles that begin a row of gw add up gb from the elements of gy that they bring.
template <class T> __device__ __forceinline__ void small_wgrad(const Linear& p, const T* x, const T* gy, T* gw, T* gb) {
    const MatrixColumns<T> a = {gy, p.o, p.n}, b = {x, p.i, p.n};
    SmallProduct<T> product(p.i);
    T sum = 0;
    product.add(a, b, 0, p.n, [&](T g) { sum += g; });
    product.store(p.o, p.i, gw, [](int) { return T(0); });
    if (product.column > 0) return;
    DYN_SHARED(T, sums);
    __syncthreads(); // the last step is multiplied
    sums[threadIdx.x] = sum;
    __syncthreads();
    const int column = product.row + threadIdx.x;
    if (threadIdx.x >= SIDE || column >= p.o) return;
    for (int i = 1; i < THREADS / SIDE; i++) sum += sums[i * SIDE + threadIdx.x];
    gb[column] = sum;
}

// The first row of tiles adds up gb, each tile for its columns.
template <class T> __device__ void linear_wgrad(const Linear& p, const T* x, const T* gy, Wide<T>* gw, Wide<T>* gb) {
    if constexpr (!ON_TENSOR_CORES<T>) {
        if (has_small_tiles(p.i, p.o)) return small_wgrad(p, x, gy, gw, gb);
    }
    DYN_SHARED(Pack<T>, shared);
    with_shape<T>(is_packed<T>(p.i, p.o), p.o, [&](auto shape) {
        constexpr int COLUMNS = decltype(shape)::COLUMNS;
        const Corner corner(p.o, COLUMNS);
        const MatrixColumns<T> a = {x, p.i, p.n}, b = {gy, p.o, p.n};
        const auto product = tile_product<T>(shape, a, b, corner, 0, p.n, shared);
        store_transposed<COLUMNS>(product, corner, p.i, p.o, gw, shared);
        if (corner.row == 0) bias_gradient<COLUMNS>(p, corner.column, gy, reinterpret_cast<Wide<T>*>(shared), gb);
    });
}

#define LINEAR(T, dtype)                                                                                                  \
    TILED(T) linear_fwd_##dtype(const Linear p, const T* x, const T* w, const Wide<T>* b, void* y) { linear_fwd(p, x, w, b, y); } \
    TILED(T) linear_dgrad_##dtype(const Linear p, const T* gy, const T* w, void* gx) { linear_dgrad(p, gy, w, gx); }         \
    TILED(T) linear_wgrad_##dtype(const Linear p, const T* x, const T* gy, Wide<T>* gw, Wide<T>* gb) {                       \
        linear_wgrad(p, x, gy, gw, gb);                                                                                   \
    }
FOR_FLOATS(LINEAR)
