// One block of a launch: its threads and warps, and who runs next. An OS thread runs one block at a time.
#pragma once
#include "fiber.h"
#include "options.h"
#include "shared_memory.h"
#include "sim/runtime.h"
#include "sim/warp_group.h"
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

namespace sim {

constexpr unsigned WARP_SIZE = 32, MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP_SIZE;

struct Thread;
class Block;

struct Launch {
    Launch(const Kernel& kernel, dim3 grid, dim3 block, unsigned dynamic_shared, void* const* arguments)
        : kernel(kernel), grid(grid), block(block), dynamic_shared(dynamic_shared), arguments(arguments) {}
    const Kernel& kernel;
    dim3 grid, block;
    unsigned dynamic_shared;
    void* const* arguments;
    std::atomic<size_t> next_block{0};
    std::atomic<bool> failed{false};
    std::mutex message_lock;
    std::string message;  // of the first failure
};

// Copies of cp.async that a thread has issued and not yet waited for.
struct AsyncCopy {
    void* dst;
    const void* src;  // null: zeros
    unsigned bytes, group;
};

struct Warp {
    unsigned number;
    // One bit a lane.
    unsigned exists, alive, ready, in_operation, at_barrier;
    Thread* threads[WARP_SIZE];
    // What the lanes in `in_operation` called.
    unsigned masks[WARP_SIZE];
    WarpFunction functions[WARP_SIZE];
    void* arguments[WARP_SIZE];
};

struct Thread : ThreadView {
    Block* owner = nullptr;
    Warp* warp = nullptr;
    unsigned number = 0;
    bool started = false;
    Where waiting;  // line null: not waiting
    Fiber fiber;
    std::vector<AsyncCopy> copies;
    unsigned copy_group = 0;
    std::vector<GroupProduct> products;
    size_t products_done = 0;
    unsigned product_set = 0;
};

// Whether this OS thread is running a kernel.
bool in_kernel();

// For functions that a kernel calls.
inline Thread& self() { return *static_cast<Thread*>(thread); }

class Block : public BlockView {
   public:
    Block();
    // Runs one block of the launch to its end, or to its failure.
    void run(Launch& launch, size_t number);

    void barrier(Where where);
    void operation(unsigned mask, WarpFunction function, void* argument, Where where);
    [[noreturn]] void abandon(const char* message);

   private:
    static void fiber_main();
    void set_up(Launch& launch, size_t number);
    void place_threads();
    void forget_failure();
    void run_kernel();
    void wait();
    void switch_to(Thread& to, bool ends);
    void start(Thread& thread);
    Thread* pick();
    unsigned pick_lane(unsigned ready, unsigned after);
    void release_barrier();
    void complete_operation(Warp& warp, unsigned mask);
    [[noreturn]] void deadlock();

    Launch* launch = nullptr;
    const Order order = options().order;
    uint64_t random = 0;
    unsigned thread_count = 0, warp_count = 0, finished = 0, barrier_arrivals = 0, barrier_generation = 0;
    Thread* running = &outside;
    Thread outside;  // the OS thread itself
    Thread threads[MAX_THREADS];
    Warp warps[MAX_WARPS];
    std::vector<unsigned char*> free_stacks;
    SharedMemory shared;
};

}  // namespace sim
