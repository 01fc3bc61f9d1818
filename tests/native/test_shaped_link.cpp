// Shaped links around a link that only notes what it is told, on a clock that stands still.
#include "check.hpp"
#include "core/error.hpp"
#include "transport/shaped_link.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using namespace thinwire;
using std::chrono::milliseconds;

class FakeLink final : public Link {
public:
  explicit FakeLink(FrameSink& sink) : Link(1), sink(sink) {}
  void send(Outgoing frame) override { sent.push_back(std::move(frame)); }
  bool progress() override {
    ++progressed;
    return false;
  }
  void detach() override { sent.clear(); }
  std::size_t backlog() const override { return 7; }
  Clock::time_point last_received() const override { return received_at; }
  Clock::time_point last_sent() const override { return sent_at; }
  Clock::time_point next_event() const override { return event_at; }
  LinkStats stats() const override {
    LinkStats stats;
    stats.kind = "fake";
    stats.rtt_seconds = 0.001;
    return stats;
  }

  std::vector<std::uint64_t> steps() const { // of the frames that were sent
    std::vector<std::uint64_t> found;
    for (const Outgoing& frame : sent)
      found.push_back(frame.header.step);
    return found;
  }

  FrameSink& sink;
  std::vector<Outgoing> sent;
  int progressed = 0;
  Clock::time_point received_at, sent_at, event_at = Clock::time_point::max();
};

struct RealSink final : FrameSink {
  std::byte* place(int, const FrameHeader&) override { return &memory; }
  void receive(Received frame) override {
    CHECK(frame.peer == 1);
    ++received;
  }
  void lost(int, const std::string& reason) override { lost_reason = reason; }

  std::byte memory{};
  int received = 0;
  std::string lost_reason;
};

// A shaped link with a fake one inside.
struct Bench {
  explicit Bench(const LinkShape& shape)
      : link(
            1, sink, shape,
            [this](FrameSink& shaped) {
              auto made = std::make_unique<FakeLink>(shaped);
              inner = made.get();
              return made;
            },
            [this] { return now; }) {}

  void send(std::uint64_t step, std::size_t payload_bytes = 904) { // 1000 with the header
    Outgoing frame;
    frame.header.step = step;
    frame.header.payload_bytes = payload_bytes;
    link.send(std::move(frame));
  }
  // The steps that have gone on until `milliseconds` after the start.
  std::vector<std::uint64_t> after(int milliseconds_passed) {
    now = start + milliseconds(milliseconds_passed);
    link.progress();
    return inner->steps();
  }
  void arrive() { inner->sink.receive({1, FrameHeader{}, nullptr, {}}); }

  using Steps = std::vector<std::uint64_t>;
  const Clock::time_point start = Clock::time_point(std::chrono::hours(1));
  Clock::time_point now = start;
  RealSink sink;
  FakeLink* inner = nullptr;
  ShapedLink link;
};

using Steps = Bench::Steps;

LinkShape shape_of(double rate, double delay) {
  LinkShape shape;
  shape.rate = rate;
  shape.delay = delay;
  return shape;
}

TEST(without_a_shape_frames_go_on_at_once) {
  Bench bench{LinkShape{}};
  bench.send(1);
  CHECK(bench.inner->sent.empty()); // send only queues
  CHECK(bench.link.next_event() <= bench.now);
  CHECK(bench.link.progress());
  CHECK(bench.inner->steps() == Steps{1});
  CHECK(!bench.link.progress());
}

TEST(the_rate_spreads_frames) {
  Bench bench(shape_of(100'000, 0)); // 10 ms a frame
  for (std::uint64_t step : {1, 2, 3})
    bench.send(step);
  CHECK(bench.after(9).empty());
  CHECK(bench.after(10) == Steps{1});
  CHECK(bench.after(19) == Steps{1});
  CHECK((bench.after(30) == Steps{1, 2, 3}));
  bench.after(1000);
  bench.send(4); // the line has been free for long, which is no credit
  CHECK(bench.link.next_event() == bench.start + milliseconds(1010));
  CHECK(bench.after(1009).size() == 3);
  CHECK(bench.after(1010).size() == 4);
}

TEST(the_delay_is_no_rate) {
  Bench bench(shape_of(100'000, 0.050));
  bench.send(1);
  bench.send(2);
  CHECK(bench.link.next_event() == bench.start + milliseconds(60));
  CHECK(bench.after(59).empty());
  CHECK(bench.after(60) == Steps{1});
  CHECK((bench.after(70) == Steps{1, 2}));
  CHECK(bench.link.next_event() == Clock::time_point::max());
}

TEST(the_earliest_event_counts) {
  Bench bench(shape_of(0, 0.050));
  bench.inner->event_at = bench.start + milliseconds(20);
  bench.send(1);
  CHECK(bench.link.next_event() == bench.start + milliseconds(20));
  bench.inner->event_at = bench.start + milliseconds(90);
  CHECK(bench.link.next_event() == bench.start + milliseconds(50));
}

TEST(the_backlog_holds_what_is_held) {
  Bench bench(shape_of(100'000, 0));
  bench.send(1);
  bench.send(2, 4);
  CHECK(bench.link.backlog() == 7 + 1000 + 100);
  bench.after(10);
  CHECK(bench.link.backlog() == 7 + 100);
}

TEST(held_frames_keep_their_memory) {
  BlockPool pool;
  Bench bench(shape_of(0, 0.010));
  BlockRef block = pool.take(100);
  Block* const memory = &*block;
  Outgoing frame;
  frame.payload = block->data;
  frame.keep = std::move(block);
  bench.link.send(std::move(frame));
  CHECK(&*pool.take(100) != memory);
  bench.after(10);
  CHECK(&*bench.inner->sent.front().keep == memory);
  bench.inner->sent.clear();
  CHECK(&*pool.take(100) == memory);
}

TEST(a_lost_frame_comes_later_and_others_overtake_it) {
  LinkShape shape = shape_of(1'000'000, 0.010);
  shape.loss = 0.25;
  shape.rto = 0.300;
  shape.seed = 3;
  Bench bench(shape), again(shape);
  for (std::uint64_t step = 0; step < 100; ++step) {
    bench.send(step);
    again.send(step);
  }
  const Steps in_time = bench.after(110);
  const std::size_t losses = 100 - in_time.size();
  CHECK(losses > 10 && losses < 45);
  CHECK(std::is_sorted(in_time.begin(), in_time.end()));
  CHECK(bench.after(310 - 1).size() == in_time.size());
  CHECK(bench.after(410).size() == 100);
  CHECK(bench.link.stats().retransmits == losses);
  CHECK(again.after(110) == in_time); // the same seed, the same losses
}

TEST(everything_lost_arrives_all_the_same) {
  LinkShape shape;
  shape.loss = 1;
  shape.rto = 0.2;
  Bench bench(shape);
  bench.send(1);
  CHECK(bench.after(199).empty());
  CHECK(bench.after(200) == Steps{1});
}

TEST(what_arrives_goes_through) {
  Bench bench(shape_of(1, 1));
  CHECK(bench.inner->sink.place(1, FrameHeader{}) == &bench.sink.memory);
  bench.arrive();
  CHECK(bench.sink.received == 1);
  bench.inner->sink.lost(1, "the peer left");
  CHECK(bench.sink.lost_reason == "the peer left");
}

TEST(a_cut_cable_is_silent_both_ways) {
  LinkShape shape;
  shape.cut_after = 3;
  Bench bench(shape);
  bench.send(1);
  bench.after(1);
  bench.inner->received_at = bench.inner->sent_at = bench.now;
  bench.arrive();
  for (std::uint64_t step : {2, 3})
    bench.send(step);
  CHECK((bench.after(2) == Steps{1, 2})); // with the one that arrived these are three
  CHECK(bench.link.backlog() == 7 + 1000);
  bench.inner->received_at = bench.inner->sent_at = bench.now;
  bench.arrive();
  bench.inner->sink.lost(1, "the peer left");
  CHECK(bench.sink.received == 1);
  CHECK(bench.sink.lost_reason.empty());
  CHECK(bench.inner->sink.place(1, FrameHeader{}) == nullptr);
  CHECK(bench.link.last_received() == bench.start + milliseconds(1));
  CHECK(bench.link.last_sent() == bench.start + milliseconds(1));
  CHECK(bench.link.next_event() == Clock::time_point::max());
  const int before = bench.inner->progressed;
  CHECK(!bench.link.progress());
  CHECK(bench.inner->progressed == before + 1); // or its descriptors would wake the engine for ever
}

TEST(a_cable_can_be_cut_at_any_time_and_from_the_start) {
  Bench now{LinkShape{}};
  now.send(1);
  now.link.cut();
  CHECK(now.after(1).empty());
  LinkShape shape;
  shape.cut_after = 0;
  Bench never(shape);
  never.send(1);
  never.arrive();
  CHECK(never.after(1).empty());
  CHECK(never.sink.received == 0);
}

TEST(statistics_tell_the_shape) {
  Bench bench(shape_of(100'000, 0.050));
  bench.send(1);
  bench.send(2);
  bench.after(60);
  const LinkStats stats = bench.link.stats();
  CHECK(stats.kind == "shaped fake");
  CHECK(std::abs(stats.busy_seconds - 0.010) < 1e-9);
  CHECK(std::abs(stats.rtt_seconds - 0.101) < 1e-9);
}

TEST(shapes_that_cannot_be) {
  const auto with = [](auto change) {
    LinkShape shape;
    change(shape);
    Bench bench(shape);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS(InvalidArgument, "rate", with([](LinkShape& s) { s.rate = -1; }));
  CHECK_THROWS(InvalidArgument, "rate", with([&](LinkShape& s) { s.rate = nan; }));
  CHECK_THROWS(InvalidArgument, "3600", with([&](LinkShape& s) { s.delay = nan; }));
  CHECK_THROWS(InvalidArgument, "3600", with([](LinkShape& s) { s.rto = 1e300; }));
  CHECK_THROWS(InvalidArgument, "probability", with([](LinkShape& s) { s.loss = 1.5; }));
}

} // namespace
