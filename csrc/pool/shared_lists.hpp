// What the threads of a pool share: slabs with room, by class, and the heap below them.
#pragma once

#include "pool/first_touch.hpp"
#include "pool/heap.hpp"
#include "pool/registrar.hpp"
#include "pool/size_class.hpp"
#include "pool/slab.hpp"

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace thinwire::pool {

class SharedLists {
public:
  struct Options {
    Budget budget;
    Heap::Options heap;
    bool huge_pages;
    bool lock;
    unsigned threads;
    CudaDriver* driver; // null: registers nothing
  };

  SharedLists(Core& core, const Options& options);

  ~SharedLists();

  // At least one block, up to `count`, which from now on are `owner`'s; kTooLarge blocks have
  // `bytes`.
  Refusal take(std::size_t size_class, std::size_t bytes, std::size_t count, Owner owner,
               FreeList& blocks);
  // Returns whether this was the last block of a pool that has been closed.
  bool give(FreeList& blocks, Nanoseconds now);
  // No more blocks are taken. Returns whether none is out.
  bool close();

  Refusal reserve(std::size_t bytes, Nanoseconds now);
  std::size_t trim(std::size_t keep); // returns the bytes that went
  bool is_decay_due(Nanoseconds now) const;
  void decay(Nanoseconds now);
  void settle(); // waits for registrations
  void end_registering();

  struct View {
    std::size_t held;
    std::size_t peak_held;
    std::array<TierStats, kTiers> tiers;
    std::array<std::size_t, kClasses + 1> carved; // bytes of blocks in use or free, by class
    std::vector<Range> ranges;
  };
  View view();
  std::vector<std::string> reasons() const; // why memory is of a lower tier than was asked for
  const Budget& budget() const { return heap_.budget(); }
  std::size_t held() const;
  const FirstTouch& first_touch() const { return first_touch_; }
  double register_seconds() const { return registrar_ ? registrar_->seconds() : 0; }

private:
  struct SizeClass {
    Slab* with_room = nullptr;
    std::size_t carved = 0;
  };

  Refusal find_slab(std::size_t size_class, std::size_t bytes, Slab*& slab,
                    std::vector<Fresh>& fresh);
  Refusal new_slab(std::size_t size_class, std::size_t block_bytes, std::size_t granules,
                   std::size_t blocks, Slab*& slab, std::vector<Fresh>& fresh);
  bool commit(const Slab& slab, std::size_t blocks, std::vector<Fresh>& fresh);
  void carve(Slab& slab, std::size_t count, FreeList& blocks, std::vector<Fresh>& fresh);
  void link(Slab& slab);
  void unlink(Slab& slab);
  void retire(Slab& slab, Nanoseconds now);
  void touch(const std::vector<Fresh>& fresh);
  std::size_t let_go(Leaving leaving);
  void registered(Region& region, const std::string& failure);

  Core& core_;
  // Locked before the other: who finds nothing to let go knows that the rest has gone.
  std::mutex letting_go_;
  mutable std::mutex mutex_;
  Heap heap_;
  FirstTouch first_touch_;
  std::array<SizeClass, kClasses + 1> classes_;
  std::size_t out_ = 0; // blocks in use or in magazines
  bool closed_ = false;
  std::vector<std::string> failures_;
  std::optional<Registrar> registrar_; // the last: it ends before what it uses
};

} // namespace thinwire::pool
