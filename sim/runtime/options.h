// Settings from the environment, read once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace sim {

enum class Order { forward, reverse, random };

struct Options {
    Order order = Order::forward;    // ROENTGEN_SIM_ORDER: of threads and blocks; a number is a seed
    uint64_t seed = 0;
    size_t memory = size_t(8) << 30;  // ROENTGEN_SIM_MEMORY: bytes of the device
    int driver_version = 13000;       // ROENTGEN_SIM_DRIVER: as cuDriverGetVersion tells it
    int capability = 90;              // ROENTGEN_SIM_CAPABILITY: ten times the compute capability
    bool no_device = false;           // ROENTGEN_SIM_NO_DEVICE=1
    unsigned workers = 0;             // ROENTGEN_SIM_THREADS: OS threads; 0: as many as there are processors
    std::string record;               // ROENTGEN_SIM_RECORD: folder for the launches of this process
};

const Options& options();

}  // namespace sim
