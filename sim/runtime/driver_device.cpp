// Device, context, errors.
#include "driver.h"
#include "options.h"
#include "shared_memory.h"
#include <cstdio>
#include <cstring>
#include <string>

using namespace sim;

namespace {

struct ErrorText {
    Result code;
    const char *name, *text;
};

constexpr ErrorText ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

const ErrorText* find_error(Result code) {
    for (const ErrorText& error : ERRORS) {
        if (error.code == code) return &error;
    }
    return nullptr;
}

// Never freed and not in .tbss, which shared_memory.cpp fills with NaN.
struct LastError {
    Result code;
    char text[1024];
};
LastError no_error = {SUCCESS, ""};
__thread LastError* last_error = &no_error;

void* const PRIMARY_CONTEXT = reinterpret_cast<void*>(0x1000);
void* const MEMORY_POOL = reinterpret_cast<void*>(0x3000);
__thread void* current_context = PRIMARY_CONTEXT;

}  // namespace

Result sim::report(Result result, const std::string& message) {
    fprintf(stderr, "simulator: %s\n", message.c_str());
    if (last_error == &no_error) last_error = new LastError;
    last_error->code = result;
    snprintf(last_error->text, sizeof last_error->text, "%s", message.c_str());
    return result;
}

CUDA_API cuGetErrorName(Result code, const char** text) {
    const ErrorText* error = find_error(code);
    *text = error ? error->name : nullptr;
    return error ? SUCCESS : INVALID_VALUE;
}

CUDA_API cuGetErrorString(Result code, const char** text) {
    const ErrorText* error = find_error(code);
    *text = code != SUCCESS && last_error->code == code ? last_error->text : error ? error->text : nullptr;
    return error ? SUCCESS : INVALID_VALUE;
}

CUDA_API cuInit(unsigned) { return options().no_device ? NO_DEVICE : SUCCESS; }

CUDA_API cuDriverGetVersion(int* version) {
    *version = options().driver_version;
    return SUCCESS;
}

CUDA_API cuDeviceGetCount(int* count) {
    *count = options().no_device ? 0 : 1;
    return SUCCESS;
}

CUDA_API cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 && !options().no_device ? SUCCESS : INVALID_DEVICE;
}

CUDA_API cuDeviceGetName(char* name, int bytes, int) {
    snprintf(name, bytes, "roentgen simulator");
    return SUCCESS;
}

CUDA_API cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = options().memory;
    return SUCCESS;
}

CUDA_API cuDeviceGetUuid_v2(unsigned char* uuid, int) {
    memset(uuid, 0, 16);
    return SUCCESS;
}

CUDA_API cuDeviceGetPCIBusId(char* bus_id, int bytes, int) {
    snprintf(bus_id, bytes, "%s", BUS_ID);
    return SUCCESS;
}

CUDA_API cuDeviceGetUuid(unsigned char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

// The numbers of CUdevice_attribute.
CUDA_API cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 1: *value = 1024; break;                                  // threads per block
        case 2: case 3: *value = 1024; break;                          // block x, y
        case 4: *value = 64; break;                                    // block z
        case 5: *value = 0x7fffffff; break;                            // grid x
        case 6: case 7: *value = 65535; break;                         // grid y, z
        case 8: *value = DEFAULT_DYNAMIC_SHARED; break;                // shared memory per block
        case 10: *value = 32; break;                                   // warp size
        case 12: *value = 65536; break;                                // registers per block
        case 13: case 36: *value = 1000000; break;                     // clocks, kHz
        case 16: *value = 4; break;                                    // multiprocessors: few, so that grids sized by them are small
        case 37: *value = 4096; break;                                 // memory bus, bits
        case 38: *value = 32 << 20; break;                             // L2, bytes
        case 39: *value = 2048; break;                                 // threads per multiprocessor
        case 75: *value = options().capability / 10; break;            // compute capability
        case 76: *value = options().capability % 10; break;
        case 81: *value = MAX_DYNAMIC_SHARED + 1024; break;            // shared memory per multiprocessor
        case 97: *value = MAX_DYNAMIC_SHARED; break;                   // shared memory per block, opted in
        case 115: *value = 1; break;                                   // memory pools
        default: *value = 0;
    }
    return SUCCESS;
}

CUDA_API cuDevicePrimaryCtxRetain(void** context, int) {
    *context = PRIMARY_CONTEXT;
    return SUCCESS;
}

CUDA_API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

CUDA_API cuCtxSetCurrent(void* context) {
    current_context = context;
    return SUCCESS;
}

CUDA_API cuCtxGetCurrent(void** context) {
    *context = current_context;
    return SUCCESS;
}

CUDA_API cuCtxGetDevice(int* device) {
    *device = 0;
    return SUCCESS;
}

CUDA_API cuCtxSynchronize() { return SUCCESS; }
CUDA_API cuCtxSetFlags(unsigned) { return SUCCESS; }
CUDA_API cuCtxSetLimit(int, size_t) { return SUCCESS; }
CUDA_API cuCtxSetCacheConfig(int) { return SUCCESS; }

CUDA_API cuCtxGetLimit(size_t* value, int) {
    *value = 0;
    return SUCCESS;
}

CUDA_API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    *least = *greatest = 0;
    return SUCCESS;
}

CUDA_API cuDeviceGetDefaultMemPool(void** pool, int) {
    *pool = MEMORY_POOL;
    return SUCCESS;
}

CUDA_API cuDeviceGetMemPool(void** pool, int) {
    *pool = MEMORY_POOL;
    return SUCCESS;
}

CUDA_API cuDeviceSetMemPool(int, void*) { return SUCCESS; }
CUDA_API cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
CUDA_API cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }

CUDA_API cuMemPoolGetAttribute(void*, int, void* value) {
    memset(value, 0, 8);
    return SUCCESS;
}

CUDA_API cuProfilerStart() { return SUCCESS; }
CUDA_API cuProfilerStop() { return SUCCESS; }
