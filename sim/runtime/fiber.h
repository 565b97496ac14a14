// Switching between CUDA threads on one OS thread.
#pragma once
#include <cstddef>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace sim {

// A suspended flow of control, and its stack unless it is the OS thread's own.
struct Fiber {
    unsigned char* stack = nullptr;
#ifdef __x86_64__
    void* stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
#ifdef SIM_ASAN
    void* fake_stack = nullptr;
    const void* bottom = nullptr;
    size_t size = 0;
#endif
#ifdef SIM_TSAN
    void* tsan = nullptr;
#endif
};

// Enough for the locals of a kernel and a parameter struct of 32 kB; AddressSanitizer spreads locals out.
#ifdef SIM_ASAN
constexpr size_t STACK_BYTES = 512 << 10;
#else
constexpr size_t STACK_BYTES = 128 << 10;
#endif

// A new stack (lowest address), with an inaccessible page below it.
unsigned char* allocate_stack();

// Makes `fiber`, which has a stack, begin at `entry`, which must never return; `colour` keeps the hot ends of neighbouring stacks out of one cache set.
void fiber_begin(Fiber& fiber, unsigned colour, void (*entry)());

// Makes `fiber` stand for the OS thread that calls.
void fiber_adopt(Fiber& fiber);

// Goes on with `to`. `ends`: `from` will not be resumed, only begun anew.
void fiber_switch(Fiber& from, Fiber& to, bool ends);

// To be called first by every `entry`.
void fiber_entered();

}  // namespace sim
