// Optimisers: launches over every tensor of a network at once. Bound by bytes: SGD moves 20 bytes a parameter, Adam 28, and
// 2 more where a half-precision shadow is written. Nothing of the step's state comes from the host, so a recorded step can
// be replayed.
//
// A launch receives one struct: the head and the groups of src/ops/optim.rs, then the addresses of all inputs and outputs.
// One block of threads covers CHUNK elements of one tensor.
#include "common.cuh"

// Elements of a tensor that one block covers; `CHUNK` in src/ops/optim.rs must agree.
constexpr int CHUNK = 1 << 14;
// Room for `MAX_TENSORS` groups of src/ops/optim.rs and their addresses.
constexpr int TABLE_BYTES = 20 << 10;

// As `Head` in src/ops/optim.rs.
struct Head {
    double constants[4];
    long long tensors;
};

// As `Group` there.
struct Group {
    double lr_factor, decay;
    long long len;
    int first_block, shadow;
};

struct Table {
    Head head;
    alignas(8) unsigned char rest[TABLE_BYTES - sizeof(Head)];

    __device__ const Group& group(int i) const { return reinterpret_cast<const Group*>(rest)[i]; }
    // Address i of all inputs, then all outputs.
    template <class P> __device__ P* address(long long i) const {
        auto addresses = reinterpret_cast<const unsigned long long*>(rest + head.tensors * sizeof(Group));
        return reinterpret_cast<P*>(addresses[i]);
    }
    // The tensor that a block works on: the last whose first block is not behind it.
    __device__ int tensor_of(int block) const {
        int low = 0, high = int(head.tensors) - 1;
        while (low < high) {
            int middle = (low + high + 1) / 2;
            if (group(middle).first_block <= block) low = middle;
            else high = middle - 1;
        }
        return low;
    }
};

// As `Progress` there.
struct Progress {
    double step, scale, clean, skipped, norm, apply, factor, unbias1, unbias2, lr;
};

// The part of a tensor that this block covers.
struct Span {
    long long begin, end;
};
__device__ __forceinline__ Span span_of(const Group& group) {
    long long begin = (long long)(int(blockIdx.x) - group.first_block) * CHUNK;
    return {begin, begin + CHUNK < group.len ? begin + CHUNK : group.len};
}

// sums[block] = Σ g² in f64; not finite where a gradient is not. Inputs: gradients; output: sums.
template <class A> __device__ void grad_squares(const Table& table) {
    __shared__ double slots[THREADS / WARP];
    int i = table.tensor_of(blockIdx.x);
    Span span = span_of(table.group(i));
    const A* g = table.address<const A>(i);
    double sum = 0;
    for (long long j = span.begin + threadIdx.x; j < span.end; j += THREADS) sum += double(g[j]) * double(g[j]);
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) table.address<double>(table.head.tensors)[blockIdx.x] = sum;
}

// From the rate and the sums of squares to what the step does. Inputs: rate, the sums of each launch; outputs: progress,
// loss scale. Constants: beta1, beta2, largest norm, steps to growth. One block.
template <class A> __device__ void optim_prepare(const Table& table) {
    __shared__ double slots[THREADS / WARP];
    double part = 0;
    for (int i = 0; i < table.head.tensors; i++) {
        const double* sums = table.address<const double>(1 + i);
        for (long long j = threadIdx.x; j < table.group(i).len; j += THREADS) part += sums[j];
    }
    double square = block_sum(part, slots);
    if (threadIdx.x != 0) return;
    const double* constants = table.head.constants;
    double clip = constants[2], growth = constants[3];
    Progress& p = *table.address<Progress>(1 + table.head.tensors);
    p.lr = *table.address<const double>(0);
    p.norm = sqrt(square) / p.scale;
    bool finite = isfinite(square);
    p.apply = finite ? 1 : 0;
    p.factor = (clip > 0 && p.norm > clip ? clip / p.norm : 1) / p.scale;
    if (finite) {
        p.step += 1;
        p.clean += 1;
        if (growth > 0 && p.clean >= growth) {
            p.scale *= 2;
            p.clean = 0;
        }
    } else {
        p.skipped += 1;
        p.clean = 0;
        if (growth > 0) p.scale *= 0.5;
    }
    p.unbias1 = 1 / (1 - pow(constants[0], p.step));
    p.unbias2 = 1 / (1 - pow(constants[1], p.step));
    *table.address<A>(2 + table.head.tensors) = A(p.scale);
}

// v ← momentum·v + (g + decay·w), w ← w − lr·v.
template <class A> struct Sgd {
    static constexpr int STATES = 1;
    A momentum, factor, lr, decay;
    __device__ Sgd(const Head& head, const Progress& p, const Group& group)
        : momentum(A(head.constants[0])), factor(A(p.factor)), lr(A(p.lr * group.lr_factor)), decay(A(group.decay)) {}
    __device__ A operator()(A w, A g, A* const (&state)[STATES], long long i) const {
        A v = momentum * state[0][i] + (g * factor + decay * w);
        state[0][i] = v;
        return w - lr * v;
    }
};

// m ← β₁m + (1−β₁)g, s ← β₂s + (1−β₂)g², w ← w − lr·m̂/(√ŝ + ε); decay is added to g, or shrinks w if DECOUPLED.
template <class A, bool DECOUPLED> struct Adam {
    static constexpr int STATES = 2;
    A keep1, new1, keep2, new2, eps, factor, rate, unbias2, shrink, added;
    __device__ Adam(const Head& head, const Progress& p, const Group& group) {
        double lr = p.lr * group.lr_factor;
        keep1 = A(head.constants[0]), new1 = A(1 - head.constants[0]);
        keep2 = A(head.constants[1]), new2 = A(1 - head.constants[1]);
        eps = A(head.constants[2]), factor = A(p.factor), rate = A(lr * p.unbias1), unbias2 = A(p.unbias2);
        shrink = DECOUPLED ? A(1 - lr * group.decay) : A(1), added = DECOUPLED ? A(0) : A(group.decay);
    }
    __device__ A operator()(A w, A g, A* const (&state)[STATES], long long i) const {
        g = g * factor + added * w;
        A m = keep1 * state[0][i] + new1 * g, s = keep2 * state[1][i] + new2 * g * g;
        state[0][i] = m;
        state[1][i] = s;
        return w * shrink - rate * m / (sqrt(s * unbias2) + eps);
    }
};

// One step of a rule. Inputs: progress, gradients; outputs: value and states of each tensor, then the shadows in T.
template <class T, class Rule> __device__ void optim_step(const Table& table) {
    using A = Wide<T>;
    const Progress& p = *table.address<const Progress>(0);
    if (p.apply != 1) return;
    int i = table.tensor_of(blockIdx.x);
    const Group& group = table.group(i);
    Rule rule(table.head, p, group);
    Span span = span_of(group);
    long long tensors = table.head.tensors, outs = 1 + tensors;
    const A* g = table.address<const A>(1 + i);
    A* w = table.address<A>(outs + i * (1 + Rule::STATES));
    A* state[Rule::STATES];
    for (int s = 0; s < Rule::STATES; s++) state[s] = table.address<A>(outs + i * (1 + Rule::STATES) + 1 + s);
    T* shadow = group.shadow < 0 ? nullptr : table.address<T>(outs + tensors * (1 + Rule::STATES) + group.shadow);
    for (long long j = span.begin + threadIdx.x; j < span.end; j += THREADS) {
        A moved = rule(w[j], g[j], state, j);
        w[j] = moved;
        if (shadow) shadow[j] = narrow<T>(moved);
    }
}

// averages ← averages + share·(values − averages), `share` as in src/ops/optim.rs. Inputs: progress, values; outputs: averages.
template <class A> __device__ void ema_update(const Table& table) {
    const Progress& p = *table.address<const Progress>(0);
    if (p.apply != 1) return;
    const double decay = table.head.constants[0];
    const A share = A((1 - decay) / (1 - pow(decay, p.step)));
    int i = table.tensor_of(blockIdx.x);
    Span span = span_of(table.group(i));
    const A* w = table.address<const A>(1 + i);
    A* average = table.address<A>(1 + table.head.tensors + i);
    for (long long j = span.begin + threadIdx.x; j < span.end; j += THREADS) average[j] += share * (w[j] - average[j]);
}

#define OVER_TENSORS(name, dtype, ...)                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS) name##_##dtype(const __grid_constant__ Table table) {        \
        __VA_ARGS__(table);                                                                                            \
    }
#define STEPS(T, dtype)                                                                                                \
    OVER_TENSORS(sgd_step, dtype, optim_step<T, Sgd<Wide<T>>>)                                                         \
    OVER_TENSORS(adam_step, dtype, optim_step<T, Adam<Wide<T>, false>>)                                                \
    OVER_TENSORS(adamw_step, dtype, optim_step<T, Adam<Wide<T>, true>>)
FOR_FLOATS(STEPS)
#define OTHERS(A, dtype)                                                                                               \
    OVER_TENSORS(grad_squares, dtype, grad_squares<A>)                                                                 \
    OVER_TENSORS(optim_prepare, dtype, optim_prepare<A>)                                                               \
    OVER_TENSORS(ema_update, dtype, ema_update<A>)
FOR_WIDE(OTHERS)
