// The gradient of the input x [n, h, w, c] of a 2-D convolution, from gy [n, oh, ow, k] and w [k, r, s, c]:
//   gx[n, iy, ix, c] = sum over the r, s, k with oy*stride + r - pad = iy and ox*stride + s - pad = ix of gy[n, oy, ox, k] w[k, r, s, c]
// conv2d_dgrad_add adds it to gx. As a matrix product and bound by what conv.cu says.
// Launch: 256 threads for each tile of 128 pixels of x, of one phase of the stride, and 64 or 128 channels (src/ops/conv/tiles.rs).
#include "conv.cuh"

#define CONV2D_DGRAD(T, dtype)                                                                                         \
    TILED(T) conv2d_dgrad_##dtype(const Conv p, const T* gy, const T* w, T* gx) { conv_dgrad<T, false>(p, gy, w, gx); }   \
    TILED(T) conv2d_dgrad_add_##dtype(const Conv p, const T* gy, const T* w, T* gx) { conv_dgrad<T, true>(p, gy, w, gx); }
FOR_FLOATS(CONV2D_DGRAD)
