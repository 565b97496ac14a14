#include "options.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sim {

static uint64_t number(const char* name, uint64_t otherwise) {
    const char* text = getenv(name);
    if (!text) return otherwise;
    char* end;
    const uint64_t value = strtoull(text, &end, 10);
    if (end == text || *end) {
        fprintf(stderr, "simulator: %s=%s is not a number\n", name, text);
        abort();
    }
    return value;
}

static Options read() {
    Options options;
    if (const char* order = getenv("ROENTGEN_SIM_ORDER")) {
        if (!strcmp(order, "reverse")) {
            options.order = Order::reverse;
        } else if (strcmp(order, "forward")) {
            options.order = Order::random;
            options.seed = number("ROENTGEN_SIM_ORDER", 0);
        }
    }
    options.memory = number("ROENTGEN_SIM_MEMORY", options.memory);
    options.driver_version = static_cast<int>(number("ROENTGEN_SIM_DRIVER", options.driver_version));
    options.capability = static_cast<int>(number("ROENTGEN_SIM_CAPABILITY", options.capability));
    options.no_device = number("ROENTGEN_SIM_NO_DEVICE", 0) != 0;
    options.workers = static_cast<unsigned>(number("ROENTGEN_SIM_THREADS", 0));
    if (const char* folder = getenv("ROENTGEN_SIM_RECORD")) options.record = folder;
    return options;
}

const Options& options() {
    static const Options options = read();
    return options;
}

}  // namespace sim
