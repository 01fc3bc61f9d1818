// Frames that peers read where they lie, in the memory of an emulated device: the bits of the host,
// with room and without it; and what happens to that memory when a rank fails, leaves or cannot
// open it.
#include "device_ranks.hpp"

#include "dispatch/frame_steps.hpp"

#include <thread>

namespace {

using namespace device_ranks;

constexpr std::size_t kRoomy = std::size_t{1} << 20;
constexpr std::size_t kTight = std::size_t{8} << 10; // two or three frames

// Of all ragged sizes, with codecs whose payloads need no look at.
std::vector<Parameter> plain_codecs() {
  std::vector<Parameter> found = every_codec();
  std::erase_if(found, [](const Parameter& parameter) {
    return !is_any_payload_valid(Layout({{parameter.count, parameter.codec}}, 0));
  });
  CHECK(found.size() > 6 && found.size() < every_codec().size());
  return found;
}

// Frames to a rank's peers that lay in its window.
std::uint64_t frames_in_window(const EngineStats& stats) {
  std::uint64_t frames = 0;
  for (const PeerStats& peer : stats.links)
    frames += peer.window.frames;
  return frames;
}

void check_bits(const Case& c, const Result& found, const Result& host) {
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(c.ranks); ++rank) {
    CHECK(*found.ranks[rank] == *host.ranks[rank]);
    CHECK(found.outcomes[rank].nonfinite == host.outcomes[rank].nonfinite);
    CHECK(found.outcomes[rank].costs.sent_up == host.outcomes[rank].costs.sent_up);
    CHECK(found.outcomes[rank].costs.sent_down == host.outcomes[rank].costs.sent_down);
  }
}

// Every rank on a device, and all but one.
void check_case(Case c) {
  const std::size_t shares = emulation::Shares::all().count();
  const auto ranks = static_cast<std::size_t>(c.ranks);
  const Result host = run(c, std::vector<bool>(ranks, false), 4);
  for (bool is_mixed : {false, true}) {
    std::vector<bool> on_device(ranks, true);
    on_device[1] = !is_mixed;
    const Result found = run(c, on_device, 4);
    check_bits(c, found, host);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const std::uint64_t frames = frames_in_window(found.stats[rank]);
      CHECK(is_mixed || frames > 0);
      CHECK(on_device[rank] || frames == 0);
    }
  }
  CHECK(emulation::Shares::all().count() == shares);
}

WindowStats window_of(const Result& result, std::size_t rank, int peer) {
  for (const PeerStats& found : result.stats[rank].links)
    if (found.peer == peer)
      return found.window;
  return {};
}

// Ranks on devices that have opened each other's windows.
struct Opened {
  explicit Opened(const Case& c, std::size_t window_bytes = kRoomy)
      : what(c), group(c.ranks, LinkKind::inproc, 30, {}, Links::all, c.sites, window_bytes),
        ranks(workers_of(what, std::vector<bool>(static_cast<std::size_t>(c.ranks), true))) {
    while (frames_in_window(group.at(0).engine.stats()) == 0)
      for (const Collectives::Work& work : start())
        CHECK(error_of(work).empty());
  }

  // Of another step, on all ranks.
  std::vector<Collectives::Work> start() {
    ++step;
    std::vector<Collectives::Work> works;
    for (int rank = 0; rank < group.size(); ++rank)
      works.push_back(submit(group, *ranks[static_cast<std::size_t>(rank)], rank, step));
    return works;
  }

  const Case what;
  Group group;
  Workers ranks;
  std::uint64_t step = 0;
};

} // namespace

TEST(all_schedules) {
  for (Algorithm algorithm : {Algorithm::direct, Algorithm::ring, Algorithm::bidirectional})
    for (int ranks : {2, 3, 4}) {
      check::context = std::string(name(algorithm)) + " ranks=" + std::to_string(ranks);
      check_case({.parameters = plain_codecs(),
                  .ranks = ranks,
                  .algorithm = algorithm,
                  .window_bytes = kRoomy});
    }
  check::context = "hierarchical";
  check_case({.parameters = plain_codecs(),
              .ranks = 4,
              .algorithm = Algorithm::hierarchical,
              .sites = {0, 0, 1, 1},
              .window_bytes = kRoomy});
}

TEST(values_of_other_types_and_kinds) {
  for (DType dtype : {DType::fp16, DType::bf16})
    check_case({.parameters = plain_codecs(),
                .dtype = dtype,
                .residual_dtype = DType::bf16,
                .window_bytes = kRoomy});
  for (Kind kind : {Kind::special, Kind::sparse})
    check_case({.parameters = plain_codecs(), .ranks = 2, .kind = kind, .window_bytes = kRoomy});
  for (Algorithm algorithm : {Algorithm::direct, Algorithm::ring})
    check_case({.parameters = raw_only(), .algorithm = algorithm, .window_bytes = kRoomy});
}

TEST(payloads_that_need_a_look_travel_over_the_host) {
  const Case c{.parameters = {{9000, CodecSpec::make("topk")}, {9000, CodecSpec::make("int8")}},
               .ranks = 2,
               .window_bytes = kRoomy};
  const Result host = run(c, {false, false}, 4), found = run(c, {true, true}, 4);
  check_bits(c, found, host);
  CHECK(window_of(found, 0, 1).state == "open");
}

TEST(windows_that_are_too_small) {
  for (std::size_t bytes : {std::size_t{256}, kTight})
    for (Algorithm algorithm : {Algorithm::direct, Algorithm::ring}) {
      const Case c{.parameters = {{100000, CodecSpec::make("int8")}},
                   .ranks = 3,
                   .algorithm = algorithm,
                   .window_bytes = bytes};
      check::context = std::string(name(algorithm)) + " bytes=" + std::to_string(bytes);
      const Result host = run(c, {false, false, false}, 4), found = run(c, {true, true, true}, 4);
      check_bits(c, found, host);
      CHECK((frames_in_window(found.stats[0]) > 0) == (bytes == kTight));
    }
}

TEST(more_slices_than_the_window_holds) {
  check_case({.parameters = {{200000, CodecSpec::make("int4")}},
              .ranks = 2,
              .slice_values = 64,
              .window_bytes = kRoomy / 4});
}

// Eight MiB of frames may be under way on any link. Here nothing is read, so nothing comes back.
TEST(a_rank_may_be_further_ahead_where_frames_lie_in_its_window) {
  constexpr std::size_t kSlice = std::size_t{1} << 17, kFrames = 16; // of 512 KiB in 8 MiB
  Opened opened({.parameters = {{2 * 40 * kSlice, CodecSpec::make("raw"), false}},
                 .ranks = 2,
                 .slice_values = kSlice},
                std::size_t{32} << 20);
  const std::uint64_t before = frames_in_window(opened.group.at(0).engine.stats());
  opened.ranks[1]->device->set_paused(true);
  const std::vector<Collectives::Work> works = opened.start();
  const auto ahead = [&] { return frames_in_window(opened.group.at(0).engine.stats()) - before; };
  while (ahead() < 24) // three eighths of the window
    std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(50ms);
  CHECK(ahead() == 24 && ahead() > kFrames);
  opened.ranks[1]->device->set_paused(false);
  for (const Collectives::Work& work : works)
    CHECK(error_of(work).empty());
}

TEST(a_pair_without_windows_goes_on_over_the_host) {
  const Case c{.parameters = plain_codecs(), .window_bytes = kRoomy};
  const Result host = run(c, {false, false, false}, 4);
  for (bool can_share : {false, true}) {
    Group group(3, LinkKind::inproc, 30, {}, Links::all, {}, kRoomy);
    const Workers ranks = workers_of(c, {true, true, true});
    ranks[1]->device->set_shares(can_share, !can_share);
    for (std::uint64_t step = 0; step < 4; ++step) {
      std::vector<Collectives::Work> works;
      for (int rank = 0; rank < 3; ++rank) {
        ranks[static_cast<std::size_t>(rank)]->fill(step);
        works.push_back(submit(group, *ranks[static_cast<std::size_t>(rank)], rank, step));
      }
      for (const Collectives::Work& work : works)
        CHECK(error_of(work).empty());
    }
    for (std::size_t rank = 0; rank < 3; ++rank)
      CHECK(*ranks[rank] == *host.ranks[rank]);
    const auto window = [&](int rank, int peer) {
      for (const PeerStats& found : group.at(rank).engine.stats().links)
        if (found.peer == peer)
          return found.window;
      return WindowStats{};
    };
    const WindowStats without = can_share ? window(0, 1) : window(1, 0);
    CHECK(without.state == "refused");
    CHECK(without.reason == (can_share ? "the device of the test opens nothing"
                                       : "the device of the test shares nothing"));
    CHECK(without.frames == 0);
    CHECK(window(0, 2).state == "open");
    CHECK(window(0, 2).reason.empty());
  }
}

TEST(a_device_that_fails_ends_the_operation_everywhere) {
  const std::size_t shares = emulation::Shares::all().count();
  const Case c{.parameters = plain_codecs()};
  int failed = 0;
  for (int calls : {0, 1, 2, 3, 4, 5, 8, 13, 21, 34, 55}) {
    check::context = std::to_string(calls) + " calls";
    Opened opened(c);
    opened.ranks[1]->device->fail_after(calls);
    const auto first = submit(opened.group, *opened.ranks[0], 0, 90);
    const auto third = submit(opened.group, *opened.ranks[2], 2, 90);
    const std::string error = error_of(submit(opened.group, *opened.ranks[1], 1, 90));
    CHECK(error.empty() || error == "the device of the test failed");
    failed += !error.empty();
    for (const Collectives::Work& other : {first, third}) { // it may have been done before
      const std::string heard = error_of(other);
      CHECK(heard.empty() || heard.ends_with("the device of the test failed"));
    }
  }
  CHECK(failed > 6);
  CHECK(emulation::Shares::all().count() == shares);
}

TEST(a_rank_that_closes_in_the_middle_waits_for_its_readers) {
  const std::size_t shares = emulation::Shares::all().count();
  for (int wait : {0, 1, 2, 5}) {
    Opened opened({.parameters = {{400000, CodecSpec::make("int8")}}, .ranks = 2});
    const std::vector<Collectives::Work> works = opened.start();
    std::this_thread::sleep_for(std::chrono::milliseconds(wait));
    opened.group.at(0).engine.close();
    CHECK(works[0]->is_over());
    error_of(works[1]);
  }
  CHECK(emulation::Shares::all().count() == shares);
}

TEST(a_rank_that_leaves_takes_its_memory_back_while_others_go_on) {
  const std::size_t shares = emulation::Shares::all().count();
  {
    Opened opened({.parameters = plain_codecs(), .ranks = 2});
    CHECK(emulation::Shares::all().count() == shares + 2);
    opened.group.at(1).engine.close();
    CHECK(emulation::Shares::all().count() == shares + 1);
  }
  CHECK(emulation::Shares::all().count() == shares);
}

// As where a kernel of somebody else's waits for a rank that is gone.
TEST(a_rank_leaves_while_its_device_is_busy_with_something_else) {
  const std::size_t shares = emulation::Shares::all().count();
  {
    Opened opened({.parameters = plain_codecs(), .ranks = 2});
    for (const auto& rank : opened.ranks) {
      rank->device->set_paused(true);
      rank->device->free(rank->device->allocate(1));
    }
    for (int rank : {0, 1})
      opened.group.at(rank).engine.close();
    CHECK(emulation::Shares::all().count() == shares);
    for (const auto& rank : opened.ranks)
      rank->device->set_paused(false);
  }
  CHECK(emulation::Shares::all().count() == shares);
}

TEST(a_rank_with_two_devices) {
  const Case c{.parameters = plain_codecs(), .ranks = 2, .window_bytes = kRoomy};
  const Result host = run(c, {false, false}, 4);
  for (bool can_open : {true, false}) {
    Opened opened(c);
    const auto first = opened.ranks[1]->device;
    const auto second = std::make_shared<emulation::Device>(9);
    second->set_shares(can_open, can_open);
    Workers again = workers_of(c, {true, true});
    for (std::uint64_t step = 0; step < 4; ++step) {
      again[1]->device = step % 2 == 0 ? second : first;
      std::vector<Collectives::Work> works;
      for (int rank : {0, 1}) {
        Worker& mine = *again[static_cast<std::size_t>(rank)];
        mine.fill(step);
        const Call now = call(1000 + step, nullptr, nullptr);
        works.push_back(
            opened.group.at(rank).collectives.run_plan(now, mine.plan(), mine.values(step)));
      }
      for (const Collectives::Work& work : works)
        CHECK(error_of(work).empty());
    }
    for (std::size_t rank : {0, 1})
      CHECK(*again[rank] == *host.ranks[rank]);
    opened.group.ranks.clear();
  }
}

TEST(a_deadline_passes_while_frames_wait_in_windows) {
  const std::size_t shares = emulation::Shares::all().count();
  {
    Opened opened({.parameters = {{100000, CodecSpec::make("int8")}}, .ranks = 2}, kTight);
    opened.ranks[1]->device->set_ready(false);
    const auto ahead = submit(opened.group, *opened.ranks[0], 0, 90);
    const auto late = submit(opened.group, *opened.ranks[1], 1, 90, 0.2);
    CHECK(error_of(late).starts_with("the values of rank 1 were not ready within 0.2 s"));
    CHECK(error_of(ahead) == error_of(late));
  }
  CHECK(emulation::Shares::all().count() == shares);
}

// What the first one has in the window is read only once the second is over.
TEST(operations_in_different_order_do_not_wait_for_each_others_room) {
  Opened opened({.parameters = {{100000, CodecSpec::make("int8")}}, .ranks = 2}, kTight);
  const Case c{.parameters = {{100000, CodecSpec::make("int8")}}, .ranks = 2};
  const Workers others = workers_of(c, {true, true});
  const auto first = submit(opened.group, *opened.ranks[0], 0, 90);
  std::this_thread::sleep_for(20ms);
  const auto second = submit(opened.group, *others[0], 0, 91);
  CHECK(error_of(submit(opened.group, *others[1], 1, 91)).empty());
  CHECK(error_of(second).empty());
  CHECK(!first->is_over());
  CHECK(error_of(submit(opened.group, *opened.ranks[1], 1, 90)).empty());
  CHECK(error_of(first).empty());
}

TEST(an_operation_that_is_refused_gives_its_room_back) {
  const Case c{.parameters = {{30000, CodecSpec::make("int8")}}, .ranks = 2};
  Opened opened(c, kTight);
  for (std::uint64_t key : {500, 501, 502}) {
    const auto mine = submit(opened.group, *opened.ranks[0], 0, key);
    Call other = call(key + 1, nullptr, nullptr);
    other.label = "something else";
    const auto theirs = opened.group.at(1).collectives.run_plan(other, opened.ranks[1]->plan(),
                                                                opened.ranks[1]->values(key));
    CHECK(error_of(mine).starts_with("ranks disagree"));
    CHECK(error_of(theirs).starts_with("ranks disagree"));
  }
  const std::uint64_t before = frames_in_window(opened.group.at(0).engine.stats());
  for (const Collectives::Work& work : opened.start())
    CHECK(error_of(work).empty());
  CHECK(frames_in_window(opened.group.at(0).engine.stats()) > before);
}
