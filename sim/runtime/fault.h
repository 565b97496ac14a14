#pragma once

namespace sim {

// From now on, a signal that a kernel raises (a wild address, a division by zero) is a failure of its launch, not of the process.
void catch_faults();

}  // namespace sim
