// The functions of kernels/warp_group.cuh, which describes them. A product is done as late as it may be: at the wait that guarantees it,
// in the kernel's own code, where the sanitizers see what it reads.
#pragma once
#include "half.h"
#include "runtime.h"
#include <type_traits>

namespace sim {

// Whether the chip that is simulated has warp groups: those of compute capability 9.0.
bool has_warp_groups();

struct GroupProduct {
    float* sums;
    uint64_t a, b;
    bool more;
    void (*run)(const GroupProduct& product);
    unsigned set;
};

void issue_product(const GroupProduct& product);
void commit_products();
// The next product of this thread to be done before only `sets` sets are left, or null.
const GroupProduct* next_product(unsigned sets);

// Element (row, k) of what a descriptor describes.
template <class T, bool AlongK>
inline float matrix_element(uint64_t matrix, unsigned row, unsigned k) {
    const unsigned first = (matrix & 0x3fff) << 4, across = (matrix >> 16 & 0x3fff) << 4, down = (matrix >> 32 & 0x3fff) << 4;
    if (matrix >> 62 != 1) fail("wgmma: of the ways to permute chunks only that of 128-byte lines is simulated");
    unsigned at = first;
    if (AlongK) {
        at += row / 8 * down + row % 8 * 128 + k * 2;
    } else {
        at += row / 64 * across + k / 8 * down + k % 8 * 128 + row % 64 * 2;
    }
    at ^= (at >> 7 & 7) << 4;
    const auto bits = *reinterpret_cast<const uint16_t*>(thread->block->dynamic_shared + at);
    return std::is_same_v<T, __half> ? f16_to_float(bits) : bf16_to_float(bits);
}

// This thread's part of D += A B; products are exact and rounded once, as those of mma.
template <class T, unsigned Columns, bool AAlongK, bool BAlongK>
inline void run_product(const GroupProduct& product) {
    const unsigned warp = thread->index.x / 32 % 4, lane = thread->index.x % 32;
    for (unsigned half = 0; half < 2; half++) {
        float a[16];
        for (unsigned k = 0; k < 16; k++) a[k] = matrix_element<T, AAlongK>(product.a, 16 * warp + 8 * half + lane / 4, k);
        for (unsigned i = 0; i < Columns / 4; i++) {
            float& sum = product.sums[i / 2 * 4 + half * 2 + i % 2];
            double exact = product.more ? sum : 0;
            for (unsigned k = 0; k < 16; k++) {
                exact += double(a[k]) * matrix_element<T, BAlongK>(product.b, i / 2 * 8 + lane % 4 * 2 + i % 2, k);
            }
            sum = static_cast<float>(exact);
        }
    }
}

}  // namespace sim

inline uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(static_cast<const unsigned char*>(p) - sim::thread->block->dynamic_shared);
}

// Of warp_group.cuh, which includes this file first.
template <bool B>
struct Is;
template <class F>
inline void with_warp_groups(F f) {
    if (sim::has_warp_groups()) return f(Is<true>());
    f(Is<false>());
}

inline void wgmma_publish() {}
inline void wgmma_begin() {}
inline void wgmma_commit() { sim::commit_products(); }
template <int N>
inline void wgmma_hold(float (&)[N]) {}
template <int N>
inline void wgmma_wait() {
    while (const sim::GroupProduct* product = sim::next_product(N)) product->run(*product);
}
template <class T, bool A_ALONG_K, bool B_ALONG_K, int N>
inline void wgmma_k16(float (&d)[N], uint64_t a, uint64_t b, bool more) {
    static_assert(N == 32 || N == 64, "64 or 128 columns");
    sim::issue_product({d, a, b, more, sim::run_product<T, 2 * N, A_ALONG_K, B_ALONG_K>, 0});
}
