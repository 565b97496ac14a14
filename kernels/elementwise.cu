// Operations that touch each element once. Bound by bytes; one thread moves 16 of them from each tensor.
#include "common.cuh"

// y = a + b.
template <class T>
__device__ __forceinline__ void add(long long len, const T* a, const T* b, T* y) {
    long long i = global_thread() * PACK<T>;
    if (i + PACK<T> <= len) {
        auto pa = load<PACK<T>>(a + i), pb = load<PACK<T>>(b + i);
        for (int j = 0; j < PACK<T>; j++) pa.v[j] = narrow<T>(widen(pa.v[j]) + widen(pb.v[j]));
        store<PACK<T>>(y + i, pa);
    } else {
        for (; i < len; i++) y[i] = narrow<T>(widen(a[i]) + widen(b[i]));
    }
}
#define ADD(T, dtype)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) add_##dtype(long long len, const T* a, const T* b, T* y) {   \
        add(len, a, b, y);                                                                                             \
    }
FOR_FLOATS(ADD)
