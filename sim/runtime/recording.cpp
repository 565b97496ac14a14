#include "recording.h"
#include "options.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <unistd.h>

namespace sim {

// A thread costs a microsecond or more under a sanitizer, and each buffer is copied for each launch.
constexpr size_t MOST_THREADS = 1 << 15, MOST_BYTES = 16 << 20;

namespace {

struct File {
    FILE* file;
    const std::string& path;

    File(const std::string& path, const char* mode) : file(fopen(path.c_str(), mode)), path(path) {
        if (!file) stop();
    }
    ~File() {
        if (fclose(file)) stop();
    }
    [[noreturn]] void stop() {
        perror(("simulator: " + path).c_str());
        exit(2);
    }
    void write(const void* data, size_t bytes) {
        if (fwrite(data, 1, bytes, file) != bytes) stop();
    }
    void write(uint64_t number) { write(&number, sizeof number); }
    void write_block(const void* data, size_t bytes) {
        write(bytes);
        write(data, bytes);
    }
    uint64_t read() {
        uint64_t number;
        if (fread(&number, 1, sizeof number, file) != sizeof number) stop();
        return number;
    }
    std::vector<unsigned char> read_block() {
        std::vector<unsigned char> data(read());
        if (fread(data.data(), 1, data.size(), file) != data.size()) stop();
        return data;
    }
};

std::mutex lock;
std::map<DevicePointer, size_t> marked;  // buffers by start
std::set<std::string> known;             // launches by what would be the same again

// The buffer that holds the address; no bytes if it is no device memory.
Allocation buffer_of(DevicePointer address) {
    auto after = marked.upper_bound(address);
    if (after != marked.begin()) {
        const auto& [start, bytes] = *std::prev(after);
        if (address - start < bytes && allocation_of(address)) return {start, bytes};
    }
    const Allocation* allocation = allocation_of(address);
    return allocation ? *allocation : Allocation{0, 0};
}

}  // namespace

void mark_buffer(DevicePointer start, size_t bytes) {
    if (options().record.empty()) return;
    std::lock_guard<std::mutex> guard(lock);
    auto first = marked.upper_bound(start);
    if (first != marked.begin() && start - std::prev(first)->first < std::prev(first)->second) first--;
    while (first != marked.end() && first->first < start + bytes) first = marked.erase(first);
    marked[start] = bytes;
}

void record(const Kernel& kernel, dim3 grid, dim3 block, unsigned dynamic_shared, void* const* arguments) {
    if (options().record.empty()) return;
    const size_t blocks = size_t(grid.x) * grid.y * grid.z, threads = size_t(block.x) * block.y * block.z;
    if (blocks * threads > MOST_THREADS) return;
    std::lock_guard<std::mutex> guard(lock);
    Recording recording{kernel.name, grid, block, dynamic_shared, {}, {}};
    std::string likeness = recording.kernel;
    auto add = [&](uint64_t number) { likeness += " " + std::to_string(number); };
    for (unsigned n : {grid.x, grid.y, grid.z, block.x, block.y, block.z, dynamic_shared}) add(n);
    std::map<DevicePointer, size_t> found;
    size_t total = 0;
    for (size_t i = 0; i < kernel.count; i++) {
        const auto* bytes = static_cast<unsigned char*>(arguments[i]);
        recording.arguments.emplace_back(bytes, bytes + kernel.sizes[i]);
        // Any aligned word may be a pointer, also inside a struct; addresses are not numbers that anything else has.
        for (size_t at = 0; at + 8 <= kernel.sizes[i]; at += 8) {
            uint64_t word;
            memcpy(&word, bytes + at, 8);
            const Allocation buffer = buffer_of(word);
            if (!buffer.bytes) {
                add(word);
                continue;
            }
            const auto [place, fresh] = found.insert({buffer.start, found.size()});
            add(place->second);
            add(word - buffer.start);
            if (!fresh) continue;
            add(buffer.bytes);
            total += buffer.bytes;
            const auto* memory = reinterpret_cast<unsigned char*>(buffer.start);
            if (total <= MOST_BYTES) recording.buffers.push_back({buffer.start, {memory, memory + buffer.bytes}});
        }
        for (size_t at = kernel.sizes[i] / 8 * 8; at < kernel.sizes[i]; at++) add(bytes[at]);
    }
    if (total > MOST_BYTES || !known.insert(likeness).second) return;
    const std::string name = std::to_string(getpid()) + "_" + std::to_string(known.size()) + "_" + kernel.name;
    save(recording, options().record + "/" + name);
}

void save(const Recording& recording, const std::string& path) {
    File file(path, "wb");
    file.write_block(recording.kernel.data(), recording.kernel.size());
    const dim3 &grid = recording.grid, &block = recording.block;
    for (unsigned n : {grid.x, grid.y, grid.z, block.x, block.y, block.z, recording.dynamic_shared}) file.write(n);
    file.write(recording.arguments.size());
    for (const auto& argument : recording.arguments) file.write_block(argument.data(), argument.size());
    file.write(recording.buffers.size());
    for (const auto& buffer : recording.buffers) {
        file.write(buffer.address);
        file.write_block(buffer.bytes.data(), buffer.bytes.size());
    }
}

Recording load(const std::string& path) {
    File file(path, "rb");
    Recording recording;
    const auto name = file.read_block();
    recording.kernel.assign(name.begin(), name.end());
    dim3 &grid = recording.grid, &block = recording.block;
    for (unsigned* n : {&grid.x, &grid.y, &grid.z, &block.x, &block.y, &block.z, &recording.dynamic_shared}) *n = file.read();
    recording.arguments.resize(file.read());
    for (auto& argument : recording.arguments) argument = file.read_block();
    recording.buffers.resize(file.read());
    for (auto& buffer : recording.buffers) {
        buffer.address = file.read();
        buffer.bytes = file.read_block();
    }
    return recording;
}

}  // namespace sim
