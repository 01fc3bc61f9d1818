#include "dispatch/kernel_table.hpp"

#include "core/cpu.hpp"

namespace thinwire {

namespace scalar {
const KernelTable& kernels();
}
namespace avx2 {
const KernelTable& kernels();
}
namespace avx512 {
const KernelTable& kernels();
}
namespace neon {
const KernelTable& kernels();
}

const KernelTable& active_kernels() {
  switch (active_target()) {
#if defined(__x86_64__)
  case Target::avx512:
    return avx512::kernels();
  case Target::avx2:
    return avx2::kernels();
#elif defined(__aarch64__)
  case Target::neon:
    return neon::kernels();
#endif
  default:
    return scalar::kernels();
  }
}

std::size_t codec_index(std::uint8_t wire_id) {
  std::size_t index = 0, position = 0;
  Codecs::for_each([&]<class C>() {
    if (C::kWireId == wire_id)
      index = position;
    ++position;
  });
  return index;
}

} // namespace thinwire
