#include "wire/frame.hpp"

#include "core/error.hpp"
#include "hash/xxh3.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

static_assert(std::endian::native == std::endian::little,
              "frames are written as they lie in memory");

namespace thinwire {
namespace {

std::uint64_t checksum(const FrameHeader& header, const std::byte* payload) {
  const std::uint64_t payload_hash = xxh3_64(payload, header.payload_bytes);
  return xxh3_64(&header, offsetof(FrameHeader, checksum), payload_hash);
}

} // namespace

void corrupt_frame(const std::string& what) { throw CorruptFrame("corrupt frame: " + what); }

void seal_frame(FrameHeader header, std::byte* frame) {
  seal_header(header, frame + kHeaderBytes);
  std::memcpy(frame, &header, kHeaderBytes);
}

void seal_header(FrameHeader& header, const std::byte* payload) {
  header.checksum = checksum(header, payload);
}

FrameHeader read_header(std::span<const std::byte> buffer) {
  if (buffer.size() < kHeaderBytes)
    corrupt_frame("it has " + std::to_string(buffer.size()) + " bytes, a header alone takes " +
                  std::to_string(kHeaderBytes));
  FrameHeader header;
  std::memcpy(&header, buffer.data(), kHeaderBytes);
  if (header.magic != kFrameMagic)
    corrupt_frame("it does not start with the magic bytes TWIR");
  if (header.version != kFrameVersion)
    throw InvalidArgument("the frame has wire version " + std::to_string(header.version) +
                          ", this thinwire speaks version " + std::to_string(kFrameVersion) +
                          "; run the same thinwire release on every rank");
  if (header.header_bytes != kHeaderBytes)
    corrupt_frame("header_bytes is " + std::to_string(header.header_bytes) + ", not " +
                  std::to_string(kHeaderBytes));
  if (header.reserved0 != 0 || header.reserved1 != 0)
    corrupt_frame("a reserved field is not zero");
  if ((header.flags & ~kKnownFlags) != 0)
    corrupt_frame("unknown flags " + std::to_string(header.flags & ~kKnownFlags));
  return header;
}

void check_payload(const FrameHeader& header, const std::byte* payload) {
  if (checksum(header, payload) != header.checksum)
    corrupt_frame("the checksum does not match");
}

FrameHeader open_frame(std::span<const std::byte> buffer) {
  const FrameHeader header = read_header(buffer);
  if (header.payload_bytes > buffer.size() - kHeaderBytes)
    corrupt_frame("its payload of " + std::to_string(header.payload_bytes) + " bytes is cut off: " +
                  std::to_string(buffer.size() - kHeaderBytes) + " bytes follow the header");
  check_payload(header, buffer.data() + kHeaderBytes);
  return header;
}

std::size_t write_abort(FrameHeader header, std::uint32_t error_number, std::string_view message,
                        std::span<std::byte> buffer) {
  if (buffer.size() < kHeaderBytes)
    throw InvalidArgument("an aborted frame needs at least " + std::to_string(kHeaderBytes) +
                          " bytes");
  const std::size_t length = std::min(message.size(), buffer.size() - kHeaderBytes);
  std::memcpy(buffer.data() + kHeaderBytes, message.data(), length);
  header.flags = kFlagAborted;
  header.param = error_number;
  header.count = 0;
  header.payload_bytes = length;
  seal_frame(header, buffer.data());
  return kHeaderBytes + length;
}

} // namespace thinwire
