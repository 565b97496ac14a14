// cp.async. A copy is made as late as it may be: until the wait that guarantees it, its target holds NaN.
#include "block.h"
#include "sanitizers.h"
#include "sim/ptx.h"
#include <cstring>

namespace sim {

#ifdef SIM_TSAN
// ThreadSanitizer does not see into the runtime, except where that calls memmove and the like. It is told what the kernel accesses,
// and to look away from the rest.
struct Access {
    Access(void* dst, const void* src, size_t bytes) {
        __tsan_write_range(dst, bytes);
        if (src) __tsan_read_range(const_cast<void*>(src), bytes);
        __tsan_ignore_thread_begin();
    }
    ~Access() { __tsan_ignore_thread_end(); }
};
#else
struct Access {
    Access(void*, const void*, size_t) {}
};
#endif

void async_copy(void* dst, const void* src, unsigned bytes, bool valid, Where where) {
    if (reinterpret_cast<uintptr_t>(dst) % bytes) fail("cp.async at %s:%d: the target is not %u-byte aligned", where.file, where.line, bytes);
    if (reinterpret_cast<uintptr_t>(src) % bytes) fail("cp.async at %s:%d: the source is not %u-byte aligned", where.file, where.line, bytes);
    const Access access(dst, valid ? src : nullptr, bytes);
    if (valid) memcpy(dst, src, bytes);  // only for a bad address to be reported at this line
    memset(dst, 0xff, bytes);
    Thread& me = self();
    me.copies.push_back({dst, valid ? src : nullptr, bytes, me.copy_group});
}

void async_commit() { self().copy_group++; }

void async_wait(unsigned groups) {
    Thread& me = self();
    size_t done = 0;
    for (; done < me.copies.size() && me.copies[done].group + groups < me.copy_group; done++) {
        const auto& [dst, src, bytes, group] = me.copies[done];
        const Access access(dst, src, bytes);
        if (src) {
            memcpy(dst, src, bytes);
        } else {
            memset(dst, 0, bytes);
        }
    }
    const Access access(nullptr, nullptr, 0);
    me.copies.erase(me.copies.begin(), me.copies.begin() + done);
}

}  // namespace sim
