#include "core/guarded_copy.hpp"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <pthread.h>
#include <ucontext.h>

namespace thinwire {
namespace {

// What this thread copies from now, and where to go if it is not there.
struct Guard {
  const std::byte* volatile begin;
  const std::byte* volatile end;
  sigjmp_buf back;
};
thread_local constinit Guard guard{};

struct sigaction previous; // the handler before

void pass_on(int signal, siginfo_t* info, void* context) {
  const bool was_sent = info->si_code <= 0; // by a process, not by an access to memory
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else if (!was_sent || previous.sa_handler == SIG_DFL) {
    ::signal(signal, SIG_DFL); // the end that the process would have come to
    ::raise(signal);
  }
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  if (address >= guard.begin && address < guard.end) {
    // As the end of a handler would: sigsetjmp() could keep the mask too, at a call of the
    // kernel's.
    ::pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
    siglongjmp(guard.back, 1);
  }
  pass_on(signal, info, context);
}

bool install() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  return ::sigaction(SIGBUS, &action, &previous) == 0;
}

void guard_range(const std::byte* begin, const std::byte* end) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  guard.begin = begin;
  guard.end = end;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

} // namespace

bool copies_are_guarded() {
  static const bool installed = install();
  struct sigaction now;
  return installed && ::sigaction(SIGBUS, nullptr, &now) == 0 && now.sa_sigaction == on_bus_error;
}

bool copy_guarded(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (sigsetjmp(guard.back, 0) != 0) {
    guard_range(nullptr, nullptr);
    return false;
  }
  guard_range(from, from + bytes);
  std::memcpy(to, from, bytes);
  guard_range(nullptr, nullptr);
  return true;
}

} // namespace thinwire
