// How a block is laid over rows of c channels (the pixels of an NHWC image): a thread keeps N neighbouring channels, 16 bytes
// where c is a multiple of that and one element otherwise, and walks down the rows, so that what depends on the channel stays
// in its registers. A block spans at most 128 bytes of a row, a cache line; blockIdx.y counts the spans.
// `Grid::channels` in src/device/mod.rs must agree.
#pragma once
#include "common.cuh"

constexpr int SPAN_BYTES = 128;

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
        channel = blockIdx.y * width * N + column;
        active = row < step && channel < c;
    }
};

// Runs body(Lane<N>(c)) with the widest N that c allows.
template <class T, class Body> __device__ __forceinline__ void with_lane(int c, Body body) {
    if (c % PACK<T> == 0) {
        body(Lane<PACK<T>>(c));
    } else {
        body(Lane<1>(c));
    }
}

// N elements in the type that they are computed with.
template <int N, class T> __device__ __forceinline__ Pack<Wide<T>, N> read(const T* p) {
    auto stored = load<N>(p);
    Pack<Wide<T>, N> x;
    for (int i = 0; i < N; i++) x.v[i] = widen(stored.v[i]);
    return x;
}

template <int N, class T> __device__ __forceinline__ void write(T* p, const Pack<Wide<T>, N>& x) {
    Pack<T, N> stored;
    for (int i = 0; i < N; i++) stored.v[i] = narrow<T>(x.v[i]);
    store<N>(p, stored);
}

// Adds up the packs of all threads that share channels, K sums at a time and in the order of their rows, and calls
// out(k, column, sum) for every column of the block, in one thread each. All threads of the block must call; `slots` holds K
// packs a thread.
template <int K, int N, class W, class Out>
__device__ __forceinline__ void column_sums(const Lane<N>& lane, const Pack<W, N> (&sums)[K], W* slots, Out out) {
    int columns = lane.width * N, size = lane.step * columns;
    if (lane.row < lane.step) {
        for (int k = 0; k < K; k++) store<N>(slots + k * size + lane.row * columns + lane.column, sums[k]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < K * columns; i += blockDim.x) {
        int k = i / columns, column = i % columns;
        W sum = 0;
        for (int row = 0; row < lane.step; row++) sum += slots[k * size + row * columns + column];
        out(k, column, sum);
    }
}
