// A ring of shared memory that the peer has spoilt: told, and nothing outside it is read.
#include "check.hpp"
#include "core/error.hpp"
#include "data.hpp"

#include "transport/shm_link.hpp"

#include <functional>

namespace {

using namespace thinwire;

struct Counter final : FrameSink {
  std::byte* place(int, const FrameHeader&) override { return nullptr; }
  void receive(Received) override { ++frames; }
  void lost(int, const std::string&) override {}
  int frames = 0;
};

// Two frames go in, the header of the second is changed, and they are taken out.
void refused(const std::function<void(FrameHeader&)>& spoil) {
  const auto segment = SharedSegment::in_pool();
  Counter nobody, counter;
  ShmLink from(1, nobody, segment, true, {}, "inproc"),
      to(0, counter, segment, false, {}, "inproc");
  data::Memory payload(1000);
  Outgoing frame;
  frame.header.payload_bytes = payload.size();
  frame.payload = payload.span().data();
  from.send(frame);
  frame.header.slice = 1;
  from.send(frame);

  auto* at = reinterpret_cast<std::byte*>(&segment->ring(0));
  while (std::memcmp(at, &frame.header, kHeaderBytes) != 0)
    at += alignof(FrameHeader);
  spoil(frame.header);
  std::memcpy(at, &frame.header, kHeaderBytes);
  CHECK_THROWS(TransportError, "overwritten", to.progress());
  CHECK(counter.frames == 1);
}

TEST(another_magic) {
  refused([](FrameHeader& header) { header.magic += 1; });
}
TEST(more_than_a_link_carries) {
  refused([](FrameHeader& header) { header.payload_bytes = kMaxPayload + 1; });
}
TEST(more_than_was_written) {
  refused([](FrameHeader& header) { header.payload_bytes = 2000; });
}
TEST(a_wrap_that_was_not_written) {
  refused([](FrameHeader& header) { header.magic = 0; });
}

} // namespace
