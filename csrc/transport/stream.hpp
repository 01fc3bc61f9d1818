// A connected byte stream over a non-blocking socket: plain, or inside TLS.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <sys/uio.h>

namespace thinwire {

class Stream {
public:
  virtual ~Stream() = default;

  enum class State { moved, would_block, ended };
  struct Result {
    State state;
    std::size_t bytes = 0; // moved, more than 0
  };
  // Gathers and scatters like sendmsg and readv. `ended`: the peer closed its side in an orderly
  // way. Throws TransportError saying what failed.
  virtual Result write(std::span<const iovec> parts) = 0;
  virtual Result read(std::span<const iovec> parts) = 0;
  // TLS only: `read` would return bytes although the socket has none; a read waits for the socket
  // to become writable, a write for it to become readable.
  virtual bool has_buffered() const { return false; }
  virtual bool read_wants_write() const { return false; }
  virtual bool write_wants_read() const { return false; }
  // Says goodbye as far as that is possible without waiting.
  virtual void shut_down() = 0;
};

// The socket stays the caller's.
std::unique_ptr<Stream> plain_stream(int fd);

} // namespace thinwire
