#include "host_warp.hpp"

namespace thinwire::lane {
template void encode_payloads(emulation::Launcher&, std::span<const Encoding>, std::byte*);
template void decode_payloads(emulation::Launcher&, std::span<const Decoding>, std::byte*);
template void decode_payloads(emulation::Launcher&, const Layout&,
                              std::span<const std::byte* const>, void*, DType, bool, std::byte*);
} // namespace thinwire::lane
