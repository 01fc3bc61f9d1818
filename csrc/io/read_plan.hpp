// From the records that a caller asks for to the reads that fetch them.
#pragma once

#include "io/read.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace thinwire {

// Records, in any order: which file each is in, where, and its bytes.
struct Places {
  std::span<const std::uint32_t> files;
  std::span<const std::uint64_t> offsets, sizes;
};

struct Request {
  Places places;
  std::span<const std::uint64_t> targets; // addresses
  std::span<const std::uint64_t> sums;    // XXH3-64 of each record; none: unchecked
  std::span<std::int32_t> faults;         // written until the request has ended
};

// Bytes that will be asked for.
struct Hint {
  std::uint32_t file;
  std::uint64_t offset, bytes;
};

// Neighbours become one read. Throws InvalidArgument for a file beyond `files`, and for a record
// that ends where no file can.
std::unique_ptr<Batch> plan_reads(const Request& request, std::size_t files);

// In the order of the records; those that follow each other within a file become one hint.
std::vector<Hint> plan_hints(const Places& places, std::size_t files);

} // namespace thinwire
