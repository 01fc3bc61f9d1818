// Links between ranks that are threads of one process: where they find each other.
#pragma once

#include "transport/shm_link.hpp"

#include <compare>
#include <cstdint>
#include <map>
#include <memory>

namespace thinwire {

// Which pair of ranks. The token tells communicators with equal group numbers apart.
struct InprocKey {
  std::uint64_t group, token;
  int low, high;
  auto operator<=>(const InprocKey&) const = default;
};

// One side of a pair. Its end is the end of the pair. It is made as soon as the pair is known, and
// takes no memory for frames before one side wants the link.
class InprocSide {
public:
  InprocSide(const InprocKey& key, bool is_high, const Waker& waker);
  ~InprocSide();

  void want();            // throws PoolExhausted
  bool is_wanted() const; // by either side
  // The link, once both sides are there and one wants it; else null, and the waker tells when.
  // Throws TransportError.
  std::unique_ptr<ShmLink> take_link(int peer, FrameSink& sink);
  bool has_hung_up() const; // the other side ended after it had come

private:
  struct Pair;
  static std::map<InprocKey, std::shared_ptr<Pair>>& registry();

  InprocKey key_;
  std::size_t side_;
  std::shared_ptr<Pair> pair_;
  bool linked_ = false;
};

} // namespace thinwire
