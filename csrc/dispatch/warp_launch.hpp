// Launches of the kernels of a frame over its segments: one a kernel, however many segments there
// are. A `Launcher` has
//   zero(address, bytes)
//   store(to, from, bytes)          from host memory, which is read before store returns
//   launch(batch, kernel, scratch)  kernel(team, item, unit, ...) for all units, in any order, each
//                                   warp with `scratch` floats of fast memory
// whose calls take effect one after the other.
#pragma once

#include "dispatch/warp_kernel.hpp"

#include <algorithm>
#include <vector>

namespace thinwire::lane {

// The segments of a launch: few among its parameters, more in a table in memory.
template <class Args> struct Batch {
  // As many as fit, together with a kernel, into 4 KiB of parameters.
  static constexpr std::size_t kFew = 3584 / (sizeof(Item<Args>) + sizeof(std::size_t));

  Item<Args> few[kFew];
  std::size_t few_ends[kFew]; // units of the items up to this one
  const Item<Args>* many;     // null: few are all
  const std::size_t* many_ends;
  std::size_t count, units;

  THINWIRE_HD const Item<Args>& item(std::size_t i) const { return many ? many[i] : few[i]; }
  THINWIRE_HD std::size_t end(std::size_t i) const { return many ? many_ends[i] : few_ends[i]; }
};

// The item that has a unit, from item number `from` on.
template <class Args>
THINWIRE_TEAM std::size_t item_of(const Batch<Args>& batch, std::size_t unit, std::size_t from) {
  std::size_t beyond = batch.count;
  while (batch.end(from) <= unit) {
    const std::size_t middle = (from + 1 + beyond) / 2;
    if (batch.end(middle - 1) <= unit)
      from = middle;
    else
      beyond = middle;
  }
  return from;
}

// What warp number `warp` of `warps` does in a launch.
template <class Team, class Args, class Kernel>
THINWIRE_TEAM void run_units(const Team& team, const Batch<Args>& batch, const Kernel& kernel,
                             std::size_t warp, std::size_t warps, float* scratch) {
  std::size_t number = 0;
  for (std::size_t unit = warp; unit < batch.units; unit += warps) {
    number = item_of(batch, unit, number);
    const std::size_t begin = number == 0 ? 0 : batch.end(number - 1);
    Item<Args> item = batch.item(number);
    settle(item.args);
    kernel(team, item, unit - begin, scratch);
  }
}

// Room for a table of so many segments, whichever of the Args their items have.
template <class... Args> std::size_t table_bytes(std::size_t segments) {
  constexpr std::size_t kItem = std::max({sizeof(Item<Args>)...});
  if (segments <= std::min({Batch<Args>::kFew...}))
    return 0;
  return align16(segments * (kItem + sizeof(std::size_t)));
}

// Runs kernels over segments. `table` has table_bytes() for as many as there are.
template <class Launcher> class Runner {
public:
  Runner(Launcher& launcher, std::byte* table) : launcher_(launcher), table_(table) {}

  template <class Kernel, class Args>
  void run(const Kernel& kernel, const std::vector<Item<Args>>& items) {
    std::vector<Item<Args>> some;
    std::vector<std::size_t> ends;
    std::size_t units = 0, scratch = 0;
    for (const Item<Args>& item : items) {
      const std::size_t more = kernel.units(item.args);
      if (more == 0)
        continue;
      units += more;
      scratch = std::max(scratch, kernel.scratch(item.args));
      some.push_back(item);
      ends.push_back(units);
    }
    if (units != 0)
      launcher_.launch(batch(some, ends), kernel, scratch);
  }

private:
  template <class Args>
  Batch<Args> batch(const std::vector<Item<Args>>& items, const std::vector<std::size_t>& ends) {
    Batch<Args> made = {};
    made.count = items.size();
    made.units = ends.back();
    if (items.size() <= Batch<Args>::kFew) {
      std::copy(items.begin(), items.end(), made.few);
      std::copy(ends.begin(), ends.end(), made.few_ends);
      return made;
    }
    auto* many = reinterpret_cast<Item<Args>*>(table_);
    auto* many_ends = reinterpret_cast<std::size_t*>(many + items.size());
    launcher_.store(many, items.data(), items.size() * sizeof items[0]);
    launcher_.store(many_ends, ends.data(), ends.size() * sizeof ends[0]);
    made.many = many;
    made.many_ends = many_ends;
    return made;
  }

  Launcher& launcher_;
  std::byte* table_;
};

} // namespace thinwire::lane
