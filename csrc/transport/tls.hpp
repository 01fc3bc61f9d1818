// TLS 1.3 over a non-blocking socket, by OpenSSL.
#pragma once

#include "transport/mesh.hpp"
#include "transport/stream.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace thinwire {

// What all TLS streams of a communicator share.
class TlsContext {
public:
  // What may be encrypted with one key: well below the limit of AES-GCM, 2^24.5 records of 16 KiB.
  static constexpr std::uint64_t kBytesPerKey = std::uint64_t{1} << 36;

  // Without files a pre-shared key derived from the secret proves both sides to each other; with
  // files each side must show a certificate that the authority signed. Throws InvalidArgument
  // (nothing to prove anything with, a file that cannot be used) or NotBuilt (no OpenSSL).
  TlsContext(const TlsOptions& options, const std::string& secret,
             std::uint64_t bytes_per_key = kBytesPerKey);

  struct State;
  const std::shared_ptr<const State>& state() const { return state_; }

private:
  std::shared_ptr<const State> state_;
};

// The socket stays the caller's. The handshake is made inside `read` and `write`: the side that
// connected must call one of them once although nothing has arrived. After a `write` that would
// block the next one must start with the same bytes, because they may be encrypted already.
std::unique_ptr<Stream> tls_stream(int fd, const TlsContext& context, bool server);

} // namespace thinwire
