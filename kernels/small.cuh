// The matrix product of tile.cuh for single and double precision where results are few, as in a squeeze-and-excite block: a large
// tile would be mostly empty and too few of them would wait for memory. Tiles of 32x32 results by 256 threads, two by two sums each.
// Elements are loaded one by one, neighbours by neighbouring threads, whatever the alignment; those of the next step of k
// are on their way in registers while this one is multiplied.
#pragma once
#include "tile.cuh"

// Rows and columns of a small tile, and its step along k; as `SIDE` in src/ops/linear.rs.
constexpr int SIDE = 32;
// Of a stage in shared memory, [k][row]: pairs stay aligned, and what is stored along k spreads over half the banks.
constexpr int SMALL_PITCH = SIDE + 2;
// So many large tiles fill a GPU well enough; as `MANY` in src/ops/linear.rs.
constexpr int MANY_TILES = 64;

// As `small_grid` in src/ops/linear.rs.
__device__ __forceinline__ bool has_small_tiles(int rows, int columns) {
    return ceil_div(rows, TILE_ROWS) * ceil_div(columns, NARROW) < MANY_TILES;
}

// What a thread brings of an operand in a step.
template <class T, class Operand> struct SmallSlice {
    static constexpr int LOADS = SIDE * SIDE / THREADS;

    T values[LOADS];

    __device__ static int across() { return threadIdx.x % SIDE; }
    __device__ static int down(int i) { return threadIdx.x / SIDE + i * (THREADS / SIDE); }
    __device__ static int row(int i) { return Operand::ALONG_K ? down(i) : across(); }
    __device__ static int k(int i) { return Operand::ALONG_K ? across() : down(i); }

    __device__ void load(const Operand& operand, int first_row, int first_k, int end) {
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const Position position = {first_k + k(i), 0, 0, 0};
            const Element element = operand.at(operand.row(first_row + row(i)), position);
            values[i] = element.inside && position.flat < end ? *element.at : T(0);
        }
    }

    __device__ void put(T* stage) const {
#pragma unroll
        for (int i = 0; i < LOADS; i++) stage[k(i) * SMALL_PITCH + row(i)] = values[i];
    }
};

template <class T> struct SmallProduct {
    static constexpr int STAGE = SIDE * SMALL_PITCH; // of one operand

    int row, column; // where the tile begins
    T sums[2][2] = {};

    __device__ SmallProduct(int columns) {
        const int tiles_across = ceil_div(columns, SIDE);
        row = blockIdx.x / tiles_across * SIDE;
        column = blockIdx.x % tiles_across * SIDE;
    }

    // The thread's first row and column in the tile.
    __device__ static int down() { return square_row() * 2; }
    __device__ static int across() { return square_column() * 2; }

    // Adds the products over k in [begin, end), and shows each thread's elements of A to `see` in their order.
    template <class A, class B, class F> __device__ __forceinline__ void add(const A& a, const B& b, int begin, int end, F see) {
        DYN_SHARED(T, stages);
        SmallSlice<T, A> a_next;
        SmallSlice<T, B> b_next;
        auto load = [&](int k) {
            a_next.load(a, row, k, end);
            b_next.load(b, column, k, end);
        };
        load(begin);
        for (int k = begin; k < end; k += SIDE) {
            T* stage = stages + (k - begin) / SIDE % 2 * 2 * STAGE;
            a_next.put(stage);
            b_next.put(stage + STAGE);
            for (T value : a_next.values) see(value);
            __syncthreads(); // this stage is there, and nobody reads the other any more
            if (k + SIDE < end) load(k + SIDE);
            multiply(stage, stage + STAGE);
        }
    }

    __device__ void multiply(const T* a_stage, const T* b_stage) {
#pragma unroll 8
        for (int k = 0; k < SIDE; k++) {
            const auto a = load<2>(a_stage + k * SMALL_PITCH + down()), b = load<2>(b_stage + k * SMALL_PITCH + across());
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 2; j++) sums[i][j] += a.v[i] * b.v[j];
        }
    }

    // Stores the sums in `out` [rows][columns], `plus(column)` added.
    template <class F> __device__ void store(int rows, int columns, T* out, F plus) const {
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 2; j++) {
                const int to_row = row + down() + i, to_column = column + across() + j;
                if (to_row < rows && to_column < columns) {
                    out[(long long)to_row * columns + to_column] = sums[i][j] + plus(to_column);
                }
            }
        }
    }
};
