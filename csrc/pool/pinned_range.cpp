#include "pool/pinned_range.hpp"

#include "pool/cuda_driver.hpp"
#include "pool/shared_locks.hpp"

#include <utility>

namespace thinwire {

PinnedRange::PinnedRange(std::byte* memory, std::size_t bytes, bool is_read_only)
    : memory_(memory), bytes_(bytes) {
  if (bytes == 0)
    return;
  if (pool::CudaDriver* driver = pool::cuda_driver()) {
    reason_ = driver->pin(memory, bytes, is_read_only);
    if (reason_.empty()) {
      tier_ = Tier::registered;
      return;
    }
    reason_ = "CUDA did not register it: " + reason_;
  } else {
    const std::string fault = pool::cuda_fault();
    reason_ = fault.empty() ? "there is no GPU" : fault;
  }
  if (pool::lock_shared({memory, bytes}))
    tier_ = Tier::mlocked;
  else
    reason_ += "; RLIMIT_MEMLOCK does not allow to lock it: raise ulimit -l";
}

void PinnedRange::release() noexcept {
  const Tier before = std::exchange(tier_, Tier::plain);
  if (before == Tier::registered)
    pool::cuda_driver()->unpin(memory_);
  else if (before == Tier::mlocked)
    pool::unlock_shared({memory_, bytes_});
}

} // namespace thinwire
