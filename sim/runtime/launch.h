// Runs the blocks of a launch, on several OS threads.
#pragma once
#include "block.h"

namespace sim {

const Kernel* find_kernel(const char* name);
std::vector<std::string> kernel_names();

// Runs the kernel to its end. False: it failed, and `message` says why.
bool launch_kernel(const Kernel& kernel, dim3 grid, dim3 block, unsigned dynamic_shared, void* const* arguments, std::string& message);

}  // namespace sim
