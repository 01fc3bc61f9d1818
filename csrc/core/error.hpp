// The native side of thinwire.errors: one class per Python exception.
#pragma once

#include <stdexcept>
#include <string>

namespace thinwire {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct InvalidArgument : Error {
  using Error::Error;
};

struct CorruptFrame : Error {
  using Error::Error;
};

struct CudaError : Error {
  using Error::Error;
};

struct NotBuilt : Error {
  using Error::Error;
};

struct TransportError : Error {
  using Error::Error;
};

struct PeerLost : TransportError {
  PeerLost(const std::string& what, int rank) : TransportError(what), rank(rank) {}
  int rank;
};

// The system gives this rank no more memory or descriptors.
struct OutOfResources : TransportError {
  using TransportError::TransportError;
};

struct PoolExhausted : Error {
  using Error::Error;
};

struct Timeout : Error {
  using Error::Error;
};

} // namespace thinwire
