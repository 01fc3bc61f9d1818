#include "ring/slice_values.hpp"

#include "hash/xxh3.hpp"

#include <algorithm>

namespace thinwire {
namespace {

std::byte* at(void* base, std::size_t bytes) { return static_cast<std::byte*>(base) + bytes; }

} // namespace

// Of one value in the caller's memory.
std::size_t SliceValues::value_bytes() const {
  return plan_->verbatim ? 1 : element_bytes(plan_->dtype);
}

const void* SliceValues::input(std::size_t i) const {
  return static_cast<const std::byte*>(values_.in) + slice(i).first_in * value_bytes();
}

std::byte* SliceValues::output(std::size_t i) const {
  return at(values_.out, slice(i).first_out * value_bytes());
}

bool SliceValues::has_residual(std::size_t i) const {
  return values_.residual != nullptr || !slice(i).residuals[0].empty();
}

bool SliceValues::travels_raw(std::size_t i) const {
  const Layout& layout = slice(i).layout;
  return plan_->dtype == DType::fp32 && !has_residual(i) && layout.segments().size() == 1 &&
         layout.segments()[0].codec.wire_id == Raw::kWireId &&
         layout.payload_bytes() == layout.count() * sizeof(float);
}

bool SliceValues::sums_in_output(std::size_t i) const {
  return slice(i).role.up < 0 && plan_->dtype == DType::fp32 &&
         (travels_raw(i) || slice(i).id != values_.sample);
}

Layout SliceValues::exact_layout(std::size_t i) const {
  return Layout({{slice(i).count, CodecSpec{}}}, plan_->plan_id);
}

FrameHeader SliceValues::as_planned(FrameHeader header) const {
  header.param = plan_->plan_id;
  return header;
}

std::uint64_t SliceValues::rounding_key(std::size_t i) const {
  const std::uint64_t seed_and_step[] = {slice(i).key_seed, values_.step};
  return xxh3_64(seed_and_step, sizeof seed_and_step);
}

void SliceValues::hold(std::uint32_t parameter) {
  std::size_t parameters = std::max(values_.held.size(), std::size_t{parameter} + 1);
  for (const PlannedSlice& slice : plan_->slices)
    for (std::uint32_t each : slice.parameters)
      parameters = std::max(parameters, std::size_t{each} + 1);
  values_.held.resize(parameters);
  values_.held[parameter] = 1;
}

// Everything but the values.
Encodable SliceValues::residuals(std::size_t i) const {
  Encodable found;
  if (values_.residual != nullptr) {
    void* mine = at(values_.residual, slice(i).first_in * element_bytes(plan_->residual_dtype));
    found.residual_in = found.residual_out = {mine};
  } else {
    found.residual_in = slice(i).residuals[static_cast<std::size_t>(values_.source)];
    found.residual_out = slice(i).residuals[static_cast<std::size_t>(values_.target)];
  }
  if (!values_.held.empty())
    for (std::uint32_t parameter : slice(i).parameters)
      found.held.push_back(values_.held[parameter]);
  return found;
}

Encodable SliceValues::own(std::size_t i) const {
  Encodable found = residuals(i);
  found.view = {.x = input(i),
                .dtype = plan_->dtype,
                .scale = static_cast<float>(values_.weight),
                .residual_in = found.residual_in,
                .residual_out = found.residual_out,
                .residual_dtype = plan_->residual_dtype,
                .held = found.held};
  return found;
}

// A held segment's residual is not in a sum yet: what encoding the sum loses comes on top of it.
Encodable SliceValues::sum(std::size_t i, const float* sum) const {
  Encodable found = residuals(i);
  if (found.held.empty())
    found.residual_in.clear();
  for (std::size_t s = 0; s < found.residual_in.size(); ++s)
    if (found.held[s] == 0)
      found.residual_in[s] = nullptr;
  found.view = {.x = sum,
                .dtype = DType::fp32,
                .residual_in = found.residual_in,
                .residual_out = found.residual_out,
                .residual_dtype = plan_->residual_dtype,
                .held = found.held};
  return found;
}

std::vector<SliceValues::Settled> SliceValues::settled(std::size_t i) const {
  const Encodable r = residuals(i);
  const std::vector<Segment>& segments = slice(i).layout.segments();
  std::vector<Settled> found;
  for (std::size_t s = 0; s < r.residual_out.size(); ++s) {
    const bool is_held = !r.held.empty() && r.held[s] != 0;
    void* to = r.residual_out[s];
    const void* from = is_held ? r.residual_in[s] : nullptr;
    if (to != nullptr && to != from)
      found.push_back({to, from, segments[s].count * element_bytes(plan_->residual_dtype)});
  }
  return found;
}

} // namespace thinwire
