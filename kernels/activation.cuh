// The pointwise activations, as src/ops/activation.rs: each a function and its derivative, both of the pre-activation u.
#pragma once
#include "common.cuh"

#define ACTIVATION_FN template <class W> static __device__ __forceinline__ W

// u
struct Identity {
    ACTIVATION_FN f(W u) { return u; }
    ACTIVATION_FN df(W) { return W(1); }
};

// max(u, 0), written, like those below, so that NaN stays NaN: an overflow must not look like a quiet neuron.
struct Relu {
    ACTIVATION_FN f(W u) { return u <= W(0) ? W(0) : u; }
    ACTIVATION_FN df(W u) { return u <= W(0) ? W(0) : W(1); }
};

// clamp(u + 3, 0, 6) / 6
struct HardSigmoid {
    ACTIVATION_FN f(W u) {
        W right = u >= W(3) ? W(1) : (u + W(3)) * W(1.0 / 6);
        return u <= W(-3) ? W(0) : right;
    }
    ACTIVATION_FN df(W u) { return u > W(-3) && u < W(3) ? W(1.0 / 6) : W(0); }
};

// u · clamp(u + 3, 0, 6) / 6 (Howard et al. 2019)
struct HardSwish {
    ACTIVATION_FN f(W u) { return u * HardSigmoid::f(u); }
    ACTIVATION_FN df(W u) {
        W right = u >= W(3) ? W(1) : (u + u + W(3)) * W(1.0 / 6);
        return u <= W(-3) ? W(0) : right;
    }
};

// 1 / (1 + exp(−u)); FAST by the approximate functions, a few units in the last place of single precision off: enough for what is
// stored in 16 bits, and where the exact ones would be half of what a kernel does.
template <bool FAST> struct Sigmoid {
    ACTIVATION_FN f(W u) {
        if constexpr (FAST) {
            return __fdividef(1.0f, 1.0f + __expf(-u));
        } else {
            return W(1) / (W(1) + exp(-u));
        }
    }
    ACTIVATION_FN df(W u) {
        W s = f(u);
        return s * (W(1) - s);
    }
};

// u · σ(u) (Elfwing et al. 2018; swish)
template <bool FAST> struct Silu {
    ACTIVATION_FN f(W u) { return u * Sigmoid<FAST>::f(u); }
    ACTIVATION_FN df(W u) {
        W s = Sigmoid<FAST>::f(u);
        return s * (W(1) + u * (W(1) - s));
    }
};

#undef ACTIVATION_FN

// Runs body(A()), A being the activation whose number in `Act` of src/ops/activation.rs is `act`, of values stored in T: one branch for a whole kernel.
template <class T, class Body> __device__ __forceinline__ void with_activation(int act, Body body) {
    switch (act) {
        case 0: return body(Identity());
        case 1: return body(Relu());
        case 2: return body(HardSwish());
        case 3: return body(HardSigmoid());
        case 4: return body(Silu<sizeof(T) == 2>());
        case 5: return body(Sigmoid<sizeof(T) == 2>());
    }
}
