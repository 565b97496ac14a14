// What a kernel needs of the simulator while it runs: who it is, barriers, and how kernels are found by name.
#pragma once
#include "vectors.h"
#include <cstddef>
#include <cstdint>
#include <utility>

namespace sim {

// A place in a .cu file. As a default argument, here() is evaluated where the function is called.
struct Where {
    const char* file = nullptr;
    int line = 0;
    bool operator==(const Where& other) const { return line == other.line && file == other.file; }
};
inline Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

// The block and the warp of a CUDA thread as the kernel sees them; block.h has the rest.
struct BlockView {
    uint3 index;
    dim3 size, grid;
    unsigned char* dynamic_shared;
};
struct ThreadView {
    uint3 index;
    unsigned lane;
    const BlockView* block;
};

// The CUDA thread that this OS thread is running. Initialised, so that it is not in .tbss, which block.cpp fills with NaN.
extern __thread ThreadView* thread __attribute__((visibility("hidden")));

// Ends the launch with CUDA_ERROR_LAUNCH_FAILED; the message gains the kernel, the block and the thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

void block_barrier(Where where);
void memory_fence();

// Warp operations: every lane of `mask` leaves its argument, and the last to come computes for all (null: a barrier only).
struct Warp;
using WarpFunction = void (*)(Warp& warp, unsigned mask);
void warp_operation(unsigned mask, WarpFunction function, void* argument, Where where);
void* warp_argument(const Warp& warp, unsigned lane);

// A kernel as the driver sees it: its arguments are bytes of known sizes.
struct Kernel {
    const char* name;
    void (*run)(void* const* arguments);
    const size_t* sizes;
    size_t count;
    unsigned max_threads;
};

struct Registration {
    explicit Registration(const Kernel& kernel);
};

template <auto Function>
struct Entry;
template <typename... A, void (*Function)(A...)>
struct Entry<Function> {
    static constexpr size_t sizes[] = {sizeof(A)..., 0};
    template <size_t... I>
    static void apply(void* const* arguments, std::index_sequence<I...>) {
        Function(*static_cast<A*>(arguments[I])...);
    }
    static void run(void* const* arguments) { apply(arguments, std::index_sequence_for<A...>()); }
    static Kernel kernel(const char* name, unsigned max_threads) { return {name, run, sizes, sizeof...(A), max_threads}; }
};

}  // namespace sim

inline void __syncthreads(sim::Where where = sim::here()) { sim::block_barrier(where); }
inline void __syncwarp(unsigned mask = 0xffffffff, sim::Where where = sim::here()) {
    sim::warp_operation(mask, nullptr, nullptr, where);
}
