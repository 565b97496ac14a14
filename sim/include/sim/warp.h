// Shuffles and votes.
#pragma once
#include "runtime.h"

namespace sim {

template <typename T>
struct Shuffle {
    T value;
    unsigned source;
    T result;
};

void no_such_lane(unsigned source, unsigned mask);

template <typename T>
__attribute__((no_sanitize("thread"))) void shuffle_all(Warp& warp, unsigned mask) {
    T values[32];
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        values[lane] = static_cast<Shuffle<T>*>(warp_argument(warp, lane))->value;
    }
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        auto& shuffle = *static_cast<Shuffle<T>*>(warp_argument(warp, __builtin_ctz(rest)));
        if (!(mask >> shuffle.source & 1)) no_such_lane(shuffle.source, mask);
        shuffle.result = values[shuffle.source];
    }
}

template <typename T>
inline T shuffle(unsigned mask, T value, unsigned source, Where where) {
    Shuffle<T> argument{value, source, value};
    warp_operation(mask, shuffle_all<T>, &argument, where);
    return argument.result;
}

unsigned ballot(unsigned mask, bool predicate, Where where);

}  // namespace sim

// `width` divides the warp into groups (a power of two); a lane whose source would be in another group reads itself.
template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, sim::Where where = sim::here()) {
    const unsigned group = sim::thread->lane & ~(width - 1u);
    return sim::shuffle(mask, value, group + (source & (width - 1u)), where);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, sim::Where where = sim::here()) {
    const unsigned lane = sim::thread->lane;
    return sim::shuffle(mask, value, (lane & (width - 1u)) + delta < unsigned(width) ? lane + delta : lane, where);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, sim::Where where = sim::here()) {
    const unsigned lane = sim::thread->lane;
    return sim::shuffle(mask, value, (lane & (width - 1u)) >= delta ? lane - delta : lane, where);
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, sim::Where where = sim::here()) {
    const unsigned lane = sim::thread->lane, other = lane ^ lanes;
    // As on hardware, a later group is out of reach and an earlier one is not.
    return sim::shuffle(mask, value, (other & ~(width - 1u)) <= (lane & ~(width - 1u)) ? other : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, bool predicate, sim::Where where = sim::here()) {
    return sim::ballot(mask, predicate, where);
}
inline bool __any_sync(unsigned mask, bool predicate, sim::Where where = sim::here()) {
    return sim::ballot(mask, predicate, where) != 0;
}
inline bool __all_sync(unsigned mask, bool predicate, sim::Where where = sim::here()) {
    return sim::ballot(mask, !predicate, where) == 0;
}
