#include "shared_memory.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <sys/mman.h>

namespace sim {

constexpr int NAN_BYTE = 0xff;
constexpr size_t DYNAMIC_ALIGNMENT = 1024;

#if defined(SIM_TSAN)

void* forgotten_pages(void* pages, size_t bytes) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (pages ? MAP_FIXED : 0);
    void* fresh = mmap(pages, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (fresh == MAP_FAILED) {
        perror("simulator: mmap");
        abort();
    }
    return fresh;
}

// The variables of all kernels; see gather.ld.
extern "C" unsigned char __start_sim_shared[], __stop_sim_shared[];

void SharedMemory::begin_block(size_t dynamic_bytes) {
    forgotten_pages(__start_sim_shared, __stop_sim_shared - __start_sim_shared);
    bytes = dynamic_bytes;
    memory = bytes ? static_cast<unsigned char*>(forgotten_pages(nullptr, bytes)) : nullptr;
}

void SharedMemory::end_block() {
    if (memory) munmap(memory, bytes);
}

#elif defined(SIM_ASAN)

// __shared__ variables are plain statics here; the dynamic part is a block of its exact size, so that overruns are seen.
void SharedMemory::begin_block(size_t dynamic_bytes) {
    bytes = dynamic_bytes;
    void* exact;
    if (posix_memalign(&exact, DYNAMIC_ALIGNMENT, bytes)) abort();
    memory = static_cast<unsigned char*>(exact);
    memset(memory, NAN_BYTE, bytes);
}

void SharedMemory::end_block() { free(memory); }

#else

// The __shared__ variables of an OS thread are the uninitialised part of this library's thread-local storage.
struct StaticPart {
    unsigned char* start;
    size_t bytes;
};

static int find_static_part(dl_phdr_info* library, size_t, void* result) {
    const auto here = reinterpret_cast<uintptr_t>(&find_static_part);
    const ElfW(Phdr)* storage = nullptr;
    bool ours = false;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr)& segment = library->dlpi_phdr[i];
        if (segment.p_type == PT_TLS) storage = &segment;
        if (segment.p_type == PT_LOAD && here - library->dlpi_addr - segment.p_vaddr < segment.p_memsz) ours = true;
    }
    if (!ours) return 0;
    if (storage) {
        *static_cast<StaticPart*>(result) = {static_cast<unsigned char*>(library->dlpi_tls_data) + storage->p_filesz,
                                             storage->p_memsz - storage->p_filesz};
    }
    return 1;
}

// Initialised, so that it is not in the part it tells of.
static __thread bool static_part_unknown = true;
static unsigned char nothing;
static __thread StaticPart static_part = {&nothing, 0};

void SharedMemory::begin_block(size_t dynamic_bytes) {
    if (static_part_unknown) {
        static_part_unknown = false;
        dl_iterate_phdr(find_static_part, &static_part);
    }
    memset(static_part.start, NAN_BYTE, static_part.bytes);
    if (bytes < dynamic_bytes) {
        free(memory);
        bytes = (dynamic_bytes + DYNAMIC_ALIGNMENT - 1) / DYNAMIC_ALIGNMENT * DYNAMIC_ALIGNMENT;
        memory = static_cast<unsigned char*>(aligned_alloc(DYNAMIC_ALIGNMENT, bytes));
    }
    if (dynamic_bytes) memset(memory, NAN_BYTE, dynamic_bytes);
}

void SharedMemory::end_block() {}

#endif

}  // namespace sim
