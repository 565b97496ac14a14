// The first two moments of each channel over a block's pixels, from which batch normalisation gets its statistics.
#pragma once
#include "channels.cuh"

template <class T> struct alignas(32) MomentSlots {
    ColumnSlots<T> sums;
    Wide<T> means[SPAN_BYTES / sizeof(T)];
};

// moments [2, c] of x [rows, c]: the mean, then the sum of squared deviations from it, in two passes, the second out of cache.
// All threads of the block must call.
template <int N, class T>
__device__ __forceinline__ void block_moments(const Lane<N>& lane, const T* x, int rows, int c, Wide<T>* moments,
                                              MomentSlots<T>& slots) {
    const int block_channel = lane.block_channel();
    Pack<Wide<T>, N> sums[1] = {};
    auto add = [&](long long, auto v) {
        for (int i = 0; i < N; i++) sums[0].v[i] += v.v[i];
    };
    if (lane.active) for_rows(lane, rows, lane.channel, c, add, x);
    column_sums(lane, sums, slots.sums, [&](int, int column, Wide<T> sum) {
        slots.means[column] = sum / rows;
        if (block_channel + column < c) moments[block_channel + column] = sum / rows;
    });
    __syncthreads();
    Pack<Wide<T>, N> m2[1] = {};
    if (lane.active) {
        auto mean = load<N>(slots.means + lane.column);
        auto add = [&](long long, auto v) {
            for (int i = 0; i < N; i++) m2[0].v[i] += (v.v[i] - mean.v[i]) * (v.v[i] - mean.v[i]);
        };
        for_rows(lane, rows, lane.channel, c, add, x);
    }
    column_sums(lane, m2, slots.sums, [&](int, int column, Wide<T> sum) {
        if (block_channel + column < c) moments[c + block_channel + column] = sum;
    });
}

// The moments of values that a thread has had one after the other, kept as sums of their deviations from the first of them, which
// do not cancel where the mean is large.
template <class T, int N> struct OwnMoments {
    Pack<Wide<T>, N> first, sum, squares;
    int count;

    // Before the first `add`, and harmless before others.
    __device__ __forceinline__ void begin(const Pack<Wide<T>, N>& x) {
        if (count == 0) first = x;
    }
    __device__ __forceinline__ void add(const Pack<Wide<T>, N>& x) {
        count++;
        for (int i = 0; i < N; i++) {
            const Wide<T> d = x.v[i] - first.v[i];
            sum.v[i] += d;
            squares.v[i] += d * d;
        }
    }
    __device__ __forceinline__ Wide<T> mean(int i) const { return count ? first.v[i] + sum.v[i] / count : 0; }
    __device__ __forceinline__ Wide<T> m2(int i) const { return count ? squares.v[i] - sum.v[i] * sum.v[i] / count : 0; }
};

// moments [2, c] of the `rows` values a channel that the threads of the block have had. All threads must call.
template <int N, class T>
__device__ __forceinline__ void block_moments(const Lane<N>& lane, const OwnMoments<T, N>& own, int rows, int c, Wide<T>* moments,
                                              MomentSlots<T>& slots) {
    const int block_channel = lane.block_channel();
    Pack<Wide<T>, N> sums[1], m2[1];
    for (int i = 0; i < N; i++) sums[0].v[i] = own.count * own.mean(i);
    column_sums(lane, sums, slots.sums, [&](int, int column, Wide<T> sum) {
        slots.means[column] = sum / rows;
        if (block_channel + column < c) moments[block_channel + column] = sum / rows;
    });
    __syncthreads();
    // Chan, Golub and LeVeque 1983: each thread's own, and the distance of its mean from that of all.
    for (int i = 0; i < N; i++) {
        const Wide<T> d = lane.row < lane.step ? own.mean(i) - slots.means[lane.column + i] : 0;
        m2[0].v[i] = own.m2(i) + own.count * d * d;
    }
    column_sums(lane, m2, slots.sums, [&](int, int column, Wide<T> sum) {
        if (block_channel + column < c) moments[c + block_channel + column] = sum;
    });
}
