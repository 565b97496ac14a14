#include "launch.h"
#include "fault.h"
#include "ordering.h"
#include <condition_variable>
#include <map>
#include <numeric>
#include <thread>

namespace sim {

static std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> kernels;
    return kernels;
}

Registration::Registration(const Kernel& kernel) { kernels().insert({kernel.name, kernel}); }

const Kernel* find_kernel(const char* name) {
    const auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

std::vector<std::string> kernel_names() {
    std::vector<std::string> names;
    for (const auto& kernel : kernels()) names.push_back(kernel.first);
    return names;
}

// Block objects are big, and outlive the OS threads that use them.
static std::mutex idle_lock;
static std::vector<Block*> idle;

static Block* take_block() {
    std::lock_guard<std::mutex> guard(idle_lock);
    if (idle.empty()) return new Block;
    Block* block = idle.back();
    idle.pop_back();
    return block;
}

static void give_back(Block* block) {
    std::lock_guard<std::mutex> guard(idle_lock);
    idle.push_back(block);
}

// The i-th block to run; random order strides through the grid by a number that has no factor in common with its size.
static size_t nth_block(size_t i, size_t count) {
    if (options().order == Order::forward) return i;
    if (options().order == Order::reverse) return count - 1 - i;
    size_t stride = options().seed * 7919 % count + count / 3 + 1;
    while (std::gcd(stride, count) != 1) stride++;
    return (i % count * (stride % count) + options().seed) % count;
}

static void run_blocks(Launch& launch) {
    const size_t count = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    Block* block = take_block();
    for (;;) {
        const size_t i = launch.next_block++;
        if (i >= count || launch.failed) break;
        block->run(launch, nth_block(i, count));
    }
    give_back(block);
}

// OS threads that help the one that launches. One launch at a time has their help; others, of other streams, go on alone.
class Helpers {
   public:
    void run(Launch& launch) {
        std::unique_lock<std::mutex> turn(one_launch, std::try_to_lock);
        if (!turn) {
            run_blocks(launch);
            return;
        }
        start();
        {
            std::lock_guard<std::mutex> guard(lock);
            work = &launch;
            offer++;
        }
        wake.notify_all();
        run_blocks(launch);
        std::unique_lock<std::mutex> guard(lock);
        work = nullptr;
        done.wait(guard, [&] { return active == 0; });
    }

   private:
    void start() {
        if (started) return;
        started = true;
        const unsigned wanted = options().workers ? options().workers : std::thread::hardware_concurrency();
        for (unsigned i = 1; i < wanted; i++) std::thread([this] { help(); }).detach();
    }

    void help() {
        unsigned seen = 0;
        std::unique_lock<std::mutex> guard(lock);
        for (;;) {
            wake.wait(guard, [&] { return work && offer != seen; });
            seen = offer;
            Launch& launch = *work;
            active++;
            guard.unlock();
            run_blocks(launch);
            guard.lock();
            if (--active == 0) done.notify_all();
        }
    }

    std::mutex one_launch, lock;
    std::condition_variable wake, done;
    Launch* work = nullptr;
    unsigned offer = 0, active = 0;
    bool started = false;
};

bool launch_kernel(const Kernel& kernel, dim3 grid, dim3 block, unsigned dynamic_shared, void* const* arguments, std::string& message) {
    catch_faults();
    Launch launch(kernel, grid, block, dynamic_shared, arguments);
#if defined(SIM_ASAN) || defined(SIM_TSAN)
    run_blocks(launch);  // __shared__ variables exist once in these builds
#else
    static Helpers& helpers = *new Helpers;  // never destroyed: its threads run until the process ends
    if (size_t(grid.x) * grid.y * grid.z > 1) {
        helpers.run(launch);
    } else {
        run_blocks(launch);
    }
#endif
    ordering.end_launch();
    message = launch.message;
    return !launch.failed;
}

}  // namespace sim
