// Products by a warp group: four warps, the first a multiple of four, that multiply together and read both operands from shared memory.
// Of the chips that the kernels are compiled for only Hopper has them, and code for it (sm_90a) runs on no other.
#pragma once
#include "ptx.cuh"

// A truth that the compiler knows.
template <bool B> struct Is {
    static constexpr bool value = B;
};

#ifndef SIM
#define PTX __device__ __forceinline__

// Calls f(Is<whether the chip has them>()).
template <class F> PTX void with_warp_groups(F f) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    f(Is<true>());
#else
    f(Is<false>());
#endif
}

// What this thread wrote or copied to shared memory will be seen by wgmma behind the next barrier.
PTX void wgmma_publish() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }
// Comes before products whose sums other instructions wrote.
PTX void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
// Keeps the compiler from moving what reads or writes these sums across this place.
template <int N> PTX void wgmma_hold(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
// Closes the set of products issued since the last commit.
PTX void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
// Waits until at most the last N sets of this warp group are under way: the sums of the others are there, their operands free.
template <int N> PTX void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory"); }

#define SUMS_8(i) \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define WGMMA_64(TYPE) \
    asm volatile( \
        "{.reg .pred more; setp.ne.b32 more, %36, 0;\n" \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " " \
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, " \
        "%32, %33, more, 1, 1, %34, %35;}\n" \
        : SUMS_8(0), SUMS_8(8), SUMS_8(16), SUMS_8(24) \
        : "l"(a), "l"(b), "n"(A_ALONG_K ? 0 : 1), "n"(B_ALONG_K ? 0 : 1), "r"(int(more)))
#define WGMMA_128(TYPE) \
    asm volatile( \
        "{.reg .pred more; setp.ne.b32 more, %68, 0;\n" \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " " \
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, " \
        "%64, %65, more, 1, 1, %66, %67;}\n" \
        : SUMS_8(0), SUMS_8(8), SUMS_8(16), SUMS_8(24), \
          SUMS_8(32), SUMS_8(40), SUMS_8(48), SUMS_8(56) \
        : "l"(a), "l"(b), "n"(A_ALONG_K ? 0 : 1), "n"(B_ALONG_K ? 0 : 1), "r"(int(more)))

template <class T> constexpr bool IS_F16 = false;
template <> inline constexpr bool IS_F16<__half> = true;

// Issues D += A B, or D = A B without `more`, with A 64x16 and B 16xN of T and D 64xN of float, N twice the length of d. `a` and `b` say where A and B lie
// (`matrix_in_shared`); ALONG_K: whether elements lie side by side along k, else along the rows of A or the columns of B.
// Lane l of the group's warp w holds d[4 j + 2 h + i] = D[16 w + 8 h + l / 4][8 j + l % 4 * 2 + i].
template <class T, bool A_ALONG_K, bool B_ALONG_K> PTX void wgmma_k16(float (&d)[32], uint64_t a, uint64_t b, bool more) {
    if constexpr (IS_F16<T>) {
        WGMMA_64("f16");
    } else {
        WGMMA_64("bf16");
    }
}
template <class T, bool A_ALONG_K, bool B_ALONG_K> PTX void wgmma_k16(float (&d)[64], uint64_t a, uint64_t b, bool more) {
    if constexpr (IS_F16<T>) {
        WGMMA_128("f16");
    } else {
        WGMMA_128("bf16");
    }
}

#undef WGMMA_64
#undef WGMMA_128
#undef SUMS_8
#undef PTX
#endif

// The descriptor of a matrix in shared memory for wgmma (PTX ISA, "matrix descriptor"): in lines of 128 bytes, whose eight chunks are
// permuted by the number of the line (bits 4 to 6 of an address by bits 7 to 9), eight lines behind eight. `across` is the distance in
// bytes between one line's worth of rows and the next where elements do not lie along k.
__device__ __forceinline__ uint64_t matrix_in_shared(const void* first, int across) {
    constexpr uint64_t LINES_OF_128 = 1, EIGHT_LINES = 8 * 128;
    return uint64_t(shared_address(first) >> 4) | uint64_t(across >> 4) << 16 | EIGHT_LINES >> 4 << 32 | LINES_OF_128 << 62;
}
