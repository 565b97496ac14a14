// Modules, functions, launches.
#include "driver.h"
#include "launch.h"
#include "options.h"
#include "recording.h"
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

using namespace sim;

namespace {

std::atomic<unsigned long long> launches;

// The kernels are in this library; whatever image is loaded, they are what it holds.
void* const MODULE = reinterpret_cast<void*>(0x2000);

constexpr size_t MAX_PARAMETER_BYTES = 32764;
constexpr int MIN_CAPABILITY = 80;  // of the kernels in kernels/
constexpr int MIN_DRIVER = 13000;   // of what nvcc 13 produces

// The numbers of CUfunction_attribute.
enum FunctionAttribute { MAX_THREADS_PER_BLOCK = 0, MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };

struct Function {
    const Kernel* kernel;
    unsigned max_dynamic_shared = DEFAULT_DYNAMIC_SHARED;
};

Function& function_of(void* handle) { return *static_cast<Function*>(handle); }

// The driver copies arguments when a kernel is launched, not when it runs.
struct Arguments {
    std::vector<std::unique_ptr<unsigned char[]>> copies;
    std::vector<void*> pointers;

    Arguments(const Kernel& kernel, void* const* given) {
        for (size_t i = 0; i < kernel.count; i++) {
            copies.emplace_back(new unsigned char[kernel.sizes[i]]);  // aligned for any type
            memcpy(copies.back().get(), given[i], kernel.sizes[i]);
            pointers.push_back(copies.back().get());
        }
    }
};

std::string text(dim3 size) { return std::to_string(size.x) + "x" + std::to_string(size.y) + "x" + std::to_string(size.z); }

// What keeps the launch from starting on hardware, too; empty if nothing does.
std::string refusal(const Function& function, dim3 grid, dim3 block, unsigned dynamic_shared) {
    const Kernel& kernel = *function.kernel;
    const size_t threads = size_t(block.x) * block.y * block.z;
    size_t parameter_bytes = 0;
    for (size_t i = 0; i < kernel.count; i++) parameter_bytes += kernel.sizes[i];
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return "no grid can be " + text(grid);
    if (!threads || threads > MAX_THREADS || block.z > 64) return "no block can be " + text(block);
    if (kernel.max_threads && threads > kernel.max_threads) {
        return std::to_string(threads) + " threads exceed its __launch_bounds__(" + std::to_string(kernel.max_threads) + ")";
    }
    if (dynamic_shared > function.max_dynamic_shared) {
        return std::to_string(dynamic_shared) + " bytes of dynamic shared memory exceed " + std::to_string(function.max_dynamic_shared) +
               "; above 48 kB, set CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES first";
    }
    if (parameter_bytes > MAX_PARAMETER_BYTES) return std::to_string(parameter_bytes) + " bytes of parameters exceed 32764";
    return "";
}

}  // namespace

CUDA_API cuModuleLoadData(void** module, const void*) {
    *module = MODULE;
    if (options().driver_version < MIN_DRIVER) return report(NO_BINARY_FOR_GPU, "this driver is too old for the module");
    if (options().capability < MIN_CAPABILITY) return report(NO_BINARY_FOR_GPU, "the module has no code for this device");
    return SUCCESS;
}

CUDA_API cuModuleLoad(void** module, const char*) { return cuModuleLoadData(module, nullptr); }
CUDA_API cuModuleUnload(void*) { return SUCCESS; }

CUDA_API cuModuleGetFunction(void** function, void*, const char* name) {
    const Kernel* kernel = find_kernel(name);
    if (!kernel) return report(NOT_FOUND, std::string("there is no kernel named ") + name);
    *function = new Function{kernel};  // lives as long as its module, which is never unloaded
    return SUCCESS;
}

CUDA_API cuModuleGetGlobal_v2(DevicePointer*, size_t*, void*, const char*) { return NOT_FOUND; }

CUDA_API cuFuncSetAttribute(void* function, int attribute, int value) {
    if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES) return SUCCESS;
    if (value < 0 || size_t(value) > MAX_DYNAMIC_SHARED) {
        return report(INVALID_VALUE, std::to_string(value) + " bytes of dynamic shared memory: a block can have at most " +
                                         std::to_string(MAX_DYNAMIC_SHARED));
    }
    function_of(function).max_dynamic_shared = value;
    return SUCCESS;
}

CUDA_API cuFuncGetAttribute(int* value, int attribute, void* function) {
    const Function& f = function_of(function);
    switch (attribute) {
        case MAX_THREADS_PER_BLOCK: *value = f.kernel->max_threads ? f.kernel->max_threads : MAX_THREADS; break;
        case MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = f.max_dynamic_shared; break;
        default: *value = 0;
    }
    return SUCCESS;
}

CUDA_API cuFuncSetCacheConfig(void*, int) { return SUCCESS; }

CUDA_API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int threads, size_t) {
    *blocks = threads > 0 ? 2048 / threads : 0;
    return SUCCESS;
}

CUDA_API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned dynamic_shared,
                        void* stream, void** given, void**) {
    const Kernel& kernel = *function_of(function).kernel;
    const dim3 grid(gx, gy, gz), block(bx, by, bz);
    const std::string reason = refusal(function_of(function), grid, block, dynamic_shared);
    if (!reason.empty()) return report(INVALID_VALUE, "launch of " + std::string(kernel.name) + ": " + reason);
    auto arguments = std::make_shared<Arguments>(kernel, given);
    return enqueue(stream, [=, &kernel] {
        std::string message;
        launches++;
        record(kernel, grid, block, dynamic_shared, arguments->pointers.data());
        if (launch_kernel(kernel, grid, block, dynamic_shared, arguments->pointers.data(), message)) return SUCCESS;
        return report(LAUNCH_FAILED, message);
    });
}

// NVIDIA's management library, libnvidia-ml: a launch takes a millijoule.
#define NVML_API extern "C" __attribute__((visibility("default"))) int

NVML_API nvmlInit_v2() { return 0; }
NVML_API nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** device) {
    *device = nullptr;
    return bus_id == std::string(BUS_ID) ? 0 : 6;  // not found
}
NVML_API nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* millijoules) {
    *millijoules = launches;
    return 0;
}
