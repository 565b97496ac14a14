// Operations that touch each element once. All are bound by bytes: 16 of them from each tensor in one access.
#include "activation.cuh"
#include "channels.cuh"
#include "map.cuh"

// y = a + b.
#define ADD(T, dtype)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) add_##dtype(long long len, const T* a, const T* b, T* y) {   \
        map(len, y, [](auto a, auto b) { return a + b; }, a, b);                                                       \
    }
FOR_FLOATS(ADD)

// As `Scaled` in src/ops/elementwise.rs.
struct Scaled {
    long long len;
    double factor;
};

// y = x · factor.
#define SCALE(T, dtype)                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS) scale_##dtype(const Scaled p, const T* x, T* y) {            \
        auto factor = static_cast<Wide<T>>(p.factor);                                                                  \
        map(p.len, y, [=](auto x) { return x * factor; }, x);                                                          \
    }
FOR_FLOATS(SCALE)

// As `Activate` in src/ops/elementwise.rs.
struct Activate {
    long long len;
    int act, unused;
};

// y = f(x).
#define ACTIVATE_FWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) activate_fwd_##dtype(const Activate p, const T* x, T* y) {   \
        with_activation<T>(p.act, [&](auto a) { map(p.len, y, [=](auto x) { return a.f(x); }, x); });                     \
    }
FOR_FLOATS(ACTIVATE_FWD)

// gx = gy · f'(x).
#define ACTIVATE_BWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                              \
        activate_bwd_##dtype(const Activate p, const T* x, const T* gy, T* gx) {                                       \
        with_activation<T>(p.act, [&](auto a) {                                                                           \
            map(p.len, gx, [=](auto x, auto gy) { return gy * a.df(x); }, x, gy);                                      \
        });                                                                                                            \
    }
FOR_FLOATS(ACTIVATE_BWD)

// As `Channels` in src/ops/elementwise.rs: n images of hw pixels.
struct Channels {
    int n, hw, c;
};

// Pixels that a block of the scaling covers; `SCALE_ROWS` in src/ops/elementwise.rs must agree.
constexpr int SCALE_ROWS = 256;

// y[n, hw, c] = x[n, hw, c] · gate[n, c]. Block (image, span of channels, SCALE_ROWS pixels); the gate stays in registers.
template <class T>
__device__ __forceinline__ void scale_channels_fwd(const Channels& p, const T* x, const Wide<T>* gate, T* y) {
    with_lane<T>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        if (!lane.active) return;
        long long n = range_of_block();
        auto g = load<N>(gate + n * p.c + lane.channel);
        int first = blockIdx.z * SCALE_ROWS, rows = min(SCALE_ROWS, p.hw - first);
        auto scale = [&](long long at, auto v) {
            for (int i = 0; i < N; i++) v.v[i] *= g.v[i];
            write<N>(y + at, v);
        };
        for_rows(lane, rows, (n * p.hw + first) * p.c + lane.channel, p.c, scale, x);
    });
}
#define SCALE_CHANNELS_FWD(T, dtype)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        scale_channels_fwd_##dtype(const Channels p, const T* x, const Wide<T>* gate, T* y) {                          \
        scale_channels_fwd(p, x, gate, y);                                                                             \
    }
FOR_FLOATS(SCALE_CHANNELS_FWD)

// ggate[n, c] = Σ x · gy over the pixels of the image. Block (image, span of channels).
template <class T>
__device__ __forceinline__ void scale_channels_gate_bwd(const Channels& p, const T* x, const T* gy, Wide<T>* ggate) {
    __shared__ ColumnSlots<T> slots;
    with_lane<T>(p.c, [&](auto lane) {
        constexpr int N = decltype(lane)::N;
        Pack<Wide<T>, N> sums[1] = {};
        long long n = range_of_block();
        auto add = [&](long long, auto v, auto g) {
            for (int i = 0; i < N; i++) sums[0].v[i] += v.v[i] * g.v[i];
        };
        if (lane.active) for_rows(lane, p.hw, n * p.hw * p.c + lane.channel, p.c, add, x, gy);
        column_sums(lane, sums, slots, [&](int, int column, Wide<T> sum) {
            int channel = lane.block_channel() + column;
            if (channel < p.c) ggate[n * p.c + channel] = sum;
        });
    });
}
#define SCALE_CHANNELS_GATE_BWD(T, dtype)                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        scale_channels_gate_bwd_##dtype(const Channels p, const T* x, const T* gy, Wide<T>* ggate) {                   \
        scale_channels_gate_bwd(p, x, gy, ggate);                                                                      \
    }
FOR_FLOATS(SCALE_CHANNELS_GATE_BWD)

// y = x in another type: a thread takes what is 16 bytes of the narrower one.
template <class From, class To, class F> __device__ __forceinline__ void cast(long long len, const From* x, To* y, F f) {
    constexpr int N = PACK<From> > PACK<To> ? PACK<From> : PACK<To>;
    long long i = global_thread() * N;
    if (i + N <= len) {
        auto v = load<N>(x + i);
        Pack<To, N> cast;
        for (int j = 0; j < N; j++) cast.v[j] = f(v.v[j]);
        store(y + i, cast);
    } else {
        for (; i < len; i++) y[i] = f(x[i]);
    }
}
#define WIDEN(T, dtype)                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS) widen_##dtype(long long len, const T* x, Wide<T>* y) {       \
        cast(len, x, y, [](T x) { return widen(x); });                                                                 \
    }
FOR_HALVES(WIDEN)
#define NARROW(T, dtype)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) narrow_##dtype(long long len, const Wide<T>* x, T* y) {      \
        cast(len, x, y, [](Wide<T> x) { return narrow<T>(x); });                                                       \
    }
FOR_HALVES(NARROW)
