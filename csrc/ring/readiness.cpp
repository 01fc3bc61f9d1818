#include "ring/readiness.hpp"

#include <algorithm>
#include <string>

namespace thinwire {

Readiness::Readiness(const TreePlan& plan) {
  for (const PlannedSlice& slice : plan.slices) {
    Tree& tree = trees_[slice.owner];
    tree.waiting.insert(slice.role.down_to.begin(), slice.role.down_to.end());
    if (slice.role.down_from >= 0)
      tree.parents.insert(slice.role.down_from);
  }
}

std::vector<Readiness::Notice> Readiness::begin() {
  has_begun_ = true;
  std::vector<Notice> notices;
  for (const auto& [owner, tree] : trees_)
    notify(owner, notices);
  return notices;
}

std::vector<Readiness::Notice> Readiness::hear(int child, int owner) {
  const auto tree = trees_.find(owner);
  if (tree == trees_.end() || tree->second.waiting.erase(child) == 0)
    corrupt_frame("rank " + std::to_string(child) +
                  " is ready for values that it does not get from here");
  std::vector<Notice> notices;
  if (has_begun_)
    notify(owner, notices);
  return notices;
}

bool Readiness::is_ready(int owner) const { return trees_.at(owner).waiting.empty(); }

bool Readiness::are_all_ready() const {
  return std::all_of(trees_.begin(), trees_.end(),
                     [](const auto& tree) { return tree.second.waiting.empty(); });
}

std::set<int> Readiness::waiting() const {
  std::set<int> all;
  for (const auto& [owner, tree] : trees_)
    all.insert(tree.waiting.begin(), tree.waiting.end());
  return all;
}

void Readiness::notify(int owner, std::vector<Notice>& notices) const {
  const Tree& tree = trees_.at(owner);
  if (tree.waiting.empty())
    for (int parent : tree.parents)
      notices.push_back({parent, owner});
}

} // namespace thinwire
