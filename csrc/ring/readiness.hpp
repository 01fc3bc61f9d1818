// Keeps a source from filling the memory of ranks that have not begun an operation yet, and from
// being done before it knows that all agree. Sums need nothing of the kind: their results come
// back, and those hold the senders in step.
//
// Every rank that gets values down a tree tells its parent there that it is ready, as soon as it
// has begun and all below it are ready. A source sends the first rounds at once, and the others
// when its children are ready.
#pragma once

#include "ring/plan.hpp"

#include <map>
#include <set>
#include <vector>

namespace thinwire {

class Readiness {
public:
  explicit Readiness(const TreePlan& plan);

  struct Notice {
    int to, owner;
  };
  // This rank has begun. What to tell whom.
  std::vector<Notice> begin();
  // A child in the tree of `owner` is ready. What to tell whom. Throws CorruptFrame where it is no
  // child.
  std::vector<Notice> hear(int child, int owner);
  // Whether everybody below this rank in the tree of `owner` is ready.
  bool is_ready(int owner) const;
  bool are_all_ready() const;
  // Children that have not said that they are ready, in any tree.
  std::set<int> waiting() const;

private:
  struct Tree {
    std::set<int> parents, waiting;
  };
  void notify(int owner, std::vector<Notice>& notices) const;

  std::map<int, Tree> trees_; // by owner
  bool has_begun_ = false;
};

} // namespace thinwire
