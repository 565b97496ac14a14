// Linked last: aligned to a page and as long as one, it makes the section of the __shared__ variables begin and end on page
// boundaries, so that shared_memory.cpp can map it anew.
#ifdef SIM_TSAN
__attribute__((section("sim_shared"), used, aligned(4096))) static unsigned char last_page[4096] = {1};
#endif
