// Operations that the lanes of a warp do together.
#include "block.h"
#include "sim/half.h"
#include "sim/ptx.h"
#include "sim/warp.h"
#include <cstring>

namespace sim {

void no_such_lane(unsigned source, unsigned mask) { fail("a shuffle reads lane %u, which is not in its mask %08x", source, mask); }

struct Vote {
    bool predicate;
    unsigned result;
};

static void vote_all(Warp& warp, unsigned mask) {
    unsigned result = 0;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        if (static_cast<Vote*>(warp.arguments[lane])->predicate) result |= 1u << lane;
    }
    for (unsigned rest = mask; rest; rest &= rest - 1) static_cast<Vote*>(warp.arguments[__builtin_ctz(rest)])->result = result;
}

unsigned ballot(unsigned mask, bool predicate, Where where) {
    Vote vote{predicate, 0};
    warp_operation(mask, vote_all, &vote, where);
    return vote.result;
}

static void need_full_warp(const char* what, unsigned mask) {
    if (mask != 0xffffffff) fail("%s needs all 32 lanes, and the warp has %08x", what, mask);
}

template <unsigned Count, bool Transposed>
void ldmatrix_all(Warp& warp, unsigned mask) {
    need_full_warp("ldmatrix", mask);
    uint16_t matrices[Count][8][8];
    for (unsigned row = 0; row < Count * 8; row++) {
        memcpy(matrices[row / 8][row % 8], static_cast<MatrixRow*>(warp.arguments[row])->halves, 16);
    }
    for (unsigned lane = 0; lane < WARP_SIZE; lane++) {
        const unsigned g = lane / 4, t = lane % 4;
        uint32_t* registers = static_cast<MatrixRow*>(warp.arguments[lane])->registers;
        for (unsigned i = 0; i < Count; i++) {
            const auto& m = matrices[i];
            const uint32_t low = Transposed ? m[2 * t][g] : m[g][2 * t], high = Transposed ? m[2 * t + 1][g] : m[g][2 * t + 1];
            registers[i] = low | high << 16;
        }
    }
}
template void ldmatrix_all<1, false>(Warp&, unsigned);
template void ldmatrix_all<2, false>(Warp&, unsigned);
template void ldmatrix_all<4, false>(Warp&, unsigned);
template void ldmatrix_all<1, true>(Warp&, unsigned);
template void ldmatrix_all<2, true>(Warp&, unsigned);
template void ldmatrix_all<4, true>(Warp&, unsigned);

template <typename T>
static float element(uint32_t pair, bool high) {
    const uint16_t bits = high ? pair >> 16 : pair;
    return std::is_same_v<T, __half> ? f16_to_float(bits) : bf16_to_float(bits);
}

// Products are exact and summed in double precision, with one rounding per mma: hardware, too, rounds the sum of many products once.
template <typename T>
void mma_all(Warp& warp, unsigned mask) {
    need_full_warp("mma", mask);
    double a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < WARP_SIZE; lane++) {
        const MatrixProduct& part = *static_cast<MatrixProduct*>(warp.arguments[lane]);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned half = 0; half < 2; half++) {
            const unsigned k = 2 * t + half;
            a[g][k] = element<T>(part.a[0], half);
            a[g + 8][k] = element<T>(part.a[1], half);
            a[g][k + 8] = element<T>(part.a[2], half);
            a[g + 8][k + 8] = element<T>(part.a[3], half);
            b[k][g] = element<T>(part.b[0], half);
            b[k + 8][g] = element<T>(part.b[1], half);
            d[g][k] = part.d[half];
            d[g + 8][k] = part.d[2 + half];
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        for (unsigned k = 0; k < 16; k++) {
            for (unsigned j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
        }
    }
    for (unsigned lane = 0; lane < WARP_SIZE; lane++) {
        const MatrixProduct& part = *static_cast<MatrixProduct*>(warp.arguments[lane]);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned half = 0; half < 2; half++) {
            part.d[half] = static_cast<float>(d[g][2 * t + half]);
            part.d[2 + half] = static_cast<float>(d[g + 8][2 * t + half]);
        }
    }
}
template void mma_all<__half>(Warp&, unsigned);
template void mma_all<__nv_bfloat16>(Warp&, unsigned);

}  // namespace sim
