// Losses, each with its gradient in the same launch.
#include "map.cuh"

// As `CrossEntropy` in src/ops/loss.rs.
struct CrossEntropy {
    int n, classes;
    float smoothing;
};

// Threads of the one block; `CROSS_ENTROPY_THREADS` in src/ops/loss.rs must agree.
constexpr int CROSS_ENTROPY_THREADS = 512;

// For logits z and targets t [n, classes], with q_c = ((1−ε)·t_c + ε/classes)·weight_c and W = Σ t·weight:
//   loss = Σ_n Σ_c q_c (lse − z_c) / W,  glogits_c = (Σ q · exp(z_c − lse) − q_c) / W,  lse = log Σ_c exp z_c.
// A batch of logits is small, so one block does it all and adds up the loss in one order: a warp takes a row at a time. Bound by
// the latency of its chains.
template <class T>
__device__ __forceinline__ void softmax_cross_entropy(const CrossEntropy& p, const T* logits, const Wide<T>* targets,
                                                      const Wide<T>* weights, Wide<T>* loss, T* glogits) {
    using W = Wide<T>;
    __shared__ W slots[CROSS_ENTROPY_THREADS / WARP];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    W total = 0;
    for (int i = threadIdx.x; i < p.n * p.classes; i += CROSS_ENTROPY_THREADS) total += targets[i] * weights[i % p.classes];
    total = block_sum(total, slots);
    const W hard = W(1 - double(p.smoothing)), soft = W(double(p.smoothing) / p.classes);
    W sum = 0;
    for (int n = warp; n < p.n; n += CROSS_ENTROPY_THREADS / WARP) {
        const T* z = logits + (long long)n * p.classes;
        T* g = glogits + (long long)n * p.classes;
        const W* t = targets + (long long)n * p.classes;
        auto share = [&](int c) { return (t[c] * hard + soft) * weights[c]; };
        W largest = -INFINITY, exps = 0, mass = 0, row = 0;
        for (int c = lane; c < p.classes; c += WARP) largest = max(largest, widen(z[c]));
        largest = warp_max(largest);
        for (int c = lane; c < p.classes; c += WARP) {
            exps += exp(widen(z[c]) - largest);
            mass += share(c);
        }
        const W log_sum = log(warp_sum(exps)); // lse − largest
        mass = warp_sum(mass);
        for (int c = lane; c < p.classes; c += WARP) {
            W log_p = widen(z[c]) - largest - log_sum;
            row -= share(c) * log_p;
            g[c] = narrow<T>((mass * exp(log_p) - share(c)) / total);
        }
        sum += row;
    }
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) loss[0] = sum / total;
}
#define SOFTMAX_CROSS_ENTROPY(T, dtype)                                                                                \
    extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS)                                                \
        softmax_cross_entropy_##dtype(const CrossEntropy p, const T* logits, const Wide<T>* targets,                   \
                                      const Wide<T>* weights, Wide<T>* loss, T* glogits) {                             \
        softmax_cross_entropy(p, logits, targets, weights, loss, glogits);                                             \
    }
FOR_FLOATS(SOFTMAX_CROSS_ENTROPY)

// y = x · factor[0].
#define SCALE_BY(T, dtype)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        scale_by_##dtype(long long len, const T* x, const Wide<T>* factor, T* y) {                                     \
        map(len, y, [&](auto x) { return x * factor[0]; }, x);                                                         \
    }
FOR_FLOATS(SCALE_BY)
