// The functions of kernels/ptx.cuh, which describes them.
#pragma once
#include "half.h"
#include "runtime.h"
#include "warp_group.h"

#define DYN_SHARED(T, name) T* const name = reinterpret_cast<T*>(sim::thread->block->dynamic_shared)

namespace sim {

void async_copy(void* dst, const void* src, unsigned bytes, bool valid, Where where);
void async_commit();
void async_wait(unsigned groups);

// Reads the row in the kernel's own code, where the sanitizers see it.
struct MatrixRow {
    alignas(8) uint64_t halves[2] = {};
    uint32_t* registers;
    MatrixRow(uint32_t* registers, const void* row, bool used, Where where) : registers(registers) {
        if (!used) return;
        if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix at %s:%d: the address of a row is not a multiple of 16", where.file, where.line);
        halves[0] = static_cast<const uint64_t*>(row)[0];
        halves[1] = static_cast<const uint64_t*>(row)[1];
    }
};

template <unsigned Count, bool Transposed>
void ldmatrix_all(Warp& warp, unsigned mask);

template <unsigned Count, bool Transposed>
inline void ldmatrix(uint32_t (&registers)[Count], const void* row, Where where) {
    MatrixRow argument(registers, row, thread->lane < 8 * Count, where);
    warp_operation(0xffffffff, ldmatrix_all<Count, Transposed>, &argument, where);
}

struct MatrixProduct {
    float* d;
    const uint32_t *a, *b;
};

template <typename T>
void mma_all(Warp& warp, unsigned mask);

}  // namespace sim

template <int BYTES>
inline void cp_async(void* dst, const void* src, bool valid = true, sim::Where where = sim::here()) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    sim::async_copy(dst, src, BYTES, valid, where);
}
inline void cp_async16(void* dst, const void* src, bool valid = true, sim::Where where = sim::here()) {
    sim::async_copy(dst, src, 16, valid, where);
}
inline void cp_async_commit() { sim::async_commit(); }
template <int N>
inline void cp_async_wait() {
    sim::async_wait(N);
}

#define SIM_LDMATRIX(COUNT, NAME, TRANSPOSED)                                                               \
    inline void NAME(uint32_t (&r)[COUNT], const void* row, sim::Where where = sim::here()) {               \
        sim::ldmatrix<COUNT, TRANSPOSED>(r, row, where);                                                    \
    }
SIM_LDMATRIX(1, ldmatrix_x1, false)
SIM_LDMATRIX(2, ldmatrix_x2, false)
SIM_LDMATRIX(4, ldmatrix_x4, false)
SIM_LDMATRIX(1, ldmatrix_x1_trans, true)
SIM_LDMATRIX(2, ldmatrix_x2_trans, true)
SIM_LDMATRIX(4, ldmatrix_x4_trans, true)
#undef SIM_LDMATRIX

template <typename T>
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], sim::Where where = sim::here()) {
    sim::MatrixProduct argument{d, a, b};
    sim::warp_operation(0xffffffff, sim::mma_all<T>, &argument, where);
}
