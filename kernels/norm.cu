// Batch normalisation (Ioffe and Szegedy 2015) of m pixels of c channels, the first of y [m, width], fused with the activation
// and the residual addition that follow it. Per channel, with r = 1/√(σ² + ε):
//   forward   u = (y − μ)·γ·r + β, z = act(u) or relu(u + residual)
//   backward  gβ = Σ gu, gγ = Σ gu·ŷ with ŷ = (y − μ)·r, gy = γ·r·(gu − gβ/m − ŷ·gγ/m)
// All kernels over images are bound by bytes: a block takes `rows` pixels of a span of channels (channels.cuh), and sums over
// pixels leave one partial a block, which a second kernel adds in f64 and in a fixed order (`Combine`).
#include "activation.cuh"
#include "moments.cuh"

// As `Norm` in src/ops/norm/mod.rs.
struct Norm {
    long long m;
    double eps, momentum;
    int c, act, batch, moment_rows, width, add, rows, unused;

    // Parts of all pixels that have so many each.
    __device__ __forceinline__ int parts(int rows) const { return int((m + rows - 1) / rows); }
};

// Channels of a thread, where c is a multiple of them. What it keeps of each decides how many blocks share a multiprocessor: in half types
// four forward and three backward.
template <class T> constexpr int CHANNELS = PACK<T> < 4 ? PACK<T> : 4;
#define FORWARD_BOUNDS(T) __launch_bounds__(THREADS, sizeof(T) == 2 ? 4 : 1)
#define BACKWARD_BOUNDS(T) __launch_bounds__(THREADS, sizeof(T) == 2 ? 3 : 1)

// The pixels of a block: which is the first and how many there are, and where a thread's channels lie in their images.
struct Rows {
    int count;
    long long first;
    __device__ __forceinline__ Rows(const Norm& p, int rows) {
        first = (long long)range_of_block() * rows;
        count = int(min((long long)rows, p.m - first));
    }
    template <class T> __device__ __forceinline__ Column<T> column(T* image, int channel, int pitch) const {
        return {image + first * pitch + channel, pitch};
    }
};

// moments [⌈m/moment_rows⌉, 2, c] of y [m, c]: mean and sum of squared deviations of each moment_rows pixels, which a block takes.
template <class T> __device__ __forceinline__ void channel_moments(const Norm& p, const T* y, Wide<T>* moments) {
    __shared__ MomentSlots<T> slots;
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        Rows rows(p, p.moment_rows);
        block_moments(lane, y + rows.first * p.c, rows.count, p.c, moments + (long long)range_of_block() * 2 * p.c, slots);
    });
}
#define CHANNEL_MOMENTS(T, dtype)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        channel_moments_##dtype(const Norm p, const T* y, Wide<T>* moments) {                                          \
        channel_moments(p, y, moments);                                                                                \
    }
FOR_FLOATS(CHANNEL_MOMENTS)

// A block of the kernels that combine partial results, the rows of a matrix: COMBINE_COLUMNS neighbouring columns (one sector of
// f32), and COMBINE_RANGES threads for each, which take every COMBINE_RANGES-th row. `COMBINE_*` in src/ops/norm/mod.rs must agree.
constexpr int COMBINE_COLUMNS = 8;
constexpr int COMBINE_RANGES = 64;
constexpr int COMBINE_THREADS = COMBINE_COLUMNS * COMBINE_RANGES;

struct Combine {
    int column = blockIdx.x * COMBINE_COLUMNS + threadIdx.x % COMBINE_COLUMNS;
    int range = threadIdx.x / COMBINE_COLUMNS;
};

// Sum of x over the threads that share a column, in a fixed order; `slots` holds a value for each warp and column.
__device__ __forceinline__ double range_sum(double x, double* slots) {
    for (int lanes = COMBINE_COLUMNS; lanes < WARP; lanes *= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
    const int column = threadIdx.x % COMBINE_COLUMNS;
    __syncthreads(); // the slots may still be read by an earlier sum
    if (threadIdx.x % WARP < COMBINE_COLUMNS) slots[threadIdx.x / WARP * COMBINE_COLUMNS + column] = x;
    __syncthreads();
    double sum = 0;
    for (int warp = 0; warp < COMBINE_THREADS / WARP; warp++) sum += slots[warp * COMBINE_COLUMNS + column];
    return sum;
}
constexpr int COMBINE_SLOTS = COMBINE_THREADS / WARP * COMBINE_COLUMNS;

// Parts that a thread loads before it uses the first of them: what combines them is bound by latency.
constexpr int PART_BATCH = 8;

// The moments of many parts at once in the formula of Chan, Golub and LeVeque 1983: with d_i = mean_i − shift and part sizes n_i,
//   mean = shift + Σ n_i d_i / n,  M2 = Σ (M2_i + n_i d_i²) − (Σ n_i d_i)² / n,
// in f64, where what the last term takes away costs nothing if the shift is one of the means.
struct Moments {
    double shift, sum = 0, m2 = 0;

    // Every step-th part of channel i from `first` on, below `end`.
    template <class W> __device__ __forceinline__ void add(const Norm& p, const W* moments, int i, int first, int step, int end) {
        const double last = double(p.m - (long long)(end - 1) * p.moment_rows), rows = p.moment_rows;
        auto add = [&](int part, auto mean, auto deviations) {
            const double count = part == end - 1 ? min(last, rows) : rows, d = mean.v[0] - shift;
            sum += count * d;
            m2 += deviations.v[0] + count * d * d;
        };
        const Column<const W> means = {moments + i, 2 * p.width}, deviations = {moments + p.width + i, 2 * p.width};
        constexpr int BATCH = sizeof(W) == 8 ? PART_BATCH / 4 : PART_BATCH; // f64 is for proofs, and would spill registers
        for_batches<1, BATCH>(first, step, end, add, means, deviations);
    }
    __device__ __forceinline__ double mean(double n) const { return shift + sum / n; }
    __device__ __forceinline__ double deviations(double n) const {
        const double total = m2 - sum * sum / n;
        return total < 0 ? 0 : total; // and not max, which would hide NaN
    }
};

// Parts whose moments one thread makes those of one part; `MERGED` in src/ops/norm/statistics.rs must agree.
constexpr int MERGED = 32;

// merged [⌈parts/MERGED⌉, 2, c] of moments [parts, 2, width]: of the first c channels, MERGED parts at a time. A thread a
// channel of a merged part: so the many parts of a large image are read by the whole GPU.
template <class W> __device__ __forceinline__ void bn_merge_moments(const Norm& p, const W* moments, W* merged) {
    const long long thread = global_thread();
    const int i = int(thread % p.c), parts = p.parts(p.moment_rows);
    const long long first = thread / p.c * MERGED;
    if (first >= parts) return;
    const int end = int(min((long long)parts, first + MERGED));
    Moments total = {moments[first * 2 * p.width + i]};
    total.add(p, moments, i, int(first), 1, end);
    const double n = double(min((long long)end * p.moment_rows, p.m) - first * p.moment_rows);
    merged += thread / p.c * 2 * p.c + i;
    merged[0] = W(total.mean(n));
    merged[p.c] = W(total.deviations(n));
}
#define BN_MERGE_MOMENTS(W, dtype)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bn_merge_moments_##dtype(const Norm p, const W* moments, W* merged) {                                          \
        bn_merge_moments(p, moments, merged);                                                                          \
    }
FOR_WIDE(BN_MERGE_MOMENTS)

// stats [2, c] = μ and r of the whole, from the moments [⌈m/moment_rows⌉, 2, width] of its parts, and the running statistics
// moved by them. Block: `Combine`, of the first c columns.
template <class W>
__device__ __forceinline__ void bn_batch_stats(const Norm& p, const W* moments, W* stats, W* running_mean,
                                               W* running_var) {
    __shared__ double slots[COMBINE_SLOTS];
    Combine own;
    int i = own.column;
    Moments total = {};
    if (i < p.c) {
        total.shift = moments[i];
        total.add(p, moments, i, own.range, COMBINE_RANGES, p.parts(p.moment_rows));
    }
    total.sum = range_sum(total.sum, slots);
    total.m2 = range_sum(total.m2, slots);
    if (i >= p.c || own.range > 0) return;
    const double m = double(p.m), mean = total.mean(m), m2 = total.deviations(m);
    stats[i] = W(mean);
    stats[p.c + i] = W(1 / sqrt(m2 / m + p.eps));
    const double unbiased = m2 / max(m - 1, 1.0);
    running_mean[i] = W(running_mean[i] * (1 - p.momentum) + mean * p.momentum);
    running_var[i] = W(running_var[i] * (1 - p.momentum) + unbiased * p.momentum);
}
#define BN_BATCH_STATS(W, dtype)                                                                                       \
    extern "C" __global__ void __launch_bounds__(COMBINE_THREADS)                                                      \
        bn_batch_stats_##dtype(const Norm p, const W* moments, W* stats, W* running_mean, W* running_var) {            \
        bn_batch_stats(p, moments, stats, running_mean, running_var);                                                  \
    }
FOR_WIDE(BN_BATCH_STATS)

// stats [2, c] from the running statistics. A thread a channel.
#define BN_RUNNING_STATS(W, dtype)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bn_running_stats_##dtype(const Norm p, const W* running_mean, const W* running_var, W* stats) {                \
        long long i = global_thread();                                                                                 \
        if (i >= p.c) return;                                                                                          \
        stats[i] = running_mean[i];                                                                                    \
        stats[p.c + i] = W(1 / sqrt(running_var[i] + p.eps));                                                          \
    }
FOR_WIDE(BN_RUNNING_STATS)

// The affine map of a thread's channels: u = (y − mean)·scale + bias, with scale = γ·r.
template <class W, int N> struct Affine {
    Pack<W, N> mean, rstd, scale, bias;

    __device__ __forceinline__ Affine(const Norm& p, int channel, const W* stats, const W* weight, const W* bias)
        : mean(load<N>(stats + channel)), rstd(load<N>(stats + p.c + channel)), scale(load<N>(weight + channel)),
          bias(load<N>(bias + channel)) {
        for (int i = 0; i < N; i++) scale.v[i] *= rstd.v[i];
    }
    __device__ __forceinline__ W u(int i, W y) const { return (y - mean.v[i]) * scale.v[i] + bias.v[i]; }
};

// z = act(u).
template <class T>
__device__ __forceinline__ void bn_act_fwd(const Norm& p, const T* y, const Wide<T>* stats,
                                           const Wide<T>* weight, const Wide<T>* bias, T* z) {
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        if (!lane.active) return;
        Affine<Wide<T>, N> affine(p, lane.channel, stats, weight, bias);
        Rows rows(p, p.rows);
        with_activation<T>(p.act, [&](auto act) {
            auto apply = [&](int row, auto v) {
                for (int i = 0; i < N; i++) v.v[i] = act.f(affine.u(i, v.v[i]));
                // Made here from the parameters: kept over the rows, it makes the f64 kernel spill registers on sm_90a.
                write<N>(rows.column(z, lane.channel, p.c).at(row), v);
            };
            for_columns(lane, rows.count, apply, rows.column(y, lane.channel, p.width));
        });
    });
}
#define BN_ACT_FWD(T, dtype)                                                                                           \
    extern "C" __global__ void FORWARD_BOUNDS(T) bn_act_fwd_##dtype(                                                   \
        const Norm p, const T* y, const Wide<T>* stats, const Wide<T>* weight, const Wide<T>* bias, T* z) {            \
        bn_act_fwd(p, y, stats, weight, bias, z);                                                                      \
    }
FOR_FLOATS(BN_ACT_FWD)

// z = relu(u + residual).
template <class T>
__device__ __forceinline__ void bn_add_relu_fwd(const Norm& p, const T* y, const Wide<T>* stats, const Wide<T>* weight,
                                                const Wide<T>* bias, const T* residual, T* z) {
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        if (!lane.active) return;
        Affine<Wide<T>, N> affine(p, lane.channel, stats, weight, bias);
        Rows rows(p, p.rows);
        auto to = rows.column(z, lane.channel, p.c);
        auto apply = [&](int row, auto v, auto added) {
            for (int i = 0; i < N; i++) v.v[i] = Relu::f(affine.u(i, v.v[i]) + added.v[i]);
            write<N>(to.at(row), v);
        };
        for_columns(lane, rows.count, apply, rows.column(y, lane.channel, p.c), rows.column(residual, lane.channel, p.c));
    });
}
#define BN_ADD_RELU_FWD(T, dtype)                                                                                      \
    extern "C" __global__ void FORWARD_BOUNDS(T)                                                                       \
        bn_add_relu_fwd_##dtype(const Norm p, const T* y, const Wide<T>* stats, const Wide<T>* weight,                 \
                                const Wide<T>* bias, const T* residual, T* z) {                                        \
        bn_add_relu_fwd(p, y, stats, weight, bias, residual, z);                                                       \
    }
FOR_FLOATS(BN_ADD_RELU_FWD)

// The partial sums [2, c] of a block: Σ gu and Σ gu·ŷ.
template <class T, int N>
__device__ __forceinline__ void write_partial(const Norm& p, const Lane<N>& lane, const Pack<Wide<T>, N> (&sums)[2],
                                              ColumnSlots<T, 2>& slots, Wide<T>* partials) {
    column_sums(lane, sums, slots, [&](int k, int column, Wide<T> sum) {
        int channel = lane.block_channel() + column;
        if (channel < p.c) partials[((long long)range_of_block() * 2 + k) * p.c + channel] = sum;
    });
}

// partials [⌈m/rows⌉, 2, c] of gu = gz·act'(u), with u computed again from y.
template <class T>
__device__ __forceinline__ void bn_act_bwd_reduce(const Norm& p, const T* y, const T* gz, const Wide<T>* stats,
                                                  const Wide<T>* weight, const Wide<T>* bias, Wide<T>* partials) {
    __shared__ ColumnSlots<T, 2> slots;
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        Pack<Wide<T>, N> sums[2] = {};
        if (lane.active) {
            Affine<Wide<T>, N> affine(p, lane.channel, stats, weight, bias);
            Rows rows(p, p.rows);
            with_activation<T>(p.act, [&](auto act) {
                auto add = [&](int, auto v, auto g) {
                    for (int i = 0; i < N; i++) {
                        Wide<T> gu = g.v[i] * act.df(affine.u(i, v.v[i]));
                        sums[0].v[i] += gu;
                        sums[1].v[i] += gu * (v.v[i] - affine.mean.v[i]);
                    }
                };
                for_columns(lane, rows.count, add, rows.column(y, lane.channel, p.width), rows.column(gz, lane.channel, p.c));
            });
            auto rstd = load<N>(stats + p.c + lane.channel);
            for (int i = 0; i < N; i++) sums[1].v[i] *= rstd.v[i];
        }
        write_partial<T>(p, lane, sums, slots, partials);
    });
}
#define BN_ACT_BWD_REDUCE(T, dtype)                                                                                    \
    extern "C" __global__ void BACKWARD_BOUNDS(T)                                                                      \
        bn_act_bwd_reduce_##dtype(const Norm p, const T* y, const T* gz, const Wide<T>* stats, const Wide<T>* weight,  \
                                  const Wide<T>* bias, Wide<T>* partials) {                                            \
        bn_act_bwd_reduce(p, y, gz, stats, weight, bias, partials);                                                    \
    }
FOR_FLOATS(BN_ACT_BWD_REDUCE)

// gu = gz where z > 0, which is also the gradient of the residual, and its partials [⌈m/rows⌉, 2, c].
template <class T>
__device__ __forceinline__ void bn_add_relu_bwd_reduce(const Norm& p, const T* y, const T* z, const T* gz,
                                                       const Wide<T>* stats, T* gu, Wide<T>* partials) {
    __shared__ ColumnSlots<T, 2> slots;
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        Pack<Wide<T>, N> sums[2] = {};
        if (lane.active) {
            auto mean = load<N>(stats + lane.channel);
            Rows rows(p, p.rows);
            auto column = [&](auto* image) { return rows.column(image, lane.channel, p.c); };
            auto mask_and_add = [&](int row, auto v, auto out, auto g) {
                for (int i = 0; i < N; i++) {
                    g.v[i] *= Relu::df(out.v[i]);
                    sums[0].v[i] += g.v[i];
                    sums[1].v[i] += g.v[i] * (v.v[i] - mean.v[i]);
                }
                write<N>(column(gu).at(row), g);
            };
            for_columns(lane, rows.count, mask_and_add, column(y), column(z), column(gz));
            auto rstd = load<N>(stats + p.c + lane.channel);
            for (int i = 0; i < N; i++) sums[1].v[i] *= rstd.v[i];
        }
        write_partial<T>(p, lane, sums, slots, partials);
    });
}
#define BN_ADD_RELU_BWD_REDUCE(T, dtype)                                                                               \
    extern "C" __global__ void BACKWARD_BOUNDS(T)                                                                      \
        bn_add_relu_bwd_reduce_##dtype(const Norm p, const T* y, const T* z, const T* gz, const Wide<T>* stats, T* gu, \
                                       Wide<T>* partials) {                                                            \
        bn_add_relu_bwd_reduce(p, y, z, gz, stats, gu, partials);                                                      \
    }
FOR_FLOATS(BN_ADD_RELU_BWD_REDUCE)

// gγ and gβ [c]: the sums of the partials [⌈m/rows⌉, 2, c], columns 0 to c those of gβ. Block: `Combine`, of 2 c columns.
template <class W>
__device__ __forceinline__ void bn_bwd_combine(const Norm& p, const W* partials, W* gweight, W* gbias) {
    __shared__ double slots[COMBINE_SLOTS];
    Combine own;
    double sum = 0;
    if (own.column < 2 * p.c) {
        auto add = [&](int, auto partial) { sum += partial.v[0]; };
        const Column<const W> column = {partials + own.column, 2 * p.c};
        for_batches<1, PART_BATCH>(own.range, COMBINE_RANGES, p.parts(p.rows), add, column);
    }
    sum = range_sum(sum, slots);
    if (own.column >= 2 * p.c || own.range > 0) return;
    if (own.column < p.c) {
        gbias[own.column] = W(sum);
    } else {
        gweight[own.column - p.c] = W(sum);
    }
}
#define BN_BWD_COMBINE(W, dtype)                                                                                       \
    extern "C" __global__ void __launch_bounds__(COMBINE_THREADS)                                                      \
        bn_bwd_combine_##dtype(const Norm p, const W* partials, W* gweight, W* gbias) {                                \
        bn_bwd_combine(p, partials, gweight, gbias);                                                                   \
    }
FOR_WIDE(BN_BWD_COMBINE)

// gy = scale·gu + (y − mean)·slope + offset with gu = gz·act'(u); slope and offset are the two means that the statistics of
// the batch send back, and 0 with running statistics. With `add` that is added to what gy holds.
template <class T>
__device__ __forceinline__ void bn_act_bwd_apply(const Norm& p, const T* y, const T* gz,
                                                 const Wide<T>* stats, const Wide<T>* weight, const Wide<T>* bias,
                                                 const Wide<T>* gweight, const Wide<T>* gbias, T* gy) {
    with_lane<T, CHANNELS<T>>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        if (!lane.active) return;
        Affine<Wide<T>, N> affine(p, lane.channel, stats, weight, bias);
        auto slope = load<N>(gweight + lane.channel), offset = load<N>(gbias + lane.channel);
        const Wide<T> through = p.batch ? Wide<T>(1.0 / double(p.m)) : Wide<T>(0);
        for (int i = 0; i < N; i++) {
            slope.v[i] *= -affine.scale.v[i] * affine.rstd.v[i] * through;
            offset.v[i] *= -affine.scale.v[i] * through;
        }
        Rows rows(p, p.rows);
        auto to = rows.column(gy, lane.channel, p.width);
        with_activation<T>(p.act, [&](auto act) {
            auto apply = [&](int row, auto v, auto g) {
                auto sum = p.add ? read<N>(to.at(row)) : Pack<Wide<T>, N>{};
                for (int i = 0; i < N; i++) {
                    Wide<T> gu = g.v[i] * act.df(affine.u(i, v.v[i]));
                    sum.v[i] += affine.scale.v[i] * gu + (v.v[i] - affine.mean.v[i]) * slope.v[i] + offset.v[i];
                }
                write<N>(to.at(row), sum);
            };
            for_columns(lane, rows.count, apply, rows.column(y, lane.channel, p.width), rows.column(gz, lane.channel, p.c));
        });
    });
}
#define BN_ACT_BWD_APPLY(T, dtype)                                                                                     \
    extern "C" __global__ void BACKWARD_BOUNDS(T)                                                                      \
        bn_act_bwd_apply_##dtype(const Norm p, const T* y, const T* gz, const Wide<T>* stats, const Wide<T>* weight,   \
                                 const Wide<T>* bias, const Wide<T>* gweight, const Wide<T>* gbias, T* gy) {           \
        bn_act_bwd_apply(p, y, gz, stats, weight, bias, gweight, gbias, gy);                                           \
    }
FOR_FLOATS(BN_ACT_BWD_APPLY)
