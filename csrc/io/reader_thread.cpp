#include "io/reader_thread.hpp"

#include <csignal>
#include <initializer_list>
#include <pthread.h>

namespace thinwire {

void begin_reader_thread() {
  ::pthread_setname_np(::pthread_self(), "thinwire-read");
  sigset_t all;
  ::sigfillset(&all);
  for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) // of the thread's own making
    ::sigdelset(&all, fault);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

} // namespace thinwire
