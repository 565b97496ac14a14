// replay [--all] FOLDER [NAME]: runs the recorded launches (of kernels whose name contains NAME) again, in a program that a sanitizer
// watches. Each buffer is an allocation of its exact size. Exit status 0: all ran, and no sanitizer had anything to say; with --all,
// also none of the kernels is without a launch.
#include "launch.h"
#include "recording.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <set>

using namespace sim;

static std::vector<std::string> recordings(const std::string& folder) {
    std::vector<std::string> paths;
    DIR* directory = opendir(folder.c_str());
    if (!directory) {
        perror(folder.c_str());
        exit(2);
    }
    while (const dirent* entry = readdir(directory)) {
        if (entry->d_name[0] != '.') paths.push_back(folder + "/" + entry->d_name);
    }
    closedir(directory);
    std::sort(paths.begin(), paths.end());
    return paths;
}

// Memory with the recorded bytes, as far from a multiple of 256 as it was.
struct Copy {
    static constexpr size_t ALIGNMENT = 256;
    const Recording::Buffer& original;
    unsigned char* memory = nullptr;

    explicit Copy(const Recording::Buffer& original) : original(original) {
        const size_t offset = original.address % ALIGNMENT;
        void* allocation;
        if (posix_memalign(&allocation, ALIGNMENT, offset + original.bytes.size())) abort();
        memory = static_cast<unsigned char*>(allocation) + offset;
        memcpy(memory, original.bytes.data(), original.bytes.size());
    }
    Copy(Copy&& other) : original(other.original), memory(other.memory) { other.memory = nullptr; }
    ~Copy() {
        if (memory) free(memory - original.address % ALIGNMENT);
    }
};

// Replaces what were addresses when the launch was recorded by those of the copies.
static void relocate(std::vector<unsigned char>& argument, const std::vector<Copy>& copies) {
    for (size_t at = 0; at + 8 <= argument.size(); at += 8) {
        uint64_t word;
        memcpy(&word, &argument[at], 8);
        for (const Copy& copy : copies) {
            if (word - copy.original.address >= copy.original.bytes.size()) continue;
            word = reinterpret_cast<uint64_t>(copy.memory) + (word - copy.original.address);
            memcpy(&argument[at], &word, 8);
            break;
        }
    }
}

static bool run(const Kernel& kernel, Recording& recording) {
    std::vector<Copy> copies;
    for (const auto& buffer : recording.buffers) copies.emplace_back(buffer);
    std::vector<void*> arguments;
    for (auto& argument : recording.arguments) {
        relocate(argument, copies);
        arguments.push_back(argument.data());
    }
    std::string message;
    const bool ran = launch_kernel(kernel, recording.grid, recording.block, recording.dynamic_shared, arguments.data(), message);
    if (!ran) fprintf(stderr, "simulator: %s\n", message.c_str());
    return ran;
}

int main(int count, char** arguments) {
    std::vector<std::string> words(arguments + 1, arguments + count);
    const bool all = !words.empty() && words[0] == "--all";
    if (all) words.erase(words.begin());
    if (words.empty()) {
        fprintf(stderr, "usage: replay [--all] FOLDER [NAME]\n");
        return 2;
    }
    const std::string wanted = words.size() > 1 ? words[1] : "";
    std::set<std::string> kernels;
    size_t launches = 0;
    bool passed = true;
    for (const std::string& path : recordings(words[0])) {
        Recording recording = load(path);
        const Kernel* kernel = find_kernel(recording.kernel.c_str());
        if (!kernel || recording.kernel.find(wanted) == std::string::npos) continue;
        passed &= run(*kernel, recording);
        kernels.insert(recording.kernel);
        launches++;
    }
    printf("%zu launches of %zu kernels\n", launches, kernels.size());
    for (const std::string& name : kernel_names()) {
        if (name.find(wanted) == std::string::npos || kernels.count(name)) continue;
        printf("no launch of %s\n", name.c_str());
        passed &= !all;
    }
    return passed ? 0 : 1;
}
