#include "ring/failure.hpp"

#include "core/error.hpp"

#include <new>

namespace thinwire {

void Failure::raise() const {
  switch (number) {
  case ErrorNumber::invalid_argument:
    throw InvalidArgument(reason);
  case ErrorNumber::corrupt_frame:
    throw CorruptFrame(reason);
  case ErrorNumber::transport:
    throw TransportError(reason);
  case ErrorNumber::timeout:
    throw Timeout(reason);
  case ErrorNumber::peer_lost:
    throw PeerLost(reason, culprit);
  case ErrorNumber::cuda:
    throw CudaError(reason);
  case ErrorNumber::replica_mismatch:
  case ErrorNumber::other:
    break;
  }
  throw Error(reason);
}

Failure copy_or_shorten(const Failure& failure) noexcept {
  try {
    return failure;
  } catch (const std::bad_alloc&) {
    return {failure.number, kOutOfMemory, failure.culprit};
  }
}

} // namespace thinwire
