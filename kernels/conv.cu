// 2-D convolution, x [n, h, w, c], w [k, r, s, c], y [n, oh, ow, k]:
//   y[n, oy, ox, k] = sum over r, s, c of x[n, oy*stride + r - pad, ox*stride + s - pad, c] w[k, r, s, c]
// As a matrix product whose operands are gathered (conv.cuh) a tile at a time (tile.cuh), as are those of its gradients
// (conv_dgrad.cu, conv_wgrad.cu):
//           rows              columns  depth
//   fwd     pixels of y       k        (r, s, c)
//   dgrad   pixels of x       c        (r, s, k), those taps that reach the pixels
//   wgrad   (r, s, c)         k        pixels of y
// Bound by multiplications for 3x3 and up from about 64 channels on, by bytes for thin 1x1. bf16 and f16 go to the tensor cores.
// Launch: 256 threads for each tile of 128 rows and 64 or 128 columns (src/ops/conv/tiles.rs).
#include "conv.cuh"

#define CONV2D(T, dtype)                                                                                               \
    TILED(T) conv2d_fwd_##dtype(const Conv p, const T* x, const T* w, T* y) { conv_fwd<T>(p, x, w, y, nullptr); }          \
    TILED(T) conv2d_moments_fwd_##dtype(const Conv p, const T* x, const T* w, T* y, Wide<T>* moments) {                   \
        conv_fwd<T>(p, x, w, y, moments);                                                                              \
    }
FOR_FLOATS(CONV2D)
