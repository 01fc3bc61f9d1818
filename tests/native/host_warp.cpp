#include "host_warp.hpp"

namespace thinwire::lane {
template void encode_payload(emulation::Launcher&, const Layout&, const FrameValues&, std::uint64_t,
                             std::uint64_t, std::byte*, std::byte*);
template void decode_payloads(emulation::Launcher&, const Layout&,
                              std::span<const std::byte* const>, void*, DType, bool, std::byte*);
} // namespace thinwire::lane
