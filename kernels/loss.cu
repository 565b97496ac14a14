// Softmax cross-entropy of logits [n, classes], as src/ops/loss.rs, in two launches with a block for each row: what the row has to
// say, then the loss of all and its gradient. Sums are in a fixed order.
#include "map.cuh"

// As `CrossEntropy` in src/ops/loss.rs.
struct CrossEntropy {
    int n, classes;
    float smoothing;
};

// Threads of a block, which has a row of logits; `CROSS_ENTROPY_THREADS` in src/ops/loss.rs must agree.
constexpr int CROSS_ENTROPY_THREADS = 128;

// What a row of logits z with targets t [classes] has to say, with q_c = ((1−ε)·t_c + ε/classes)·weight_c.
template <class W> struct LossRow {
    W largest, log_sum; // the largest logit, and log Σ_c exp(z_c − largest)
    W mass, weight;     // Σ q and Σ t·weight
    W loss;             // Σ q_c (lse − z_c), lse = largest + log_sum
};

template <class W> struct Share {
    W hard, soft;
    __device__ __forceinline__ explicit Share(const CrossEntropy& p)
        : hard(W(1 - double(p.smoothing))), soft(W(double(p.smoothing) / p.classes)) {}
    __device__ __forceinline__ W of(W target, W weight) const { return (target * hard + soft) * weight; }
};

// Calls body(class) for all classes, with the loads of several under way together; in double precision, which is for proofs, they
// would not fit the registers.
template <class T, class Body> __device__ __forceinline__ void for_classes(const CrossEntropy& p, Body body) {
    constexpr int LOADS = sizeof(T) == 8 ? 1 : 8;
#pragma unroll LOADS
    for (int c = threadIdx.x; c < p.classes; c += CROSS_ENTROPY_THREADS) body(c);
}

// rows [n, 5], the `LossRow` of each row of logits and targets [n, classes]. Bound by latency.
template <class T>
__device__ __forceinline__ void softmax_cross_entropy_rows(const CrossEntropy& p, const T* logits, const Wide<T>* targets,
                                                           const Wide<T>* weights, Wide<T>* rows) {
    using W = Wide<T>;
    __shared__ W slots[CROSS_ENTROPY_THREADS / WARP];
    const T* z = logits + (long long)blockIdx.x * p.classes;
    const W* t = targets + (long long)blockIdx.x * p.classes;
    const Share<W> share(p);
    W largest = -INFINITY;
    for_classes<T>(p, [&](int c) { largest = max(largest, widen(z[c])); });
    largest = block_max(largest, slots);
    // With d_c = z_c − largest, Σ q (log_sum − d) = mass · log_sum − Σ q·d.
    W exps = 0, mass = 0, weight = 0, distance = 0;
    for_classes<T>(p, [&](int c) {
        const W d = widen(z[c]) - largest, q = share.of(t[c], weights[c]);
        exps += exp(d);
        mass += q;
        weight += t[c] * weights[c];
        distance += q * d;
    });
    const W log_sum = log(block_sum(exps, slots));
    mass = block_sum(mass, slots);
    weight = block_sum(weight, slots);
    distance = block_sum(distance, slots);
    if (threadIdx.x == 0) {
        reinterpret_cast<LossRow<W>*>(rows)[blockIdx.x] = {largest, log_sum, mass, weight, mass * log_sum - distance};
    }
}
#define SOFTMAX_CROSS_ENTROPY_ROWS(T, dtype)                                                                           \
    extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS)                                                \
        softmax_cross_entropy_rows_##dtype(const CrossEntropy p, const T* logits, const Wide<T>* targets,              \
                                           const Wide<T>* weights, Wide<T>* rows) {                                    \
        softmax_cross_entropy_rows(p, logits, targets, weights, rows);                                                 \
    }
FOR_FLOATS(SOFTMAX_CROSS_ENTROPY_ROWS)

// With W the sum of all rows' weights,
//   loss = Σ_n loss_n / W,  glogits_c = (mass · exp(z_c − lse) − q_c) / W.
// Every block adds up what the rows have to say, in the same order.
template <class T>
__device__ __forceinline__ void softmax_cross_entropy(const CrossEntropy& p, const T* logits, const Wide<T>* targets,
                                                      const Wide<T>* weights, const Wide<T>* rows, Wide<T>* loss, T* glogits) {
    using W = Wide<T>;
    __shared__ W slots[CROSS_ENTROPY_THREADS / WARP];
    const LossRow<W>* all = reinterpret_cast<const LossRow<W>*>(rows);
    W total = 0, sum = 0;
    for (int n = threadIdx.x; n < p.n; n += CROSS_ENTROPY_THREADS) {
        total += all[n].weight;
        sum += all[n].loss;
    }
    total = block_sum(total, slots);
    sum = block_sum(sum, slots);
    if (blockIdx.x == 0 && threadIdx.x == 0) loss[0] = sum / total;
    const LossRow<W> row = all[blockIdx.x];
    const long long first = (long long)blockIdx.x * p.classes;
    const Share<W> share(p);
    for_classes<T>(p, [&](int c) {
        const W probability = exp(widen(logits[first + c]) - row.largest - row.log_sum);
        glogits[first + c] = narrow<T>((row.mass * probability - share.of(targets[first + c], weights[c])) / total);
    });
}
#define SOFTMAX_CROSS_ENTROPY(T, dtype)                                                                                \
    extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS)                                                \
        softmax_cross_entropy_##dtype(const CrossEntropy p, const T* logits, const Wide<T>* targets,                   \
                                      const Wide<T>* weights, const Wide<T>* rows, Wide<T>* loss, T* glogits) {        \
        softmax_cross_entropy(p, logits, targets, weights, rows, loss, glogits);                                       \
    }
FOR_FLOATS(SOFTMAX_CROSS_ENTROPY)

// y = x · factor[0]: the gradient, by that of the loss.
#define SCALE_BY(T, dtype)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        scale_by_##dtype(long long len, const T* x, const Wide<T>* factor, T* y) {                                     \
        map(len, y, [&](auto x) { return x * factor[0]; }, x);                                                         \
    }
FOR_FLOATS(SCALE_BY)
