// y = act(x + bias) for x [m, c], bias [c]: what follows a convolution that has no batch normalisation.
//   backward  gx = gy·act'(x + bias), gbias = Σ gx over the pixels; for ReLU the sign of y tells as much as x
// Bound by bytes: a block takes BIAS_ROWS pixels of a span of channels (channels.cuh) and leaves one partial sum of them, which
// a second kernel adds in f64 and in a fixed order.
#include "activation.cuh"
#include "channels.cuh"

// As `Bias` in src/ops/bias.rs.
struct Bias {
    long long m;
    int c, act;
    int from_output, unused; // 1 if the backward pass reads y instead of x
};

// Pixels of one block and of one partial sum; `BIAS_ROWS` in src/ops/bias.rs must agree.
constexpr int BIAS_ROWS = 256;

// y [m, c].
template <class T>
__device__ __forceinline__ void bias_act_fwd(const Bias& p, const T* __restrict__ x, const Wide<T>* __restrict__ bias,
                                             T* __restrict__ y) {
    with_lane<T>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        if (!lane.active) return;
        using Packed = Pack<Wide<T>, N>;
        const Packed b = load<N>(bias + lane.channel);
        const long long first = (long long)range_of_block() * BIAS_ROWS;
        const int rows = int(min((long long)BIAS_ROWS, p.m - first));
        with_activation<T>(p.act, [&](auto act) {
            auto body = [&](long long at, Packed v) {
                for (int i = 0; i < N; i++) v.v[i] = act.f(v.v[i] + b.v[i]);
                write<N>(y + at, v);
            };
            for_rows(lane, rows, first * p.c + lane.channel, p.c, body, x);
        });
    });
}
#define BIAS_ACT_FWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bias_act_fwd_##dtype(const Bias p, const T* x, const Wide<T>* bias, T* y) {                                    \
        bias_act_fwd(p, x, bias, y);                                                                                   \
    }
FOR_FLOATS(BIAS_ACT_FWD)

// gx [m, c] and partials [⌈m/BIAS_ROWS⌉, c], the sums of gx over the pixels of a block.
template <class T>
__device__ __forceinline__ void bias_act_bwd(const Bias& p, const T* __restrict__ x, const T* __restrict__ gy,
                                             const Wide<T>* __restrict__ bias, T* __restrict__ gx, Wide<T>* partials) {
    __shared__ ColumnSlots<T> slots;
    with_lane<T>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        Pack<Wide<T>, N> sums[1] = {};
        if (lane.active) {
            auto b = p.from_output ? Pack<Wide<T>, N>{} : load<N>(bias + lane.channel);
            long long first = (long long)range_of_block() * BIAS_ROWS, end = min(first + BIAS_ROWS, p.m);
            constexpr int AT_ONCE = sizeof(T) == 4 ? 2 : 4; // with four, registers spill in f32 on sm_80
            with_activation<T>(p.act, [&](auto act) {
#pragma unroll AT_ONCE
                for (long long row = first + lane.row; row < end; row += lane.step) {
                    long long at = row * p.c + lane.channel;
                    auto v = read<N>(x + at), g = read<N>(gy + at);
                    for (int i = 0; i < N; i++) {
                        g.v[i] *= act.df(v.v[i] + b.v[i]);
                        sums[0].v[i] += g.v[i];
                    }
                    write<N>(gx + at, g);
                }
            });
        }
        column_sums(lane, sums, slots, [&](int, int column, Wide<T> sum) {
            int channel = lane.block_channel() + column;
            if (channel < p.c) partials[(long long)range_of_block() * p.c + channel] = sum;
        });
    });
}
#define BIAS_ACT_BWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) bias_act_bwd_##dtype(                                        \
        const Bias p, const T* x, const T* gy, const Wide<T>* bias, T* gx, Wide<T>* partials) {                        \
        bias_act_bwd(p, x, gy, bias, gx, partials);                                                                    \
    }
FOR_FLOATS(BIAS_ACT_BWD)

// Columns of a block of the combination, one sector of f32; the other threads of a column share its parts.
// `COMBINE_COLUMNS` in src/ops/bias.rs must agree.
constexpr int COMBINE_COLUMNS = 8;

// gbias [c] = Σ partials [parts, c].
template <class W> __device__ __forceinline__ void bias_bwd_combine(const Bias& p, const W* __restrict__ partials, W* gbias) {
    __shared__ double slots[THREADS];
    int channel = blockIdx.x * COMBINE_COLUMNS + threadIdx.x % COMBINE_COLUMNS;
    long long parts = (p.m + BIAS_ROWS - 1) / BIAS_ROWS;
    double sum = 0;
    if (channel < p.c) {
#pragma unroll 4
        for (long long part = threadIdx.x / COMBINE_COLUMNS; part < parts; part += THREADS / COMBINE_COLUMNS) {
            sum += partials[part * p.c + channel];
        }
    }
    slots[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= COMBINE_COLUMNS || channel >= p.c) return;
    sum = 0;
    for (int i = threadIdx.x; i < THREADS; i += COMBINE_COLUMNS) sum += slots[i];
    gbias[channel] = W(sum);
}
#define BIAS_BWD_COMBINE(W, dtype)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bias_bwd_combine_##dtype(const Bias p, const W* partials, W* gbias) {                                          \
        bias_bwd_combine(p, partials, gbias);                                                                          \
    }
FOR_WIDE(BIAS_BWD_COMBINE)
