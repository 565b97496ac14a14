// Launches kept in files, so that a program without Rust in it can run them again under the sanitizers.
#pragma once
#include "driver.h"
#include "sim/runtime.h"
#include <cstdint>
#include <string>
#include <vector>

namespace sim {

// One launch with all the memory that its arguments point to, as it was before.
struct Recording {
    struct Buffer {
        uint64_t address;
        std::vector<unsigned char> bytes;
    };
    std::string kernel;
    dim3 grid, block;
    unsigned dynamic_shared = 0;
    std::vector<std::vector<unsigned char>> arguments;
    std::vector<Buffer> buffers;
};

void save(const Recording& recording, const std::string& path);
Recording load(const std::string& path);

// With ROENTGEN_SIM_RECORD: keeps the launch, unless it is too large to be run again or like one that was kept.
void record(const Kernel& kernel, dim3 grid, dim3 block, unsigned dynamic_shared, void* const* arguments);

// Tells the recorder that these bytes are one buffer; without it, allocations are. The engine fills every block that it hands out of
// an allocation with 0xFF in tests, and cuMemsetD8 of that value calls this.
void mark_buffer(DevicePointer start, size_t bytes);

}  // namespace sim
