// From values as they are stored, in 8 or 16 bits, to the normalised input of a network: images [n, h, w, k] and a `Change` for each
// to y [n, oh, ow, c], and masks [n, h, w, k] after them, as src/ops/augment.rs; noise is drawn by counter. Bound by bytes: they are
// read once or twice, through the cache, and each thread writes a pixel (place.cuh).
#include "place.cuh"

// Most channels of an image.
constexpr int CHANNELS = 3;

// As `Augment` in src/ops/augment.rs.
struct Augment {
    int n, h, w, k, oh, ow, c, edge, bytes;
    float mean[CHANNELS], std[CHANNELS];
};

// As `Rectangle` there.
struct Rectangle {
    unsigned rows[2], cols[2];

    __device__ __forceinline__ bool holds(unsigned row, unsigned col) const {
        return rows[0] <= row && row < rows[1] && cols[0] <= col && col < cols[1];
    }
};

// As `Change` there.
struct Change {
    float affine[2][3], brightness, contrast, pivot, gamma, noise;
    unsigned key[2];
    Rectangle cutout;
    unsigned partner;
    float share;
    Rectangle patch;

    // Where a pixel dx, dy from the centre comes from, along one axis of an input of so many pixels.
    template <class W> __device__ __forceinline__ W source(int axis, W dx, W dy, int size) const {
        return W(affine[axis][0]) * dx + W(affine[axis][1]) * dy + W(affine[axis][2]) + W(0.5) * W(size - 1);
    }
};

// `Edge` there.
constexpr int EDGE_REPEAT = 1;
// `Purpose` in src/rng.rs.
constexpr unsigned PURPOSE_NOISE = 9;

template <class W> __device__ __forceinline__ W clip(W v) { return min(max(v, W(0)), W(1)); }

// Where a pixel's value comes from: the four pixels around (x, y), and the shares of the right and the lower ones.
template <class W> struct Sampler {
    int at[2][2]; // index of the first channel, -1 outside
    W right, down;

    __device__ __forceinline__ Sampler(const Augment& p, W x, W y) {
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
                at[dy][dx] = there ? (i * p.w + j) * p.k : -1;
            }
        }
    }

    __device__ __forceinline__ W pixel(const Augment& p, const unsigned char* image, int at, int channel) const {
        if (at < 0) return W(0);
        return p.bytes == 1 ? W(image[at + channel]) : W(reinterpret_cast<const unsigned short*>(image)[at + channel]);
    }
    __device__ __forceinline__ W operator()(const Augment& p, const unsigned char* image, int channel) const {
        W upper = pixel(p, image, at[0][0], channel) * (W(1) - right) + pixel(p, image, at[0][1], channel) * right;
        W lower = pixel(p, image, at[1][0], channel) * (W(1) - right) + pixel(p, image, at[1][1], channel) * right;
        return (upper * (W(1) - down) + lower * down) / W(p.bytes == 1 ? 255 : 65535);
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

// Adds `share` of the intensities of a pixel of the output, before mixing.
template <class W>
__device__ __forceinline__ void add_intensities(const Augment& p, const unsigned char* image, const Change& change, int row,
                                                int col, W share, W (&into)[CHANNELS]) {
    const W dx = W(col) - W(0.5) * W(p.ow - 1), dy = W(row) - W(0.5) * W(p.oh - 1);
    const Sampler<W> sample(p, change.source(0, dx, dy, p.w), change.source(1, dx, dy, p.h));
    W noise[CHANNELS] = {};
    if (change.noise > 0) {
        const Normals<W> normals(row * p.ow + col, make_uint2(change.key[0], change.key[1]));
        for (int i = 0; i < CHANNELS; i++) noise[i] = W(change.noise) * normals.z[i];
    }
    W values[CHANNELS];
#pragma unroll
    for (int i = 0; i < CHANNELS; i++) {
        if (i >= p.k) break;
        W v = clip(sample(p, image, i) * W(change.brightness));
        if (change.contrast != 1.0f) v = clip(W(change.pivot) + (v - W(change.pivot)) * W(change.contrast));
        if (change.gamma != 1.0f) v = pow(v, W(change.gamma));
        values[i] = clip(v + noise[i]);
    }
    const bool cut = change.cutout.holds(row, col);
#pragma unroll
    for (int i = 0; i < CHANNELS; i++) {
        if (i < p.c) into[i] += share * (cut ? W(p.mean[i]) : p.k == 1 ? values[0] : values[i]);
    }
}

template <class T>
__device__ __forceinline__ void augment(const Augment& p, const unsigned char* images, const unsigned* words, T* y) {
    using W = Wide<T>;
    const Place<1> place(p.oh, p.ow, 1);
    if (!place.active) return;
    const Change* changes = reinterpret_cast<const Change*>(words);
    const Change& change = changes[place.n];
    const long long area = (long long)p.h * p.w * p.k * p.bytes;
    const int partner = min(int(change.partner), p.n - 1);
    const W share = change.patch.holds(place.line, place.pixel) ? W(0) : W(change.share);
    W v[CHANNELS] = {};
    if (share > 0) add_intensities(p, images + place.n * area, change, place.line, place.pixel, share, v);
    if (share < 1) {
        add_intensities(p, images + partner * area, changes[partner], place.line, place.pixel, W(1) - share, v);
    }
    y += (((long long)place.n * p.oh + place.line) * p.ow + place.pixel) * p.c;
#pragma unroll
    for (int i = 0; i < CHANNELS; i++) {
        if (i >= p.c) break;
        y[i] = narrow<T>((v[i] - W(p.mean[i])) / W(p.std[i]));
    }
}
#define AUGMENT(T, dtype)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        augment_##dtype(const Augment p, const unsigned char* images, const unsigned* changes, T* y) {                 \
        augment(p, images, changes, y);                                                                                \
    }
FOR_FLOATS(AUGMENT)

// As `Masks` in src/ops/augment.rs.
struct Masks {
    int n, h, w, k;
};

// The nearest pixel of each mask, 0 outside.
template <class T>
__device__ __forceinline__ void augment_masks(const Masks& p, const unsigned char* masks, const unsigned* words, T* y) {
    using W = Wide<T>;
    const Place<1> place(p.h, p.w, 1);
    if (!place.active) return;
    const Change& change = reinterpret_cast<const Change*>(words)[place.n];
    const W dx = W(place.pixel) - W(0.5) * W(p.w - 1), dy = W(place.line) - W(0.5) * W(p.h - 1);
    const W x = round(change.source(0, dx, dy, p.w)), row = round(change.source(1, dx, dy, p.h));
    const bool there = x >= 0 && x < W(p.w) && row >= 0 && row < W(p.h);
    const unsigned char* mask = masks + (long long)place.n * p.h * p.w * p.k;
    if (there) mask += (int(row) * p.w + int(x)) * p.k;
    y += (((long long)place.n * p.h + place.line) * p.w + place.pixel) * p.k;
    for (int i = 0; i < p.k; i++) y[i] = narrow<T>(there && mask[i] != 0 ? W(1) : W(0));
}
#define AUGMENT_MASKS(T, dtype)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        augment_masks_##dtype(const Masks p, const unsigned char* masks, const unsigned* changes, T* y) {              \
        augment_masks(p, masks, changes, y);                                                                           \
    }
FOR_FLOATS(AUGMENT_MASKS)
