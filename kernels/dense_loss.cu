// Losses against targets of the prediction's own shape, as src/ops/dense_loss.rs. Forward a block leaves one partial sum of PART
// elements, and one block adds those up in f64 and in a fixed order; backward a thread computes the gradient of one element from the
// inputs again and rounds it once. Bound by bytes where they are large, else by the launches.
#include "common.cuh"

// Elements of one partial sum; `PART` in src/ops/dense_loss.rs must agree.
constexpr int PART = 1024;

// As `Mean` in src/ops/dense_loss.rs.
struct Mean {
    long long len;
    int classes, distance;
    float delta;
    unsigned unused;
};

// log(1 + exp(x))
template <class W> __device__ __forceinline__ W softplus(W x) { return max(x, W(0)) + log1p(exp(-fabs(x))); }

template <class W> __device__ __forceinline__ W sigmoid(W x) { return W(1) / (W(1) + exp(-x)); }

// partials[block] = Σ f(i) / len over the block's part.
template <class W, class F> __device__ __forceinline__ void mean_part(const Mean& p, W* partials, F f) {
    __shared__ W slots[THREADS / WARP];
    const long long first = (long long)blockIdx.x * PART, end = min(first + PART, p.len);
    W sum = 0;
    for (long long i = first + threadIdx.x; i < end; i += THREADS) sum += f(i);
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum / W(p.len);
}

// loss = Σ partials.
template <class W> __device__ __forceinline__ void loss_sum(long long parts, const W* partials, W* loss) {
    __shared__ double slots[THREADS / WARP];
    double sum = 0;
    for (long long i = threadIdx.x; i < parts; i += THREADS) sum += partials[i];
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) loss[0] = W(sum);
}
#define LOSS_SUM(W, dtype)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS) loss_sum_##dtype(long long parts, const W* partials, W* loss) { \
        loss_sum(parts, partials, loss);                                                                               \
    }
FOR_WIDE(LOSS_SUM)

// With x = logits, y = targets, w and v the weights of the class and of its positive part:
//   loss = Σ w·((1 − y)·softplus(x) + v·y·softplus(−x)) / len
#define BCE_WITH_LOGITS_FWD(T, dtype)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) bce_with_logits_fwd_##dtype(                                 \
        const Mean p, const T* logits, const Wide<T>* targets, const Wide<T>* weights, const Wide<T>* positive,        \
        Wide<T>* partials) {                                                                                           \
        mean_part(p, partials, [&](long long i) {                                                                      \
            const Wide<T> x = widen(logits[i]), y = targets[i];                                                        \
            const int k = int(i % p.classes);                                                                          \
            return weights[k] * ((1 - y) * softplus(x) + positive[k] * y * softplus(-x));                              \
        });                                                                                                            \
    }
FOR_FLOATS(BCE_WITH_LOGITS_FWD)

// glogits = g·w·((1 − y)·σ(x) − v·y·σ(−x)) / len
#define BCE_WITH_LOGITS_BWD(T, dtype)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) bce_with_logits_bwd_##dtype(                                 \
        const Mean p, const T* logits, const Wide<T>* targets, const Wide<T>* weights, const Wide<T>* positive,        \
        const Wide<T>* g, T* glogits) {                                                                                \
        const long long i = global_thread();                                                                           \
        if (i >= p.len) return;                                                                                        \
        const Wide<T> x = widen(logits[i]), y = targets[i];                                                            \
        const int k = int(i % p.classes);                                                                              \
        const Wide<T> df = weights[k] * ((1 - y) * sigmoid(x) - positive[k] * y * sigmoid(-x));                        \
        glogits[i] = narrow<T>(df * (g[0] / Wide<T>(p.len)));                                                          \
    }
FOR_FLOATS(BCE_WITH_LOGITS_BWD)

// What is known already counts less, with γ = p.delta: σ(x)^γ·softplus(x), and its derivative.
template <class W> __device__ __forceinline__ W focal_part(W x, W gamma) { return pow(sigmoid(x), gamma) * softplus(x); }

template <class W> __device__ __forceinline__ W focal_part_df(W x, W gamma) {
    return pow(sigmoid(x), gamma) * (gamma * sigmoid(-x) * softplus(x) + sigmoid(x));
}

// loss = Σ w·((1 − y)·part(x) + v·y·part(−x)) / len
#define FOCAL_FWD(T, dtype)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        focal_fwd_##dtype(const Mean p, const T* logits, const Wide<T>* targets, const Wide<T>* weights,               \
                          const Wide<T>* positive, Wide<T>* partials) {                                                \
        const Wide<T> gamma = p.delta;                                                                                 \
        mean_part(p, partials, [&](long long i) {                                                                      \
            const Wide<T> x = widen(logits[i]), y = targets[i];                                                        \
            const int k = int(i % p.classes);                                                                          \
            return weights[k] * ((1 - y) * focal_part(x, gamma) + positive[k] * y * focal_part(-x, gamma));            \
        });                                                                                                            \
    }
FOR_FLOATS(FOCAL_FWD)

// glogits = g·w·((1 − y)·part'(x) − v·y·part'(−x)) / len
#define FOCAL_BWD(T, dtype)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        focal_bwd_##dtype(const Mean p, const T* logits, const Wide<T>* targets, const Wide<T>* weights,               \
                          const Wide<T>* positive, const Wide<T>* g, T* glogits) {                                     \
        const long long i = global_thread();                                                                           \
        if (i >= p.len) return;                                                                                        \
        const Wide<T> x = widen(logits[i]), y = targets[i], gamma = p.delta;                                           \
        const int k = int(i % p.classes);                                                                              \
        const Wide<T> df =                                                                                             \
            weights[k] * ((1 - y) * focal_part_df(x, gamma) - positive[k] * y * focal_part_df(-x, gamma));             \
        glogits[i] = narrow<T>(df * (g[0] / Wide<T>(p.len)));                                                          \
    }
FOR_FLOATS(FOCAL_BWD)

// A loss of the distance d of a prediction from its target, by number as in src/ops/dense_loss.rs, and its derivative.
enum { SQUARED, ABSOLUTE, HUBER };

template <class W> __device__ __forceinline__ W distance(const Mean& p, W d) {
    const W delta = p.delta, size = fabs(d);
    if (p.distance == SQUARED) return d * d;
    if (p.distance == ABSOLUTE) return size;
    return size <= delta ? W(0.5) * d * d : delta * (size - W(0.5) * delta);
}

template <class W> __device__ __forceinline__ W distance_df(const Mean& p, W d) {
    const W delta = p.delta, sign = W((d > 0) - (d < 0));
    if (p.distance == SQUARED) return 2 * d;
    if (p.distance == ABSOLUTE) return sign;
    return fabs(d) <= delta ? d : delta * sign;
}

// loss = Σ distance(x − target) / len
#define DISTANCE_FWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        distance_fwd_##dtype(const Mean p, const T* x, const Wide<T>* targets, Wide<T>* partials) {                    \
        mean_part(p, partials, [&](long long i) { return distance(p, widen(x[i]) - targets[i]); });                    \
    }
FOR_FLOATS(DISTANCE_FWD)

// gx = g·distance'(x − target) / len
#define DISTANCE_BWD(T, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        distance_bwd_##dtype(const Mean p, const T* x, const Wide<T>* targets, const Wide<T>* g, T* gx) {              \
        const long long i = global_thread();                                                                           \
        if (i < p.len) gx[i] = narrow<T>(distance_df(p, widen(x[i]) - targets[i]) * (g[0] / Wide<T>(p.len)));          \
    }
FOR_FLOATS(DISTANCE_BWD)

// As `Dice` in src/ops/dense_loss.rs.
struct Dice {
    long long pixels;
    int n;
    float smoothing, missed;
    unsigned unused;

    __device__ __forceinline__ int parts() const { return int((pixels + PART - 1) / PART); }
};

// What is summed over a mask: p, y, p·y, p·y².
constexpr int DICE_SUMS = 4;

// Of the sums over a mask, numerator and denominator of both ratios: that of p to y, and that of p·y to y.
template <class W> struct Ratios {
    W above, below, missed_above, missed_below;

    __device__ __forceinline__ Ratios(const Dice& d, W p, W y, W py, W pyy)
        : above(2 * py + W(d.smoothing)), below(p + y + W(d.smoothing)), missed_above(2 * pyy + W(d.smoothing)),
          missed_below(py + y + W(d.smoothing)) {}
};

// partials [n, parts, 4]. A block for each part of each mask.
template <class T>
__device__ __forceinline__ void dice_sums(const Dice& d, const T* logits, const Wide<T>* targets, Wide<T>* partials) {
    __shared__ Wide<T> slots[THREADS / WARP];
    const int n = blockIdx.x / d.parts(), part = blockIdx.x % d.parts();
    const long long image = n * d.pixels, first = (long long)part * PART, end = min(first + PART, d.pixels);
    Wide<T> sums[DICE_SUMS] = {};
    for (long long i = image + first + threadIdx.x; i < image + end; i += THREADS) {
        const Wide<T> p = sigmoid(widen(logits[i])), y = targets[i];
        sums[0] += p;
        sums[1] += y;
        sums[2] += p * y;
        sums[3] += p * y * y;
    }
    for (int k = 0; k < DICE_SUMS; k++) {
        const Wide<T> sum = block_sum(sums[k], slots);
        if (threadIdx.x == 0) partials[(long long)blockIdx.x * DICE_SUMS + k] = sum;
    }
}
#define DICE_SUMS_KERNEL(T, dtype)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        dice_sums_##dtype(const Dice d, const T* logits, const Wide<T>* targets, Wide<T>* partials) {                  \
        dice_sums(d, logits, targets, partials);                                                                       \
    }
FOR_FLOATS(DICE_SUMS_KERNEL)

// sums [n, 4] of the partials, and the mean over the masks of (1 − ratio of p to y) + missed·(1 − ratio of p·y to y). One block,
// a warp for each mask.
template <class W> __device__ __forceinline__ void dice_combine(const Dice& d, const W* partials, W* sums, W* loss) {
    __shared__ double slots[THREADS / WARP];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, parts = d.parts();
    double total = 0;
    for (int n = warp; n < d.n; n += THREADS / WARP) {
        double sum[DICE_SUMS] = {};
        for (int part = lane; part < parts; part += WARP) {
            for (int k = 0; k < DICE_SUMS; k++) sum[k] += partials[((long long)n * parts + part) * DICE_SUMS + k];
        }
        for (int k = 0; k < DICE_SUMS; k++) sum[k] = warp_sum(sum[k]);
        if (lane > 0) continue;
        for (int k = 0; k < DICE_SUMS; k++) sums[n * DICE_SUMS + k] = W(sum[k]);
        const Ratios<double> r(d, sum[0], sum[1], sum[2], sum[3]);
        total += (1 - r.above / r.below) + d.missed * (1 - r.missed_above / r.missed_below);
    }
    total = block_sum(total, slots);
    if (threadIdx.x == 0) loss[0] = W(total / d.n);
}
#define DICE_COMBINE(W, dtype)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        dice_combine_##dtype(const Dice d, const W* partials, W* sums, W* loss) {                                      \
        dice_combine(d, partials, sums, loss);                                                                         \
    }
FOR_WIDE(DICE_COMBINE)

// glogits = g/n · d(loss of the mask)/dp · p·(1 − p). Row n of the grid has the pixels of mask n.
template <class T>
__device__ __forceinline__ void dice_bwd(const Dice& d, const T* logits, const Wide<T>* targets, const Wide<T>* sums,
                                         const Wide<T>* g, T* glogits) {
    using W = Wide<T>;
    const long long pixel = (long long)blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y * d.pixels + pixel;
    if (pixel >= d.pixels) return;
    const W* sum = sums + (long long)blockIdx.y * DICE_SUMS;
    const Ratios<W> r(d, sum[0], sum[1], sum[2], sum[3]);
    const W x = widen(logits[i]), y = targets[i];
    const W all = (r.above - 2 * y * r.below) / (r.below * r.below);
    const W missed = y * (r.missed_above - 2 * y * r.missed_below) / (r.missed_below * r.missed_below);
    glogits[i] = narrow<T>((all + W(d.missed) * missed) * sigmoid(x) * sigmoid(-x) * (g[0] / W(d.n)));
}
#define DICE_BWD(T, dtype)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        dice_bwd_##dtype(const Dice d, const T* logits, const Wide<T>* targets, const Wide<T>* sums, const Wide<T>* g, \
                         T* glogits) {                                                                                 \
        dice_bwd(d, logits, targets, sums, g, glogits);                                                                \
    }
FOR_FLOATS(DICE_BWD)
