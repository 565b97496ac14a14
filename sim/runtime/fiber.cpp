#include "fiber.h"
#include "sanitizers.h"
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace sim {

constexpr size_t PAGE = 4096;

unsigned char* allocate_stack() {
    void* memory = mmap(nullptr, STACK_BYTES + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("simulator: no memory for the stack of a CUDA thread");
        abort();
    }
    mprotect(memory, PAGE, PROT_NONE);
    return static_cast<unsigned char*>(memory) + PAGE;
}

void fiber_adopt(Fiber& fiber) {
#ifdef SIM_ASAN
    own_stack(fiber.bottom, fiber.size);
#endif
#ifdef SIM_TSAN
    fiber.tsan = __tsan_get_current_fiber();
#endif
    (void)fiber;
}

void fiber_entered() {
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

#ifdef __x86_64__
// Saves what the ABI lets a function rely on, changes stacks, and restores the same from the other stack.
asm(R"(
.text
.p2align 4
.type sim_switch_stack, @function
sim_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size sim_switch_stack, . - sim_switch_stack
)");
extern "C" void sim_switch_stack(void** save, void* to);

static void begin_stack(Fiber& fiber, unsigned colour, void (*entry)()) {
    constexpr unsigned COLOURS = 64, COLOUR_BYTES = 192, SAVED_REGISTERS = 6;
    void** top = reinterpret_cast<void**>(fiber.stack + STACK_BYTES - colour % COLOURS * COLOUR_BYTES);
    *--top = nullptr;  // the return address of `entry`, which also aligns its frame
    *--top = reinterpret_cast<void*>(entry);
    for (unsigned i = 0; i < SAVED_REGISTERS; i++) *--top = nullptr;
    fiber.stack_pointer = top;
}
static void switch_stack(Fiber& from, Fiber& to) { sim_switch_stack(&from.stack_pointer, to.stack_pointer); }
#else
static void begin_stack(Fiber& fiber, unsigned, void (*entry)()) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
}
static void switch_stack(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#endif

void fiber_begin(Fiber& fiber, unsigned colour, void (*entry)()) {
#ifdef SIM_ASAN
    __asan_unpoison_memory_region(fiber.stack, STACK_BYTES);  // frames abandoned by a failed launch leave red zones behind
    fiber.bottom = fiber.stack;
    fiber.size = STACK_BYTES;
#endif
    begin_stack(fiber, colour, entry);
}

void fiber_switch(Fiber& from, Fiber& to, bool ends) {
#ifdef SIM_ASAN
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
#ifdef SIM_TSAN
    __tsan_switch_to_fiber(to.tsan, TSAN_NO_ORDER);
#endif
    (void)ends;
    switch_stack(from, to);
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace sim
