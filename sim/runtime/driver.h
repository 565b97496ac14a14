// The driver API: the part of libcuda that cudarc calls. Streams run what they are given at once, or record it while capturing.
#pragma once
#include <cstddef>
#include <functional>
#include <string>

#define CUDA_API extern "C" __attribute__((visibility("default"))) ::sim::Result

namespace sim {

enum Result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
};

using DevicePointer = unsigned long long;

constexpr const char* BUS_ID = "0000:01:00.0";

// Says on stderr what went wrong, keeps it for cuGetErrorString of this OS thread, and returns `result`.
Result report(Result result, const std::string& message);

// Does the work now, or adds it to the graph that the stream is capturing.
Result enqueue(void* stream, std::function<Result()> work);

// Is [address, address + bytes) inside one live allocation? If not, reports it for `what`.
Result check_range(const char* what, DevicePointer address, size_t bytes);

// The allocation that holds the address; null if none does.
struct Allocation {
    DevicePointer start;
    size_t bytes;
};
const Allocation* allocation_of(DevicePointer address);

}  // namespace sim
