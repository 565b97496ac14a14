// The instructions that C++ has no words for: asynchronous copies, matrix loads, tensor-core products.
// Inline PTX stands here and in warp_group.cuh; with -DSIM the simulator's functions of the same names take its place.
//
// Fragments of mma.m16n8k16, for lane l of a warp with g = l / 4 and t = l % 4 (two 16-bit values per register, low half first):
//   a[0] = A[g][2t..]   a[1] = A[g+8][2t..]   a[2] = A[g][2t+8..]   a[3] = A[g+8][2t+8..]
//   b[0] = B[2t..][g]   b[1] = B[2t+8..][g]   d[0..2] = D[g][2t..]  d[2..4] = D[g+8][2t..]
// ldmatrix fills them: lane l passes the address of row l % 8 of matrix l / 8, 16 bytes long and 16-byte aligned, and register i
// receives elements 2t and 2t+1 of row g of matrix i; with _trans, elements g of rows 2t and 2t+1.
#pragma once
#ifdef SIM
#include "sim/ptx.h"
#else
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Dynamic shared memory as an array of T.
#define DYN_SHARED(T, name)                                      \
    extern __shared__ __align__(1024) unsigned char name##_raw[]; \
    T* const name = reinterpret_cast<T*>(name##_raw)

#define PTX __device__ __forceinline__

PTX uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// Copies 16 bytes, both addresses aligned to them, from global to shared memory past L1, or writes zeros where `valid` is false; `src`
// is not read then, but must be a pointer into global memory.
PTX void cp_async16(void* dst, const void* src, bool valid = true) {
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(dst)), "l"(src), "r"(bytes) : "memory");
}

// Closes the group of copies that this thread issued since the last commit.
PTX void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most the last N groups of this thread are under way.
template <int N>
PTX void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

PTX void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

PTX void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// D += A B, with A 16x16 (row major), B 16x8 (column major) of T and D 16x8 of float.
template <typename T>
PTX void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
PTX void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
PTX void mma_m16n8k16<__half>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#undef PTX
#endif
