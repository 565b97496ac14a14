// How threads are laid over the pixels of images that they write one by one.
#pragma once
#include "channels.cuh"

// A thread's place in images of `lines` lines and `pixels` pixels a line: blockIdx.x counts the lines of all images, and y the
// threads along one, each with N channels of one pixel. `Grid::lines` in src/device/mod.rs must agree.
template <int PACK_SIZE> struct Place {
    static constexpr int N = PACK_SIZE;
    int n, line, pixel, channel;
    bool active;

    __device__ __forceinline__ Place(int lines, int pixels, int c) {
        int packs = c / N, i = blockIdx.y * blockDim.x + threadIdx.x;
        n = blockIdx.x / lines;
        line = blockIdx.x % lines;
        pixel = i / packs;
        channel = i % packs * N;
        active = pixel < pixels;
    }
    // Offset of the thread's channels at a pixel of the same image in a tensor [n, h, w, c].
    __device__ __forceinline__ long long offset(int h, int w, int c, int line, int pixel) const {
        return (((long long)n * h + line) * w + pixel) * c + channel;
    }
    __device__ __forceinline__ long long offset(int h, int w, int c) const { return offset(h, w, c, line, pixel); }
};

// Runs body(place) in the threads that have one; N is a pack where c is a multiple of that, and else 1.
template <class T, class Body> __device__ __forceinline__ void with_place(int lines, int pixels, int c, Body body) {
    if (c % PACK<T> == 0) {
        Place<PACK<T>> place(lines, pixels, c);
        if (place.active) body(place);
    } else {
        Place<1> place(lines, pixels, c);
        if (place.active) body(place);
    }
}
