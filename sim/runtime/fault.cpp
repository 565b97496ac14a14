#include "fault.h"
#include "block.h"
#include <csignal>

namespace sim {

#if defined(SIM_ASAN) || defined(SIM_TSAN)
void catch_faults() {}  // the sanitizers' own reports say more
#else
constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction before[3];

static void on_signal(int signal, siginfo_t* information, void*) {
    if (in_kernel()) {
        // Leaves the handler for good, by switching stacks; SA_NODEFER has kept the signal unblocked.
        if (signal == SIGFPE) fail("division by zero, or of the least integer by -1");
        fail("illegal memory access at %p", information->si_addr);
    }
    // Not ours: whoever handled it before gets it when the instruction runs again.
    for (unsigned i = 0; i < 3; i++) {
        if (SIGNALS[i] == signal) sigaction(signal, &before[i], nullptr);
    }
}

static bool install() {
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    for (unsigned i = 0; i < 3; i++) sigaction(SIGNALS[i], &action, &before[i]);
    return true;
}

void catch_faults() {
    static const bool installed = install();
    (void)installed;
}
#endif

}  // namespace sim
