// Records of one size, asked for by their numbers over all files.
#pragma once

#include "io/read_plan.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thinwire {

struct FixedRecords {
  std::span<const std::int64_t> ends;  // of each file: the number after its last record
  std::span<const std::int64_t> bases; // of each file: the byte where record 0 would begin
  std::uint64_t bytes;                 // of a record
};

// Memory for some records, which follow each other there.
struct Slot {
  std::uint64_t address;
  std::size_t records;
};

// The arrays of a request.
class FixedRequest {
public:
  // Throws InvalidArgument where the slots do not hold as many records as are asked for. Of a
  // number that no file has, planning the reads says so.
  FixedRequest(const FixedRecords& records, std::span<const std::int64_t> numbers,
               std::span<const Slot> slots);

  Request request(std::span<std::int32_t> faults) const {
    return {
        .places = {files_, offsets_, sizes_}, .targets = targets_, .sums = {}, .faults = faults};
  }

private:
  std::vector<std::uint32_t> files_;
  std::vector<std::uint64_t> offsets_, sizes_, targets_;
};

} // namespace thinwire
