// How a block of threads multiplies one stage of a tile (tile.cuh): the layout of a stage in shared memory, and the sums in
// registers, on the tensor cores for bf16 and f16 and with ordinary multiplications for f32 and f64.
#pragma once
#include "common.cuh"
#include "warp_group.cuh"

// These three must agree with src/ops/conv/tiles.rs, the rows also with `MOMENT_ROWS` in src/device/cuda/mod.rs.
constexpr int TILE_ROWS = 128;
constexpr int STAGES = 3;
constexpr int CHUNKS_DEEP = 8; // chunks of a row in a stage

template <class T> constexpr int TILE_DEPTH = CHUNKS_DEEP * PACK<T>;
template <class T> constexpr bool ON_TENSOR_CORES = sizeof(T) == 2;

// ROWS rows of an operand in a stage; the chunk that holds element (row, k). ALONG_K: elements of a chunk differ in k, and a row has 128
// bytes of k; else they differ in row, and 128 bytes of rows share a k. Eight such lines are permuted as wgmma wants it.
template <class T, int ROWS, bool ALONG_K> struct Stage {
    static constexpr int CHUNKS = ROWS * CHUNKS_DEEP;

    __device__ static int chunk(int row, int k) {
        if constexpr (ALONG_K) {
            return row * CHUNKS_DEEP + (k / PACK<T> ^ row % CHUNKS_DEEP);
        } else {
            const int across = row / PACK<T>;
            return (across / 8 * TILE_DEPTH<T> + k) * 8 + (across ^ k) % 8;
        }
    }

    // For wgmma: 16 of k from `k` on, and the rows from `row` on, a multiple of 64.
    __device__ static uint64_t operand(const Pack<T>* stage, int row, int k) {
        constexpr int GROUP = TILE_DEPTH<T> * 128; // bytes from 64 rows to the next, if those share a k
        const char* first = reinterpret_cast<const char*>(stage) + row / 64 * 64 * CHUNKS_DEEP * 16;
        return matrix_in_shared(first + k * (ALONG_K ? int(sizeof(T)) : 128), GROUP);
    }
};

enum class Unit { THREAD, WARP, WARP_GROUP };

// The tile's sums in registers: add(A's stage, B's stage), and in the end each(f), which calls f(row, column, sum, sum of the next
// column) for all that a thread holds. In front of a barrier, `settle` waits until stages that were added are no longer read, and
// makes visible what the thread brought into others. `finish` comes before `each`.
template <class T, int COLUMNS, bool A_ALONG_K, bool B_ALONG_K, Unit UNIT> struct Product;

// Every warp has some rows of 32 columns; 16x8 sums take one mma for 16 of k.
template <class T, int COLUMNS, bool A_ALONG_K, bool B_ALONG_K> struct Product<T, COLUMNS, A_ALONG_K, B_ALONG_K, Unit::WARP> {
    using LayoutA = Stage<T, TILE_ROWS, A_ALONG_K>;
    using LayoutB = Stage<T, COLUMNS, B_ALONG_K>;
    static constexpr int WARPS_ACROSS = COLUMNS / 32;
    static constexpr int ROWS = TILE_ROWS / (THREADS / WARP / WARPS_ACROSS); // of a warp
    static constexpr int DOWN = ROWS / 16, ACROSS = 4;

    float sums[DOWN][ACROSS][4] = {};

    __device__ void settle() const {}
    __device__ void finish() const {}

    __device__ static int lane() { return threadIdx.x % WARP; }
    __device__ static int first_row() { return threadIdx.x / WARP / WARPS_ACROSS * ROWS; }
    __device__ static int first_column() { return threadIdx.x / WARP % WARPS_ACROSS * 32; }

    __device__ void add(const Pack<T>* a_stage, const Pack<T>* b_stage) {
        // The four 8x8 matrices of an ldmatrix, 8 lanes for the rows of each: the second is below the first for A and further along k
        // for B. Where elements lie along the rows of the tile, rows of the matrices are steps of k.
        int low = lane() % 8, bit3 = lane() / 8 % 2 * 8, bit4 = lane() / 16 * 8;
#pragma unroll 1 // other warps hide the loads' latency; the fragments of two steps at once would not fit the registers
        for (int k = 0; k < TILE_DEPTH<T>; k += 16) {
            uint32_t a[DOWN][4], b[ACROSS / 2][4];
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                const int row = first_row() + i * 16;
                if constexpr (A_ALONG_K) {
                    ldmatrix_x4(a[i], a_stage + LayoutA::chunk(row + low + bit3, k + bit4));
                } else {
                    ldmatrix_x4_trans(a[i], a_stage + LayoutA::chunk(row + bit3, k + low + bit4));
                }
            }
#pragma unroll
            for (int j = 0; j < ACROSS / 2; j++) {
                const int column = first_column() + j * 16;
                if constexpr (B_ALONG_K) {
                    ldmatrix_x4(b[j], b_stage + LayoutB::chunk(column + low + bit4, k + bit3));
                } else {
                    ldmatrix_x4_trans(b[j], b_stage + LayoutB::chunk(column + bit4, k + low + bit3));
                }
            }
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
#pragma unroll
                for (int j = 0; j < ACROSS; j++) {
                    const uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
                    mma_m16n8k16<T>(sums[i][j], a[i], pair);
                }
            }
        }
    }

    template <class F> __device__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
#pragma unroll
            for (int j = 0; j < ACROSS; j++) {
                int row = first_row() + i * 16 + lane() / 4, column = first_column() + j * 8 + lane() % 4 * 2;
                f(row, column, sums[i][j][0], sums[i][j][1]);
                f(row + 8, column, sums[i][j][2], sums[i][j][3]);
            }
        }
    }
};

// Every warp group has 64 rows and all columns.
template <class T, int COLUMNS, bool A_ALONG_K, bool B_ALONG_K> struct Product<T, COLUMNS, A_ALONG_K, B_ALONG_K, Unit::WARP_GROUP> {
    static constexpr int GROUP = 4 * WARP, ROWS = 64;
    static_assert(THREADS / GROUP * ROWS == TILE_ROWS, "a group for each 64 rows");

    // Unwritten until the first product, which does not add: ptxas lets products wait for each other where other instructions write their sums.
    float sums[COLUMNS / 2];
    bool more = false;

    __device__ static int first_row() { return threadIdx.x / GROUP * ROWS; }

    __device__ void add(const Pack<T>* a_stage, const Pack<T>* b_stage) {
        wgmma_begin();
#pragma unroll
        for (int k = 0; k < TILE_DEPTH<T>; k += 16) {
            const uint64_t a = Stage<T, TILE_ROWS, A_ALONG_K>::operand(a_stage, first_row(), k);
            wgmma_k16<T, A_ALONG_K, B_ALONG_K>(sums, a, Stage<T, COLUMNS, B_ALONG_K>::operand(b_stage, 0, k), more || k > 0);
        }
        wgmma_commit();
        more = true;
    }

    __device__ void settle() {
        wgmma_wait<0>();
        wgmma_publish();
    }
    __device__ void finish() {
        wgmma_wait<0>();
        wgmma_hold(sums);
    }

    template <class F> __device__ void each(F f) const {
        const int lane = threadIdx.x % WARP, row = first_row() + threadIdx.x % GROUP / WARP * 16 + lane / 4;
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++) {
            const int column = j * 8 + lane % 4 * 2;
            f(row, column, sums[4 * j], sums[4 * j + 1]);
            f(row + 8, column, sums[4 * j + 2], sums[4 * j + 3]);
        }
    }
};

// A thread's place among the 16x16 of a block. A warp has 4x8 of them: fewer different addresses in a read than 2x16.
__device__ __forceinline__ int square_row() { return threadIdx.x / 64 * 4 + threadIdx.x % 32 / 8; }
__device__ __forceinline__ int square_column() { return threadIdx.x / 32 % 2 * 8 + threadIdx.x % 8; }

// Single and double precision: 16x16 threads, each with 8x4 sums.
template <class T, int COLUMNS, bool A_ALONG_K, bool B_ALONG_K> struct Product<T, COLUMNS, A_ALONG_K, B_ALONG_K, Unit::THREAD> {
    static constexpr int SIDE = 16, DOWN = TILE_ROWS / SIDE, ACROSS = COLUMNS / SIDE;
    static_assert(SIDE * SIDE == THREADS, "one thread for each 8x4 sums");

    T sums[DOWN][ACROSS] = {};

    __device__ void settle() const {}
    __device__ void finish() const {}

    // The i-th row (or column) of the t-th of 16 threads: `group` neighbours for each thread in turn.
    __device__ static constexpr int index(int t, int i, int group) { return (i / group * SIDE + t) * group + i % group; }
    static constexpr int GROUP_A = A_ALONG_K ? 1 : PACK<T>, GROUP_B = B_ALONG_K ? 2 : PACK<T>;

    // N rows of an operand for PACK<T> values of k.
    template <int N, int GROUP, bool ALONG_K>
    __device__ static void fetch(const Pack<T>* stage, int t, int k, T (&values)[N][PACK<T>]) {
        using Layout = Stage<T, N * SIDE, ALONG_K>;
#pragma unroll
        for (int i = 0; i < N; i++) {
            // The i-th chunk: all of k for row i, or one k for as many rows.
            const int row = ALONG_K ? i : i / PACK<T> * PACK<T>, deep = ALONG_K ? 0 : i % PACK<T>;
            Pack<T> chunk = stage[Layout::chunk(index(t, row, GROUP), k + deep)];
            for (int j = 0; j < PACK<T>; j++) (ALONG_K ? values[row][j] : values[row + j][deep]) = chunk.v[j];
        }
    }

    __device__ void add(const Pack<T>* a_stage, const Pack<T>* b_stage) {
#pragma unroll 1 // as of the warps
        for (int k = 0; k < TILE_DEPTH<T>; k += PACK<T>) {
            T a[DOWN][PACK<T>], b[ACROSS][PACK<T>];
            fetch<DOWN, GROUP_A, A_ALONG_K>(a_stage, square_row(), k, a);
            fetch<ACROSS, GROUP_B, B_ALONG_K>(b_stage, square_column(), k, b);
#pragma unroll
            for (int deep = 0; deep < PACK<T>; deep++)
#pragma unroll
                for (int i = 0; i < DOWN; i++)
#pragma unroll
                    for (int j = 0; j < ACROSS; j++) sums[i][j] += a[i][deep] * b[j][deep];
        }
    }

    template <class F> __device__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j += 2)
                f(index(square_row(), i, GROUP_A), index(square_column(), j, GROUP_B), sums[i][j], sums[i][j + 1]);
    }
};
