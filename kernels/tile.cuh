// The matrix product that every convolution and fully connected layer is: D[row][column] = sum over k of A[row][k] B[column][k].
//
// A block of 256 threads computes a tile of 128 rows and 64 or 128 columns. Along k it goes in steps of 128 bytes per row:
//
//   global memory --loaders--> ring of STAGES stages in shared memory --Product--> registers --epilogue--> shared --> global
//
// A and B are gathered: an operand says where its element (row, k) lies, and whether its elements lie side by side along k or along
// the rows; a stage keeps them as they lie. Every 16 bytes of a stage are a chunk, and chunks are permuted so that eight of them
// read or written together never share a bank.
#pragma once
#include "product.cuh"

// Head of a kernel that multiplies in tiles: two blocks share a multiprocessor, so that one computes while the other waits, and so
// have 128 registers a thread; but not in double precision, which is for proofs.
#define TILED(T) extern "C" __global__ void __launch_bounds__(THREADS, sizeof(T) == 8 ? 1 : 2)

// A position in three nested loops, the innermost fastest, and the number of positions before it.
struct Position {
    int flat, outer, middle, inner;
};

// The extents of the inner two of three nested loops. Moving on needs no division: the distance is split into digits once.
struct Nest {
    int middle, inner;

    __device__ Position at(int flat) const {
        int rest = flat / inner;
        return {flat, rest / middle, rest % middle, flat % inner};
    }

    __device__ void advance(Position& p, const Position& distance) const {
        p.flat += distance.flat;
        p.inner += distance.inner;
        int carry = p.inner >= inner;
        p.inner -= carry ? inner : 0;
        p.middle += distance.middle + carry;
        carry = p.middle >= middle;
        p.middle -= carry ? middle : 0;
        p.outer += distance.outer + carry;
    }

    __device__ void next(Position& p) const { advance(p, {1, 0, 0, 1}); }
};

// a b for factors that are not negative: one instruction, where a product of signed numbers takes four.
__device__ __forceinline__ long long wide_product(int a, int b) { return (unsigned long long)unsigned(a) * unsigned(b); }

// Where an element lies. One that is not inside counts as zero, wherever: padding, or behind the last row or the end of k.
template <class T> struct Element {
    const T* at;
    bool inside;
};

// Operands without gathering: the rows of a matrix [count][depth], and the columns of a matrix [depth][count].
template <class T> struct MatrixRows {
    static constexpr bool ALONG_K = true, ONE_TAP = false;
    using Row = Element<T>; // its first

    const T* data;
    int count, depth;
    Nest nest = {1, 1};

    __device__ Row row(int i) const { return {data + (long long)i * depth, i < count}; }
    __device__ Element<T> at(const Row& row, const Position& k) const {
        bool inside = row.inside & (k.flat < depth);
        return {row.at + k.flat, inside};
    }
};

// A row whose elements lie beside those of the next: its first, and how many rows there are from it on.
template <class T> struct Beside {
    const T* first;
    int left;
    __device__ void next() { first++, left--; }
};

template <class T> struct MatrixColumns {
    static constexpr bool ALONG_K = false, ONE_TAP = false;
    using Row = Beside<T>;

    const T* data;
    int count, depth;
    Nest nest = {1, 1};

    __device__ Row row(int i) const { return {data + i, count - i}; }
    __device__ void next_row(Row& row) const { row.next(); }
    __device__ Element<T> at(const Row& row, const Position& k) const {
        bool inside = (row.left > 0) & (k.flat < depth);
        return {row.first + wide_product(k.flat, count), inside};
    }
};

// Brings an operand's next TILE_DEPTH of k into a stage, the same chunks by the same thread in every step. An operand has
//   ALONG_K              as above
//   ONE_TAP              whether the positions of a step differ in the innermost loop only
//   row(i)               what is to be known of row i
//   nest                 the loops that k counts through
//   at(row, position)    an element
//   next_row(row)        the row after it, if elements lie side by side along the rows
// PACKED: a chunk lies in memory as 16 aligned bytes, or is outside as a whole; else its elements are gathered one by one.
template <class T, class Operand, int ROWS, bool PACKED> struct Loader {
    static constexpr bool ALONG_K = Operand::ALONG_K;
    using Layout = Stage<T, ROWS, ALONG_K>;
    static constexpr int LOADS = Layout::CHUNKS / THREADS;
    static constexpr int ACROSS = ALONG_K ? CHUNKS_DEEP : ROWS / PACK<T>; // chunks side by side in memory
    static constexpr int DOWN = THREADS / ACROSS; // lines from a thread's chunk to its next
    static constexpr bool ONE_POSITION = ALONG_K || Operand::ONE_TAP;
    static constexpr bool ONE_CHUNK = DOWN % 8 == 0; // the permutation is the same for all of a thread's lines
    static_assert(Layout::CHUNKS % THREADS == 0 && THREADS % ACROSS == 0, "threads keep their column of chunks");

    const Operand& operand;
    typename Operand::Row rows[ALONG_K ? LOADS : 1];
    Position positions[ONE_POSITION ? 1 : LOADS];
    Position step;
    int chunks[ONE_CHUNK ? 1 : LOADS];

    __device__ Loader(const Operand& operand, int first_row, int first_k) : operand(operand), step(operand.nest.at(TILE_DEPTH<T>)) {
        int across = threadIdx.x % ACROSS * PACK<T>;
        for (int i = 0; i < LOADS; i++) {
            int down = threadIdx.x / ACROSS + i * DOWN;
            int row = ALONG_K ? down : across, k = ALONG_K ? across : down;
            if (!ONE_CHUNK || i == 0) chunks[i] = Layout::chunk(row, k);
            if (ALONG_K || i == 0) rows[i] = operand.row(first_row + row);
            if (!ONE_POSITION || i == 0) positions[i] = operand.nest.at(first_k + k);
        }
    }

    __device__ void load(Pack<T>* stage) {
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const auto& row = rows[ALONG_K ? i : 0];
            Position position = positions[ONE_POSITION ? 0 : i];
            if constexpr (!ALONG_K) {
                position.flat = positions[0].flat + i * DOWN; // so that only one is kept
                if constexpr (Operand::ONE_TAP) position.inner += i * DOWN;
            }
            Pack<T>* chunk = stage + (ONE_CHUNK ? chunks[0] + i * DOWN * 8 : chunks[i]);
            if constexpr (PACKED) {
                const auto [at, inside] = operand.at(row, position);
                cp_async16(chunk, at, inside);
            } else {
                *chunk = gathered(row, position);
                __syncwarp(); // or the compiler gathers all chunks at once and runs out of registers
            }
        }
#pragma unroll
        for (Position& position : positions) operand.nest.advance(position, step);
    }

    __device__ Pack<T> gathered(typename Operand::Row row, Position position) const {
        Pack<T> pack;
#pragma unroll
        for (int j = 0; j < PACK<T>; j++) {
            const auto [at, inside] = operand.at(row, position);
            pack.v[j] = inside ? *at : narrow<T>(0);
            if constexpr (ALONG_K) {
                operand.nest.next(position);
            } else {
                operand.next_row(row);
            }
        }
        return pack;
    }
};

// Whether tensors of rows of `c` and `k` channels are made of aligned chunks; `packed` in src/ops/conv/tiles.rs must agree.
template <class T> __device__ __forceinline__ bool is_packed(int c, int k) { return c % PACK<T> == 0 && k % PACK<T> == 0; }

// Columns of a tile; the wide ones on tensor cores only. src/ops/conv/tiles.rs must agree.
constexpr int NARROW = 64, WIDE = 128;

// What a kernel decides at run time and the tile knows when it is compiled.
template <int N, bool P, Unit U> struct Shape {
    static constexpr int COLUMNS = N;
    static constexpr bool PACKED = P;
    static constexpr Unit UNIT = U; // that multiplies
};

template <Unit U> struct UnitIs { static constexpr Unit value = U; };

// The tile for a product of so many columns: `packed` if the operands are made of aligned chunks. Must agree with `width` in
// src/ops/conv/tiles.rs. ALWAYS_PACKED: the caller knows that they are.
template <class T, bool ALWAYS_PACKED = false, class F>
__device__ __forceinline__ void with_shape(bool packed, int columns, F f) {
    auto with_unit = [&](auto unit) {
        constexpr Unit U = decltype(unit)::value;
        if constexpr (!ALWAYS_PACKED) {
            if (!packed) return f(Shape<NARROW, false, U>{});
        }
        if constexpr (ON_TENSOR_CORES<T>) {
            // Where narrow tiles leave a fifth less empty they are quicker.
            if (ceil_div(columns, WIDE) * WIDE * 5 <= ceil_div(columns, NARROW) * NARROW * 6) return f(Shape<WIDE, true, U>{});
        }
        f(Shape<NARROW, true, U>{});
    };
    if constexpr (ON_TENSOR_CORES<T>) {
        with_warp_groups([&](auto has) { with_unit(UnitIs<decltype(has)::value ? Unit::WARP_GROUP : Unit::WARP>()); });
    } else {
        with_unit(UnitIs<Unit::THREAD>());
    }
}

// Where this block's tile begins. Tiles that share rows of A run side by side, so that the second finds them in the cache.
struct Corner {
    int row, column;
    __device__ Corner(int columns, int width) {
        int tiles_across = ceil_div(columns, width);
        row = blockIdx.x / tiles_across * TILE_ROWS;
        column = blockIdx.x % tiles_across * width;
    }
};

// The blockIdx.z-th of gridDim.z parts of k in [0, depth), in whole steps but for the last.
template <class T> struct Part {
    int begin, end;
    __device__ Part(int depth) {
        int length = ceil_div(ceil_div(depth, gridDim.z), TILE_DEPTH<T>) * TILE_DEPTH<T>;
        begin = min(depth, length * (int)blockIdx.z);
        end = min(depth, begin + length);
    }
};

// The product of a tile's rows of A and columns of B over k in [begin, end).
template <class T, class S, class A, class B>
__device__ __forceinline__ auto tile_product(S, const A& a, const B& b, Corner corner, int begin, int end, Pack<T>* ring) {
    using LayoutA = Stage<T, TILE_ROWS, A::ALONG_K>;
    constexpr int STAGE = LayoutA::CHUNKS + Stage<T, S::COLUMNS, B::ALONG_K>::CHUNKS;
    Loader<T, A, TILE_ROWS, S::PACKED> a_loader(a, corner.row, begin);
    Loader<T, B, S::COLUMNS, S::PACKED> b_loader(b, corner.column, begin);
    Product<T, S::COLUMNS, A::ALONG_K, B::ALONG_K, S::UNIT> product;
    const int steps = max(1, ceil_div(end - begin, TILE_DEPTH<T>)); // a sum of nothing has a step of zeros
    auto load = [&](int step) {
        if (step < steps) {
            Pack<T>* stage = ring + step % STAGES * STAGE;
            a_loader.load(stage);
            b_loader.load(stage + LayoutA::CHUNKS);
        }
        cp_async_commit(); // also without copies: the waits below count groups
    };
    for (int step = 0; step < STAGES - 1; step++) load(step);
    for (int step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        product.settle();
        __syncthreads(); // this stage is there, and nobody reads the one before it any more
        const Pack<T>* stage = ring + step % STAGES * STAGE;
        if constexpr (S::UNIT != Unit::WARP_GROUP) load(step + STAGES - 1);
        product.add(stage, stage + LayoutA::CHUNKS);
        if constexpr (S::UNIT == Unit::WARP_GROUP) load(step + STAGES - 1); // while the tensor cores multiply
    }
    product.finish();
    cp_async_wait<0>();
    __syncthreads(); // the ring is free for the epilogue
    return product;
}

// A tile as it will be stored, in shared memory; 16 bytes more in a row keep columns out of each other's banks.
template <class O, int COLUMNS> struct Staged {
    static constexpr int PITCH = COLUMNS + PACK<O>;
    static constexpr int PACKS = TILE_ROWS * PITCH / PACK<O>; // of the whole tile
    static constexpr int ACROSS = COLUMNS / PACK<O>;          // of a row
    O* values;

    // The first column of the pack that this thread has of every row that it stores.
    __device__ static int own_column() { return threadIdx.x % ACROSS * PACK<O>; }

    __device__ O& at(int row, int column) const { return values[row * PITCH + column]; }

    // Rounds the sums of all threads, after `plus(column)` is added.
    template <class P, class F> __device__ void take(const P& product, F plus) const {
        product.each([&](int row, int column, auto sum, auto next) {
            Pack<O, 2> pair = {narrow<O>(sum + plus(column)), narrow<O>(next + plus(column + 1))};
            store<2>(&at(row, column), pair);
        });
        __syncthreads();
    }
    template <class P> __device__ void take(const P& product) const {
        take(product, [](int) { return 0; });
    }

    // Adds to the tile what is already where `store_rows` will store it, each thread to its own packs, BATCH of them under way at a time.
    template <int ROWS, class F> __device__ void add_stored(int columns, bool packed, F target) const {
        constexpr int STEP = THREADS / ACROSS, BATCH = 4;
        const int column = own_column();
        for (int first = threadIdx.x / ACROSS; first < ROWS; first += BATCH * STEP) {
            Pack<O> packs[BATCH] = {};
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                const O* from = target(first + i * STEP);
                if (from == nullptr) continue;
                if (packed && column < columns) {
                    packs[i] = load<PACK<O>>(from + column);
                } else {
                    for (int j = 0; j < PACK<O>; j++)
                        if (column + j < columns) packs[i].v[j] = from[column + j];
                }
            }
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                O* row = &at(first + i * STEP, column);
                auto sums = load<PACK<O>>(row);
                for (int j = 0; j < PACK<O>; j++) sums.v[j] = narrow<O>(widen(packs[i].v[j]) + widen(sums.v[j]));
                store<PACK<O>>(row, sums);
            }
        }
    }

    // Stores the part of the tile that is in the result; `target(row)` is where columns 0 and up of a row go, null behind the last
    // row. 16 bytes at a time if the rows are made of aligned packs. Shows each pack to `see` on the way.
    template <int ROWS, class F, class G> __device__ void store_rows(int columns, bool packed, F target, G see) const {
        static_assert(THREADS % ACROSS == 0, "threads keep their column");
        const int column = own_column();
        for (int row = threadIdx.x / ACROSS; row < ROWS; row += THREADS / ACROSS) {
            O* to = target(row);
            if (to == nullptr) continue;
            auto pack = load<PACK<O>>(&at(row, column));
            see(pack);
            if (packed && column < columns) {
                store<PACK<O>>(to + column, pack);
            } else {
                for (int j = 0; j < PACK<O>; j++)
                    if (column + j < columns) to[column + j] = pack.v[j];
            }
        }
    }
    template <int ROWS, class F> __device__ void store_rows(int columns, bool packed, F target) const {
        store_rows<ROWS>(columns, packed, target, [](const Pack<O>&) {});
    }
};

// Stores the transpose of a tile, its columns being rows of `out` [columns][rows].
template <int COLUMNS, class O, class P, class R>
__device__ __forceinline__ void store_transposed(const P& product, Corner corner, int rows, int columns, O* out, R* shared) {
    const Staged<O, TILE_ROWS> staged = {reinterpret_cast<O*>(shared)};
    product.each([&](int row, int column, O sum, O next) {
        staged.at(column, row) = sum;
        staged.at(column + 1, row) = next;
    });
    __syncthreads();
    const bool packed = rows % PACK<O> == 0 && reinterpret_cast<size_t>(out) % 16 == 0;
    staged.template store_rows<COLUMNS>(rows - corner.row, packed, [&](int row) {
        return corner.column + row < columns ? out + (long long)(corner.column + row) * rows + corner.row : nullptr;
    });
}
