#include "ordering.h"
#include "block.h"
#include "shared_memory.h"

namespace sim {

Ordering ordering;

#ifdef SIM_TSAN
// Objects to release and acquire; their addresses are all that counts.
struct Ordering::BlockState {
    // In turn, since a thread that leaves late must not inherit what others do on the way to the next barrier.
    char barrier[2];
    char lane[MAX_WARPS][WARP_SIZE];
    static constexpr unsigned SLOTS = 64;
    char slot[MAX_WARPS][SLOTS];
    unsigned char slot_of[MAX_WARPS][WARP_SIZE];
    unsigned joins[MAX_WARPS];
};

void Ordering::end_launch() { __tsan_acquire(&launch_end); }

void Ordering::begin_block(Thread* threads, unsigned count) {
    // A fresh mapping forgets the last block's clocks, and so orders nothing between blocks.
    state = static_cast<BlockState*>(forgotten_pages(state, sizeof(BlockState)));
    Fibers& fibers = sets[turn++ % 2];
    for (unsigned i = 0; i < count; i++) {
        // Created here, because a fiber inherits the clock of its creator: made by one another, siblings would seem ordered.
        if (i == fibers.tsan.size()) {
            fibers.stacks.push_back(allocate_stack());
            fibers.tsan.push_back(__tsan_create_fiber(0));
        }
        threads[i].fiber.stack = fibers.stacks[i];
        threads[i].fiber.tsan = fibers.tsan[i];
    }
    // What the main thread did: it filled buffers, and mapped memory anew. It knows nothing of what earlier blocks did.
    __tsan_release(&main_thread);
}

void Ordering::begin_thread() { __tsan_acquire(&main_thread); }
void Ordering::end_thread() { __tsan_release(&launch_end); }
void Ordering::arrive_at_barrier(unsigned generation) { __tsan_release(&state->barrier[generation % 2]); }
void Ordering::leave_barrier(unsigned generation) { __tsan_acquire(&state->barrier[generation % 2]); }
void Ordering::arrive_at_warp_barrier(unsigned warp, unsigned lane) { __tsan_release(&state->lane[warp][lane]); }

void Ordering::join_warp_barrier(unsigned warp, unsigned lanes) {
    const unsigned slot = state->joins[warp]++ % BlockState::SLOTS;
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        __tsan_acquire(&state->lane[warp][lane]);
        state->slot_of[warp][lane] = slot;
    }
    __tsan_release(&state->slot[warp][slot]);
}

void Ordering::leave_warp_barrier(unsigned warp, unsigned lane) {
    __tsan_acquire(&state->slot[warp][state->slot_of[warp][lane]]);
}

void Ordering::fence() {
    __tsan_acquire(&fences);
    __tsan_release(&fences);
}
#endif

}  // namespace sim
