// What is known of the memory of a block, from the least to the most.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace thinwire {

enum class Tier : std::uint8_t {
  plain,      // pages as the kernel gives them
  huge,       // mostly huge pages
  mlocked,    // stays in memory; a CUDA driver knows nothing of it
  registered, // pinned by the CUDA driver
};

inline constexpr std::array kTierNames = {"plain", "huge", "mlocked", "registered"};
inline constexpr std::size_t kTiers = kTierNames.size();

inline const char* name_of(Tier tier) { return kTierNames[static_cast<std::size_t>(tier)]; }

} // namespace thinwire
