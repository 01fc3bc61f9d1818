// What a tree operation does with every slice, worked out once and used in many steps.
#pragma once

#include "dispatch/frame_codec.hpp"
#include "ring/schedule.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace thinwire {

// Which way values travel.
enum class Travel : std::uint8_t {
  up_and_down, // all_reduce
  up,          // reduce_scatter: an empty frame comes down, so that no rank runs ahead
  down,        // all_gather, broadcast, all_to_all
};

enum class Combine : std::uint8_t { add, max };

// Where a slice has no place in the output, because it is for another rank.
inline constexpr std::size_t kNowhere = ~std::size_t{0};

struct PlannedSlice {
  std::uint32_t id;                // its number on all ranks
  std::size_t first_in, first_out; // values into the input and the output
  std::size_t count;               // values
  int owner;
  std::uint32_t round;
  Role role;
  Layout layout;
  // One a segment, or empty: its parameter, and its residual in each of two arrays (null: none).
  std::vector<std::uint32_t> parameters = {};
  std::array<std::vector<void*>, 2> residuals = {};
  std::uint64_t key_seed = 0; // of stochastic rounding
};

// The same on all ranks but for roles and addresses.
struct TreePlan {
  Travel travel = Travel::up_and_down;
  Combine combine = Combine::add;
  DType dtype = DType::fp32;          // of the values
  DType residual_dtype = DType::fp32; // fp32 or bf16
  bool verbatim = false;       // values are bytes that are moved as they are, without layouts
  bool check_weights = false;  // the ranks' weights must add up to 1
  bool flag_nonfinite = false; // exact results are searched for NaN and infinity, too
  std::uint32_t plan_id = 0;   // hash of what all ranks agree on
  std::vector<PlannedSlice> slices = {}; // in order of round
};

} // namespace thinwire
