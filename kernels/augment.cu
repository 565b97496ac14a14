// From bytes to the normalised input of a network: images [n, h, w, k] and a `Change` for each to y [n, oh, ow, c], as
// src/ops/augment.rs. Bound by bytes: they are read once or twice, through the cache, and each thread writes a pixel.
#include "place.cuh"

constexpr int CHANNELS = 3;

// As `Augment` in src/ops/augment.rs.
struct Augment {
    int n, h, w, k, oh, ow, c, edge;
    float mean[CHANNELS], std[CHANNELS];
};

// As `Change` there.
template <class W> struct Change {
    W a, b, right, d, e, down, gamma, contrast, brightness, noise, top, bottom, start, end;
};

// `Edge` there.
constexpr int EDGE_REPEAT = 1;
// `Purpose` in src/rng.rs.
constexpr unsigned PURPOSE_NOISE = 9;

// Where a pixel's value comes from: the four pixels around (x, y), and the shares of the right and the lower ones.
template <class W> struct Sampler {
    const unsigned char* at[2][2]; // nullptr outside
    W right, down;

    __device__ __forceinline__ Sampler(const Augment& p, const unsigned char* image, W x, W y) {
        // Further out nothing changes, and what is no number becomes the outside.
        x = x > W(-1) ? min(x, W(p.w)) : W(-1);
        y = y > W(-1) ? min(y, W(p.h)) : W(-1);
        right = x - floor(x);
        down = y - floor(y);
        for (int dy = 0; dy < 2; dy++) {
            for (int dx = 0; dx < 2; dx++) {
                int i = int(floor(y)) + dy, j = int(floor(x)) + dx;
                if (p.edge == EDGE_REPEAT) {
                    i = min(max(i, 0), p.h - 1);
                    j = min(max(j, 0), p.w - 1);
                }
                bool there = i >= 0 && i < p.h && j >= 0 && j < p.w;
                at[dy][dx] = there ? image + (i * p.w + j) * p.k : nullptr;
            }
        }
    }

    __device__ __forceinline__ W pixel(int dy, int dx, int channel) const {
        return at[dy][dx] ? W(at[dy][dx][channel]) / W(255) : W(0);
    }
    __device__ __forceinline__ W operator()(int channel) const {
        W upper = pixel(0, 0, channel) * (W(1) - right) + pixel(0, 1, channel) * right;
        W lower = pixel(1, 0, channel) * (W(1) - right) + pixel(1, 1, channel) * right;
        return upper * (W(1) - down) + lower * down;
    }
};

// Independent standard normals of a pixel (Box and Muller 1958).
template <class W> struct Normals {
    W z[CHANNELS];

    __device__ __forceinline__ Normals(unsigned pixel, uint2 key) {
        const uint4 words = philox(make_uint4(pixel, 0, 0, PURPOSE_NOISE), key);
        const W r = radius(words.x), turn = W(2) * W(unit(words.y));
        z[0] = r * cospi(turn);
        z[1] = r * sinpi(turn);
        z[2] = radius(words.z) * cospi(W(2) * W(unit(words.w)));
    }
    __device__ __forceinline__ static W radius(unsigned word) { return sqrt(W(-2) * log(W(1) - W(unit(word)))); }
};

template <class T>
__device__ __forceinline__ void augment(const Augment& p, const unsigned char* images, const Wide<T>* changes,
                                        const unsigned* keys, T* y) {
    using W = Wide<T>;
    const Place<1> place(p.oh, p.ow, 1);
    if (!place.active) return;
    const Change<W> change = reinterpret_cast<const Change<W>*>(changes)[place.n];
    const unsigned char* image = images + (long long)place.n * p.h * p.w * p.k;
    const W dx = W(place.pixel) - W(0.5) * W(p.ow - 1), dy = W(place.line) - W(0.5) * W(p.oh - 1);
    const Sampler<W> sample(p, image, change.a * dx + change.b * dy + change.right + W(0.5) * W(p.w - 1),
                            change.d * dx + change.e * dy + change.down + W(0.5) * W(p.h - 1));
    W noise[CHANNELS] = {};
    if (change.noise > 0) {
        const Normals<W> normals(place.line * p.ow + place.pixel, make_uint2(keys[2 * place.n], keys[2 * place.n + 1]));
        for (int i = 0; i < CHANNELS; i++) noise[i] = change.noise * normals.z[i];
    }
    const bool cut = change.top <= place.line && place.line < change.bottom && change.start <= place.pixel &&
                     place.pixel < change.end;
    y += (((long long)place.n * p.oh + place.line) * p.ow + place.pixel) * p.c;
#pragma unroll
    for (int i = 0; i < CHANNELS; i++) {
        if (i >= p.c) break;
        W v = sample(min(i, p.k - 1));
        if (change.gamma != W(1)) v = pow(v, change.gamma);
        v = (v - W(0.5)) * change.contrast + W(0.5) + change.brightness + (p.k == 1 ? noise[0] : noise[i]);
        v = min(max(v, W(0)), W(1));
        y[i] = narrow<T>(cut ? W(0) : (v - W(p.mean[i])) / W(p.std[i]));
    }
}
#define AUGMENT(T, dtype)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        augment_##dtype(const Augment p, const unsigned char* images, const Wide<T>* changes, const unsigned* keys,    \
                        T* y) {                                                                                        \
        augment(p, images, changes, keys, y);                                                                          \
    }
FOR_FLOATS(AUGMENT)
