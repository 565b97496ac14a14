// Streams, events, and capture into graphs.
#include "driver.h"
#include <chrono>
#include <vector>

using namespace sim;

namespace {

using Work = std::function<Result()>;

struct Stream {
    bool capturing = false;
    std::vector<Work> captured;
};

struct Graph {
    std::vector<Work> work;
};

struct Event {
    double milliseconds = 0;
};

// The default streams, legacy and per thread, are the handles 0, 1 and 2.
bool is_default(void* stream) { return reinterpret_cast<size_t>(stream) <= 2; }
Stream& stream_of(void* stream) { return *static_cast<Stream*>(stream); }

double now() {
    const auto time = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace

Result sim::enqueue(void* stream, std::function<Result()> work) {
    if (is_default(stream) || !stream_of(stream).capturing) return work();
    stream_of(stream).captured.push_back(std::move(work));
    return SUCCESS;
}

CUDA_API cuStreamCreate(void** stream, unsigned) {
    *stream = new Stream;
    return SUCCESS;
}

CUDA_API cuStreamCreateWithPriority(void** stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

CUDA_API cuStreamDestroy_v2(void* stream) {
    delete &stream_of(stream);
    return SUCCESS;
}

CUDA_API cuStreamSynchronize(void* stream) {
    if (is_default(stream) || !stream_of(stream).capturing) return SUCCESS;
    return report(STREAM_CAPTURE_UNSUPPORTED, "cuStreamSynchronize: the stream is being captured");
}

CUDA_API cuStreamQuery(void*) { return SUCCESS; }
CUDA_API cuStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }
CUDA_API cuStreamAttachMemAsync(void*, DevicePointer, size_t, unsigned) { return SUCCESS; }

CUDA_API cuLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
    return enqueue(stream, [=] {
        function(data);
        return SUCCESS;
    });
}

CUDA_API cuStreamBeginCapture_v2(void* stream, int) {
    if (is_default(stream)) return report(STREAM_CAPTURE_UNSUPPORTED, "the default stream cannot be captured");
    if (stream_of(stream).capturing) return report(INVALID_VALUE, "cuStreamBeginCapture: the stream is being captured already");
    stream_of(stream).capturing = true;
    return SUCCESS;
}

CUDA_API cuStreamEndCapture(void* stream, void** graph) {
    if (is_default(stream) || !stream_of(stream).capturing) return report(INVALID_VALUE, "cuStreamEndCapture: the stream is not being captured");
    stream_of(stream).capturing = false;
    *graph = new Graph{std::move(stream_of(stream).captured)};
    stream_of(stream).captured.clear();
    return SUCCESS;
}

CUDA_API cuStreamIsCapturing(void* stream, int* status) {
    *status = !is_default(stream) && stream_of(stream).capturing;
    return SUCCESS;
}

CUDA_API cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    *executable = new Graph(*static_cast<Graph*>(graph));
    return SUCCESS;
}

CUDA_API cuGraphLaunch(void* executable, void* stream) {
    const Graph& graph = *static_cast<Graph*>(executable);
    for (const Work& work : graph.work) {
        if (Result bad = enqueue(stream, work)) return bad;
    }
    return SUCCESS;
}

CUDA_API cuGraphUpload(void*, void*) { return SUCCESS; }

CUDA_API cuGraphDestroy(void* graph) {
    delete static_cast<Graph*>(graph);
    return SUCCESS;
}

CUDA_API cuGraphExecDestroy(void* executable) { return cuGraphDestroy(executable); }

CUDA_API cuEventCreate(void** event, unsigned) {
    *event = new Event;
    return SUCCESS;
}

CUDA_API cuEventDestroy_v2(void* event) {
    delete static_cast<Event*>(event);
    return SUCCESS;
}

CUDA_API cuEventRecord(void* event, void* stream) {
    return enqueue(stream, [=] {
        static_cast<Event*>(event)->milliseconds = now();
        return SUCCESS;
    });
}

CUDA_API cuEventQuery(void*) { return SUCCESS; }
CUDA_API cuEventSynchronize(void*) { return SUCCESS; }

CUDA_API cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
    *milliseconds = static_cast<float>(static_cast<Event*>(end)->milliseconds - static_cast<Event*>(start)->milliseconds);
    return SUCCESS;
}

CUDA_API cuEventElapsedTime(float* milliseconds, void* start, void* end) { return cuEventElapsedTime_v2(milliseconds, start, end); }
