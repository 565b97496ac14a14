// cp.async. A copy is made as late as it may be: until the wait that guarantees it, its target holds NaN.
#include "block.h"
#include "sanitizers.h"
#include "sim/ptx.h"
#include <cstring>

namespace sim {

// This file's accesses are the kernel's; ThreadSanitizer, which does not see into the runtime, is told.
static void reads(const void* p, size_t bytes) {
#ifdef SIM_TSAN
    __tsan_read_range(const_cast<void*>(p), bytes);
#endif
    (void)p, (void)bytes;
}
static void writes(void* p, size_t bytes) {
#ifdef SIM_TSAN
    __tsan_write_range(p, bytes);
#endif
    (void)p, (void)bytes;
}

void async_copy(void* dst, const void* src, unsigned bytes, bool valid, Where where) {
    if (reinterpret_cast<uintptr_t>(dst) % bytes) fail("cp.async at %s:%d: the target is not %u-byte aligned", where.file, where.line, bytes);
    if (reinterpret_cast<uintptr_t>(src) % bytes) fail("cp.async at %s:%d: the source is not %u-byte aligned", where.file, where.line, bytes);
    writes(dst, bytes);
    if (valid) {
        // Read where the kernel asks for it, so that a bad address is reported at this line.
        reads(src, bytes);
        memcpy(dst, src, bytes);
    }
    memset(dst, 0xff, bytes);
    Thread& me = self();
    me.copies.push_back({dst, src, bytes, me.copy_group, valid});
}

void async_commit() { self().copy_group++; }

void async_wait(unsigned groups) {
    Thread& me = self();
    size_t done = 0;
    for (; done < me.copies.size() && me.copies[done].group + groups < me.copy_group; done++) {
        const AsyncCopy& copy = me.copies[done];
        writes(copy.dst, copy.bytes);
        if (copy.valid) {
            reads(copy.src, copy.bytes);
            memcpy(copy.dst, copy.src, copy.bytes);
        } else {
            memset(copy.dst, 0, copy.bytes);
        }
    }
    me.copies.erase(me.copies.begin(), me.copies.begin() + done);
}

}  // namespace sim
