// y[i] = f(x[i]...) for one element of each input: one thread moves 16 bytes of each tensor.
#pragma once
#include "common.cuh"

template <class T, class F, class... X> __device__ __forceinline__ void map(long long len, T* y, F f, const X*... x) {
    long long i = global_thread() * PACK<T>;
    if (i + PACK<T> <= len) {
        auto packs = [&](auto... x) {
            Pack<T> y;
            for (int j = 0; j < PACK<T>; j++) y.v[j] = narrow<T>(f(widen(x.v[j])...));
            return y;
        };
        store(y + i, packs(load<PACK<T>>(x + i)...));
    } else {
        for (; i < len; i++) y[i] = narrow<T>(f(widen(x[i])...));
    }
}
