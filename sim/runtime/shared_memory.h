// Shared memory of one block at a time: the __shared__ variables of the kernels, and the dynamic part.
#pragma once
#include <cstddef>

namespace sim {

// A block's: without being asked, and the most, as the chips of capability 8.6, 8.9 and 12.0 have it. Others have more.
constexpr size_t DEFAULT_DYNAMIC_SHARED = 48 << 10, MAX_DYNAMIC_SHARED = 99 << 10;

class SharedMemory {
   public:
    // Makes both parts undefined again: filled with NaN or, for ThreadSanitizer, with all earlier accesses forgotten.
    void begin_block(size_t dynamic_bytes);
    void end_block();
    unsigned char* dynamic() const { return memory; }

   private:
    unsigned char* memory = nullptr;
    size_t bytes = 0;
};

#ifdef SIM_TSAN
// Zeroed pages in place of `pages` (null: anywhere): ThreadSanitizer forgets what it knows of memory that is mapped anew.
void* forgotten_pages(void* pages, size_t bytes);
#endif

}  // namespace sim
