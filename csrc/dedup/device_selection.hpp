// Selection of cuts among candidates in the memory of a device. Each thread goes from cut to cut
// through a segment; where it has to begin, the thread before it knows. But chains of cuts that
// begin differently soon meet, so a first guess is nearly always right: every thread follows a
// chain that begins with its segment, then one that begins where the guess before it has ended;
// one thread then goes over the segments and follows the chain again where a guess was wrong.
#pragma once

#include "dedup/device_candidates.hpp"

namespace thinwire::device {

struct SelectionRule {
  CandidateMap candidates;
  u64 min, average, max;
  u64 known; // positions before this one have been looked at

  static constexpr u64 kUnknown = 0;

  // Where the chunk that starts at `start` ends, kUnknown if that is not known yet.
  THINWIRE_HD u64 end_of_chunk(u64 start) const {
    const u64 medium = start + average, longest = start + max;
    const u64 strict = candidates.first<&Marks::strict>(start + min, earlier(medium, known));
    if (strict < medium)
      return strict < known ? strict : kUnknown;
    const u64 loose = candidates.first<&Marks::loose>(medium, earlier(longest, known));
    return loose < known ? loose : kUnknown;
  }

private:
  THINWIRE_HD static u64 earlier(u64 a, u64 b) { return a < b ? a : b; }
};

// What a thread has to do, and has done: the chain of cuts from `entry` to `exit`, the first cut
// behind the segment or the last one that is known.
struct Segment {
  u64 entry, exit, count;
  u64 before; // cuts of the segments before this one
};

struct Segments {
  SelectionRule rule;
  u64 from, bytes;

  // Calls act(end) for each cut.
  template <class Act> THINWIRE_HD Segment follow(u64 number, u64 entry, Act act) const {
    const u64 behind = from + (number + 1) * bytes;
    Segment done{entry, entry, 0, 0};
    while (done.exit < behind) {
      const u64 end = rule.end_of_chunk(done.exit);
      if (end == SelectionRule::kUnknown)
        break;
      act(end);
      done.exit = end;
      ++done.count;
    }
    return done;
  }

  THINWIRE_HD Segment follow(u64 number, u64 entry) const {
    return follow(number, entry, [](u64) {});
  }
};

struct GuessExits {
  Segments segments;
  u64 start; // of the chunk that is cut next
  u64* exits;

  THINWIRE_HD void operator()(u64 i) const {
    exits[i] = segments.follow(i, i == 0 ? start : segments.from + i * segments.bytes).exit;
  }
};

struct FollowGuesses {
  Segments segments;
  u64 start;
  const u64* exits;
  Segment* done;

  THINWIRE_HD void operator()(u64 i) const {
    done[i] = segments.follow(i, i == 0 ? start : exits[i - 1]);
  }
};

// For one thread.
struct JoinSegments {
  Segments segments;
  u64 start;
  u64 count;
  Segment* done;

  THINWIRE_HD void operator()(u64) const {
    u64 entry = start, cuts = 0;
    for (u64 i = 0; i < count; ++i) {
      if (done[i].entry != entry)
        done[i] = segments.follow(i, entry);
      done[i].before = cuts;
      cuts += done[i].count;
      entry = done[i].exit;
    }
  }
};

struct WriteEnds {
  Segments segments;
  const Segment* done;
  std::int64_t* ends;

  THINWIRE_HD void operator()(u64 i) const {
    std::int64_t* next = ends + done[i].before;
    segments.follow(i, done[i].entry, [&](u64 end) { *next++ = static_cast<std::int64_t>(end); });
  }
};

} // namespace thinwire::device
