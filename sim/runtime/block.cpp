#include "block.h"
#include "ordering.h"
#include <cstdarg>
#include <cstdio>

namespace sim {

static ThreadView nobody;
__thread ThreadView* thread = &nobody;

bool in_kernel() { return thread != &nobody; }

void block_barrier(Where where) { self().owner->barrier(where); }

void warp_operation(unsigned mask, WarpFunction function, void* argument, Where where) {
    self().owner->operation(mask, function, argument, where);
}

void memory_fence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    ordering.fence();
}

void* warp_argument(const Warp& warp, unsigned lane) { return warp.arguments[lane]; }

void fail(const char* format, ...) {
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    self().owner->abandon(message);
}

Block::Block() {
    outside.warp = &warps[0];
    outside.lane = WARP_SIZE - 1;  // so that lane 0 is next
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        Thread& thread = threads[i];
        thread.block = this;
        thread.owner = this;
        thread.number = i;
        thread.lane = i % WARP_SIZE;
        thread.warp = &warps[i / WARP_SIZE];
        thread.warp->threads[thread.lane] = &thread;
    }
    for (unsigned w = 0; w < MAX_WARPS; w++) warps[w].number = w;
}

void Block::run(Launch& launch, size_t number) {
    fiber_adopt(outside.fiber);
    set_up(launch, number);
    shared.begin_block(launch.dynamic_shared);
    dynamic_shared = shared.dynamic();
    ordering.begin_block(threads, thread_count);
    switch_to(*pick(), false);
    thread = &nobody;
    shared.end_block();
    if (launch.failed) forget_failure();
}

void Block::set_up(Launch& launch, size_t number) {
    const dim3 before = size;
    this->launch = &launch;
    size = launch.block;
    grid = launch.grid;
    index = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
    if (size.x != before.x || size.y != before.y || size.z != before.z) place_threads();
    finished = barrier_arrivals = barrier_generation = 0;
    random = (options().seed + 1) * 0x9e3779b97f4a7c15 ^ (number + 1) * 0xbf58476d1ce4e5b9;
    for (unsigned w = 0; w < warp_count; w++) {
        Warp& warp = warps[w];
        warp.alive = warp.ready = warp.exists;
        warp.in_operation = warp.at_barrier = 0;
    }
}

void Block::place_threads() {
    thread_count = size.x * size.y * size.z;
    warp_count = (thread_count + WARP_SIZE - 1) / WARP_SIZE;
    for (unsigned i = 0; i < thread_count; i++) threads[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    for (unsigned w = 0; w < warp_count; w++) {
        const unsigned lanes = thread_count - w * WARP_SIZE;
        warps[w].exists = lanes >= WARP_SIZE ? ~0u : (1u << lanes) - 1;
    }
}

// Threads that were abandoned half-way are as new.
void Block::forget_failure() {
    for (unsigned i = 0; i < thread_count; i++) {
        Thread& thread = threads[i];
        if (thread.fiber.stack && !Ordering::KEEPS_STACKS) {
            free_stacks.push_back(thread.fiber.stack);
            thread.fiber.stack = nullptr;
        }
        thread.started = false;
        thread.waiting = {};
        thread.copies.clear();
        thread.copy_group = 0;
        thread.products.clear();
        thread.products_done = thread.product_set = 0;
    }
}

// A thread gets a stack of its own only when another one waits: a kernel without barriers runs as a plain loop on one stack.
void Block::fiber_main() {
    fiber_entered();
    Block& block = *self().owner;  // stacks stay with their block
    for (;;) {
        block.run_kernel();
        Thread& me = *block.running;
        Thread* next = block.finished == block.thread_count ? &block.outside : block.pick();
        if (!next) block.deadlock();
        if (Ordering::KEEPS_STACKS) {
            block.switch_to(*next, true);
        } else if (next != &block.outside && !next->started) {
            next->started = true;
            next->fiber.stack = me.fiber.stack;
            me.fiber.stack = nullptr;
            thread = block.running = next;
        } else {
            block.free_stacks.push_back(me.fiber.stack);
            me.fiber.stack = nullptr;
            block.switch_to(*next, true);
        }
    }
}

void Block::run_kernel() {
    ordering.begin_thread();
    launch->kernel.run(launch->arguments);
    ordering.end_thread();
    Thread& me = *running;
    Warp& warp = *me.warp;
    warp.alive &= ~(1u << me.lane);
    finished++;
    if (barrier_arrivals && barrier_arrivals == thread_count - finished) release_barrier();
    if (warp.in_operation) complete_operation(warp, warp.masks[__builtin_ctz(warp.in_operation)]);
    me.started = false;
    if (me.copy_group || !me.copies.empty() || me.product_set) {
        me.copy_group = 0;
        me.copies.clear();
        me.products.clear();
        me.products_done = me.product_set = 0;
    }
}

void Block::start(Thread& thread) {
    if (!thread.fiber.stack) {
        if (free_stacks.empty()) free_stacks.push_back(allocate_stack());
        thread.fiber.stack = free_stacks.back();
        free_stacks.pop_back();
    }
    fiber_begin(thread.fiber, thread.number, fiber_main);
    thread.started = true;
}

void Block::switch_to(Thread& to, bool ends) {
    Thread& me = *running;
    if (&to != &outside && !to.started) start(to);
    thread = running = &to;
    fiber_switch(me.fiber, to.fiber, ends);
}

// The running thread cannot go on until another has made it ready again.
void Block::wait() {
    Thread* next = pick();
    if (!next) deadlock();
    if (next != running) switch_to(*next, false);
}

// Takes a thread that can run, of the same warp if there is one: warps advance together, as on hardware. Null if none can.
Thread* Block::pick() {
    unsigned w = running->warp->number, after = running->lane;
    if (order == Order::random) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        w = random % warp_count;
    }
    for (unsigned i = 0; i < warp_count; i++, after = WARP_SIZE - 1) {
        Warp& warp = warps[w];
        if (warp.ready) {
            const unsigned lane = pick_lane(warp.ready, after);
            warp.ready &= ~(1u << lane);
            return warp.threads[lane];
        }
        if (order == Order::reverse) {
            w = w ? w - 1 : warp_count - 1;
        } else {
            w = w + 1 < warp_count ? w + 1 : 0;
        }
    }
    return nullptr;
}

inline unsigned Block::pick_lane(unsigned ready, unsigned after) {
    switch (order) {
        case Order::forward: {
            const unsigned later = ready & ~((2u << after) - 1);
            return __builtin_ctz(later ? later : ready);
        }
        case Order::reverse:
            return WARP_SIZE - 1 - __builtin_clz(ready);
        default:
            for (unsigned skip = (random >> 32) % __builtin_popcount(ready); skip; skip--) ready &= ready - 1;
            return __builtin_ctz(ready);
    }
}

void Block::barrier(Where where) {
    Thread& me = *running;
    me.waiting = where;
    me.warp->at_barrier |= 1u << me.lane;
    const unsigned generation = barrier_generation;
    ordering.arrive_at_barrier(generation);
    barrier_arrivals++;
    if (barrier_arrivals == thread_count - finished) release_barrier();
    wait();
    ordering.leave_barrier(generation);
    me.waiting = {};
}

void Block::release_barrier() {
    for (unsigned w = 0; w < warp_count; w++) {
        warps[w].ready |= warps[w].at_barrier;
        warps[w].at_barrier = 0;
    }
    barrier_arrivals = 0;
    barrier_generation++;
}

void Block::operation(unsigned mask, WarpFunction function, void* argument, Where where) {
    Thread& me = *running;
    Warp& warp = *me.warp;
    const unsigned lane = me.lane, bit = 1u << lane;
    if (!(mask & bit)) fail("lane %u calls a warp operation at %s:%d whose mask %08x leaves it out", lane, where.file, where.line, mask);
    me.waiting = where;
    warp.masks[lane] = mask;
    warp.functions[lane] = function;
    warp.arguments[lane] = argument;
    warp.in_operation |= bit;
    if (!function) ordering.arrive_at_warp_barrier(warp.number, lane);  // shuffles and products order no memory
    complete_operation(warp, mask);
    wait();
    if (!function) ordering.leave_warp_barrier(warp.number, lane);
    me.waiting = {};
}

// Runs the operation if every lane of its mask has come.
void Block::complete_operation(Warp& warp, unsigned mask) {
    const unsigned needed = mask & warp.exists, exited = needed & ~warp.alive;
    if (((warp.in_operation | exited) & needed) != needed) return;
    unsigned arrived = 0;
    for (unsigned rest = warp.in_operation; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        if (warp.masks[lane] == mask) arrived |= 1u << lane;
    }
    if ((arrived | exited) != needed) return;
    const unsigned first = __builtin_ctz(arrived);
    const Where where = warp.threads[first]->waiting;
    if (exited) fail("the warp operation at %s:%d waits for lanes %08x, which have returned", where.file, where.line, exited);
    for (unsigned rest = arrived; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        const Where other = warp.threads[lane]->waiting;
        if (warp.functions[lane] != warp.functions[first]) {
            fail("lanes of one warp meet in different operations, at %s:%d and %s:%d", where.file, where.line, other.file, other.line);
        }
    }
    if (warp.functions[first]) {
        warp.functions[first](warp, arrived);
    } else {
        ordering.join_warp_barrier(warp.number, arrived);
    }
    warp.in_operation &= ~arrived;
    warp.ready |= arrived;
}

void Block::deadlock() {
    std::string message = "deadlock: ";
    Where said;
    for (unsigned i = 0; i < thread_count; i++) {
        const Thread& thread = threads[i];
        if (!(thread.warp->alive >> thread.lane & 1) || thread.waiting == Where{} || thread.waiting == said) continue;
        said = thread.waiting;
        message += "thread " + std::to_string(i) + " waits at " + said.file + ":" + std::to_string(said.line) + "; ";
        if (message.size() > 300) break;
    }
    message += std::to_string(barrier_arrivals) + " of " + std::to_string(thread_count - finished) + " threads are at __syncthreads";
    abandon(message.c_str());
}

void Block::abandon(const char* message) {
    const Thread& me = *running;
    char where[256];
    snprintf(where, sizeof where, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", launch->kernel.name, index.x, index.y, index.z,
             me.index.x, me.index.y, me.index.z);
    {
        std::lock_guard<std::mutex> guard(launch->message_lock);
        if (!launch->failed.exchange(true)) launch->message = std::string(where) + message;
    }
    switch_to(outside, true);
    __builtin_unreachable();
}

}  // namespace sim
