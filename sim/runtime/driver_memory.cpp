// Device memory is host memory, each allocation of its exact size and filled with NaN.
#include "driver.h"
#include "options.h"
#include "recording.h"
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

using namespace sim;

namespace {

std::mutex lock;
std::map<DevicePointer, Allocation> live;  // by start
size_t used = 0;

constexpr size_t ALIGNMENT = 256;
constexpr unsigned char NAN_BYTE = 0xff;

std::string in_hex(DevicePointer address) {
    char text[32];
    snprintf(text, sizeof text, "0x%llx", address);
    return text;
}

Result allocate(DevicePointer* address, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    std::lock_guard<std::mutex> guard(lock);
    void* memory = nullptr;
    if (bytes > options().memory - used || posix_memalign(&memory, ALIGNMENT, bytes)) return OUT_OF_MEMORY;
    memset(memory, NAN_BYTE, bytes);
    *address = reinterpret_cast<DevicePointer>(memory);
    live[*address] = {*address, bytes};
    used += bytes;
    return SUCCESS;
}

Result release(DevicePointer address) {
    std::lock_guard<std::mutex> guard(lock);
    const auto found = live.find(address);
    if (found == live.end()) return report(INVALID_VALUE, "free of " + in_hex(address) + ", which is not the start of a live allocation");
    used -= found->second.bytes;
    live.erase(found);
    free(reinterpret_cast<void*>(address));
    return SUCCESS;
}

Result copy(DevicePointer dst, const void* src, size_t bytes, void* stream) {
    return enqueue(stream, [=] {
        if (Result bad = check_range("copy to the device", dst, bytes)) return bad;
        memcpy(reinterpret_cast<void*>(dst), src, bytes);
        return SUCCESS;
    });
}

Result copy(void* dst, DevicePointer src, size_t bytes, void* stream) {
    return enqueue(stream, [=] {
        if (Result bad = check_range("copy from the device", src, bytes)) return bad;
        memcpy(dst, reinterpret_cast<void*>(src), bytes);
        return SUCCESS;
    });
}

Result copy(DevicePointer dst, DevicePointer src, size_t bytes, void* stream) {
    return enqueue(stream, [=] {
        if (Result bad = check_range("copy within the device", src, bytes)) return bad;
        if (Result bad = check_range("copy within the device", dst, bytes)) return bad;
        memmove(reinterpret_cast<void*>(dst), reinterpret_cast<void*>(src), bytes);
        return SUCCESS;
    });
}

Result fill(DevicePointer dst, unsigned char value, size_t bytes, void* stream) {
    return enqueue(stream, [=] {
        if (Result bad = check_range("memset", dst, bytes)) return bad;
        if (value == NAN_BYTE) mark_buffer(dst, bytes);
        memset(reinterpret_cast<void*>(dst), value, bytes);
        return SUCCESS;
    });
}

}  // namespace

const Allocation* sim::allocation_of(DevicePointer address) {
    std::lock_guard<std::mutex> guard(lock);
    auto after = live.upper_bound(address);
    if (after == live.begin()) return nullptr;
    const Allocation& allocation = std::prev(after)->second;
    return address - allocation.start < allocation.bytes ? &allocation : nullptr;
}

Result sim::check_range(const char* what, DevicePointer address, size_t bytes) {
    if (bytes == 0) return SUCCESS;
    const Allocation* allocation = allocation_of(address);
    if (allocation && bytes <= allocation->bytes - (address - allocation->start)) return SUCCESS;
    return report(INVALID_VALUE, std::string(what) + ": " + std::to_string(bytes) + " bytes at " + in_hex(address) +
                                     (allocation ? " reach past their allocation" : " are in no live allocation"));
}

CUDA_API cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard<std::mutex> guard(lock);
    *total = options().memory;
    *free = *total - used;
    return SUCCESS;
}

CUDA_API cuMemAlloc_v2(DevicePointer* address, size_t bytes) { return allocate(address, bytes); }
CUDA_API cuMemAllocAsync(DevicePointer* address, size_t bytes, void*) { return allocate(address, bytes); }
CUDA_API cuMemAllocFromPoolAsync(DevicePointer* address, size_t bytes, void*, void*) { return allocate(address, bytes); }
CUDA_API cuMemFree_v2(DevicePointer address) { return release(address); }
CUDA_API cuMemFreeAsync(DevicePointer address, void* stream) {
    return enqueue(stream, [=] { return release(address); });
}

CUDA_API cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    return posix_memalign(memory, ALIGNMENT, bytes ? bytes : 1) ? OUT_OF_MEMORY : SUCCESS;
}
CUDA_API cuMemFreeHost(void* memory) {
    free(memory);
    return SUCCESS;
}

CUDA_API cuMemcpyHtoDAsync_v2(DevicePointer dst, const void* src, size_t bytes, void* stream) { return copy(dst, src, bytes, stream); }
CUDA_API cuMemcpyDtoHAsync_v2(void* dst, DevicePointer src, size_t bytes, void* stream) { return copy(dst, src, bytes, stream); }
CUDA_API cuMemcpyDtoDAsync_v2(DevicePointer dst, DevicePointer src, size_t bytes, void* stream) { return copy(dst, src, bytes, stream); }
CUDA_API cuMemcpyHtoD_v2(DevicePointer dst, const void* src, size_t bytes) { return copy(dst, src, bytes, nullptr); }
CUDA_API cuMemcpyDtoH_v2(void* dst, DevicePointer src, size_t bytes) { return copy(dst, src, bytes, nullptr); }
CUDA_API cuMemcpyDtoD_v2(DevicePointer dst, DevicePointer src, size_t bytes) { return copy(dst, src, bytes, nullptr); }
CUDA_API cuMemsetD8Async(DevicePointer dst, unsigned char value, size_t bytes, void* stream) { return fill(dst, value, bytes, stream); }
CUDA_API cuMemsetD8_v2(DevicePointer dst, unsigned char value, size_t bytes) { return fill(dst, value, bytes, nullptr); }
