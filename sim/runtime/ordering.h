// What orders memory accesses of CUDA threads, as told to ThreadSanitizer. Without it, nothing.
#pragma once
#include "sanitizers.h"
#include <vector>

namespace sim {

struct Thread;

#ifdef SIM_TSAN
// Every CUDA thread is a fiber of ThreadSanitizer, which then sees all pairs of accesses that no barrier orders, whatever the
// schedule. Fibers are costly (about a millisecond each), so blocks share two sets of them in turn: accesses of two neighbouring
// blocks are unordered and a race between them is seen.
class Ordering {
   public:
    static constexpr bool KEEPS_STACKS = true;
    void end_launch();
    void begin_block(Thread* threads, unsigned count);
    void begin_thread();
    void end_thread();
    void arrive_at_barrier(unsigned generation);
    void leave_barrier(unsigned generation);
    void arrive_at_warp_barrier(unsigned warp, unsigned lane);
    void join_warp_barrier(unsigned warp, unsigned lanes);
    void leave_warp_barrier(unsigned warp, unsigned lane);
    // Ordered with all other fences, though it should need an atomic access that a second thread sees: ThreadSanitizer has no fences.
    void fence();

   private:
    struct Fibers {
        std::vector<unsigned char*> stacks;
        std::vector<void*> tsan;
    };
    struct BlockState;
    Fibers sets[2];
    unsigned turn = 0;
    BlockState* state = nullptr;
    char main_thread, launch_end, fences;
};
#else
class Ordering {
   public:
    static constexpr bool KEEPS_STACKS = false;
    void end_launch() {}
    void begin_block(Thread*, unsigned) {}
    void begin_thread() {}
    void end_thread() {}
    void arrive_at_barrier(unsigned) {}
    void leave_barrier(unsigned) {}
    void arrive_at_warp_barrier(unsigned, unsigned) {}
    void join_warp_barrier(unsigned, unsigned) {}
    void leave_warp_barrier(unsigned, unsigned) {}
    void fence() {}
};
#endif

extern Ordering ordering;

}  // namespace sim
