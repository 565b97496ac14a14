// How a block is laid over rows of c channels (the pixels of an NHWC image): a thread keeps N neighbouring channels, 16 bytes
// unless its kernel wants fewer, or one where c is no multiple of so many, and walks down the rows, so that what depends on the
// channel stays in its registers. A block spans at most 128 bytes of a row, a cache line: gridDim.y is the number of spans, gridDim.x
// that of ranges of rows. `Grid::channels` in src/device/mod.rs must agree.
#pragma once
#include "common.cuh"

constexpr int SPAN_BYTES = 128;

// A block's range of rows and its span. The hardware starts blocks along x first; taken like this, those that share rows run side by side,
// and memory is read by whole rows and not by strips of them that are far apart in time.
__device__ __forceinline__ unsigned flat_block() { return blockIdx.y * gridDim.x + blockIdx.x; }
__device__ __forceinline__ unsigned range_of_block() { return flat_block() / gridDim.y; }
__device__ __forceinline__ unsigned span_of_block() { return flat_block() % gridDim.y; }

template <int PACK_SIZE> struct Lane {
    static constexpr int N = PACK_SIZE;
    int width;   // packs of channels that the block spans
    int row;     // the thread's first row in the block
    int step;    // rows from one of the thread's to the next
    int column;  // the thread's first channel, counted from that of the block
    int channel; // the same, counted in the tensor
    bool active; // whether the thread has channels and rows at all

    __device__ __forceinline__ Lane(int c) {
        int packs = c / N;
        width = (packs + gridDim.y - 1) / gridDim.y;
        step = blockDim.x / width;
        row = threadIdx.x / width;
        column = threadIdx.x % width * N;
        channel = span_of_block() * width * N + column;
        active = row < step && channel < c;
    }
    // The first channel of the block, in the tensor.
    __device__ __forceinline__ int block_channel() const { return channel - column; }
};

// Runs body(Lane<N>(c)), N being MOST where c is a multiple of it and else 1.
template <class T, int MOST = PACK<T>, class Body> __device__ __forceinline__ void with_lane(int c, Body body) {
    if (c % MOST == 0) {
        body(Lane<MOST>(c));
    } else {
        body(Lane<1>(c));
    }
}

// N elements in the type that they are computed with.
template <int N, class T> __device__ __forceinline__ Pack<Wide<T>, N> widen(const Pack<T, N>& stored) {
    Pack<Wide<T>, N> x;
    for (int i = 0; i < N; i++) x.v[i] = widen(stored.v[i]);
    return x;
}

// Two bf16 at a time, out of the word that holds them: taken apart into halves first, they would fill a register each.
template <int N> __device__ __forceinline__ Pack<float, N> widen(const Pack<bf16, N>& stored) {
    Pack<float, N> x;
    if constexpr (N == 1) {
        x.v[0] = widen(stored.v[0]);
    } else {
        for (int i = 0; i < N; i += 2) {
            unsigned pair;
            memcpy(&pair, stored.v + i, sizeof(pair));
            x.v[i] = __uint_as_float(pair << 16);
            x.v[i + 1] = __uint_as_float(pair & 0xffff0000u);
        }
    }
    return x;
}

template <int N, class T> __device__ __forceinline__ Pack<Wide<T>, N> read(const T* p) { return widen(load<N>(p)); }

template <int N, class T> __device__ __forceinline__ void write(T* p, const Pack<Wide<T>, N>& x) {
    Pack<T, N> stored;
    for (int i = 0; i < N; i++) stored.v[i] = narrow<T>(x.v[i]);
    store<N>(p, stored);
}

// The thread's channels in an image: where they are in the first row of the block, and from row to row.
template <class T> struct Column {
    T* first;
    int pitch;
    __device__ __forceinline__ T* at(int row) const { return first + (long long)row * pitch; }
};

// N elements of each of COUNT rows.
template <class T, int N, int COUNT> struct RowBatch {
    Pack<T, N> row[COUNT];
};

// Calls body(row, x...) for the rows first, first + step, ... below `rows`, with each x the values of one column there. BATCH
// rows are loaded before the first of them is used, so that enough bytes are under way.
template <int N, int BATCH, class Body, class T, class... In>
__device__ __forceinline__ void for_batches(int first, int step, int rows, Body body, Column<const T> column,
                                            Column<const In>... others) {
    for (int row = first; row < rows; row += BATCH * step) {
        auto fetch = [&](Column<const T> x) {
            RowBatch<T, N, BATCH> batch;
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                if (row + i * step < rows) batch.row[i] = load<N>(x.at(row + i * step));
            }
            return batch;
        };
        auto use = [&](auto... batch) {
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                if (row + i * step < rows) body(row + i * step, widen(batch.row[i])...);
            }
        };
        use(fetch(column), fetch(others)...);
    }
}

// Rows of images in a batch: 32 bytes of each image, as far as packs have so many.
template <int N, class T> constexpr int ROW_BATCH = N * sizeof(T) < 16 ? 4 : 2;

// The same for each of the thread's rows in a block of `rows`.
template <int N, class T, class Body, class... In>
__device__ __forceinline__ void for_columns(const Lane<N>& lane, int rows, Body body, Column<const T> first,
                                            Column<const In>... others) {
    for_batches<N, ROW_BATCH<N, T>>(lane.row, lane.step, rows, body, first, others...);
}

// The same for dense images of c channels: calls body(at, x...) with the offset of the channels, which begins with `start`.
template <int N, class Body, class... In>
__device__ __forceinline__ void for_rows(const Lane<N>& lane, int rows, long long start, int c, Body body, const In*... x) {
    auto at_row = [&](int row, auto... v) { body(start + (long long)row * c, v...); };
    for_columns(lane, rows, at_row, Column<const In>{x + start, c}...);
}

// Room for K packs of N of each thread in shared memory.
template <class T, int K = 1, int N = PACK<T>> struct alignas(32) ColumnSlots {
    Wide<T> v[K * THREADS * N];
};

// Adds up the packs of all threads that share channels, K sums at a time and in the order of their rows, and calls
// out(k, column, sum) for every column of the block, in one thread each. All threads of the block must call.
template <int K, int N, class T, int ROOM, int MOST, class Out>
__device__ __forceinline__ void column_sums(const Lane<N>& lane, const Pack<Wide<T>, N> (&sums)[K],
                                            ColumnSlots<T, ROOM, MOST>& shared, Out out) {
    static_assert(K * N <= ROOM * MOST, "more sums than slots");
    Wide<T>* slots = shared.v;
    int columns = lane.width * N, size = lane.step * columns;
    if (lane.row < lane.step) {
        for (int k = 0; k < K; k++) store<N>(slots + k * size + lane.row * columns + lane.column, sums[k]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < K * columns; i += blockDim.x) {
        int k = i / columns, column = i % columns;
        Wide<T> sum = 0;
        for (int row = 0; row < lane.step; row++) sum += slots[k * size + row * columns + column];
        out(k, column, sum);
    }
}
