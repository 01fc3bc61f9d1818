// A socket as OpenSSL reads and writes it. OpenSSL's own way is write(), which raises SIGPIPE where
// the peer has gone.
#pragma once

#include "transport/openssl.hpp"

namespace thinwire::openssl {

struct Socket {
  int fd;
  bool ended = false; // the peer closed its side
  int error = 0;      // errno of the call that failed for good
};

// Uses `socket` as long as it lives.
Bio* make_bio(Socket& socket);

} // namespace thinwire::openssl
