// What the runtime tells AddressSanitizer (SIM_ASAN) and ThreadSanitizer (SIM_TSAN).
#pragma once
#include <cstddef>

#ifdef SIM_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** save_fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_size);
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}
#include <pthread.h>
namespace sim {
inline void own_stack(const void*& bottom, size_t& size) {
    pthread_attr_t attributes;
    void* lowest;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &lowest, &size);
    pthread_attr_destroy(&attributes);
    bottom = lowest;
}
}  // namespace sim
#endif

#ifdef SIM_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* object);
void __tsan_release(void* object);
void __tsan_read_range(void* address, unsigned long size);
void __tsan_write_range(void* address, unsigned long size);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}
constexpr unsigned TSAN_NO_ORDER = 1;  // a switch is the simulator's doing, and orders nothing in the kernel
#endif
