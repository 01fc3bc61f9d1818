#include "ring/tree_operation.hpp"

#include "ring/combine.hpp"
#include "ring/device_frames.hpp"
#include "ring/host_frames.hpp"
#include "ring/windows.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace thinwire {
namespace {

constexpr std::uint32_t kLeastAhead = 4; // rounds
// Frames are made when the link is about to need them, so that they do not wait in memory.
constexpr std::size_t kMostBacklog = std::size_t{1} << 18;

std::vector<int> distinct(std::vector<int> ranks) {
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

Failure failure_in(const Received& frame) {
  return {static_cast<ErrorNumber>(frame.header.param),
          {reinterpret_cast<const char*>(frame.payload), frame.header.payload_bytes}};
}

std::unique_ptr<TreeFrames> make_frames(SliceValues values, Outcome& outcome, FrameTaker& taker) {
  if (values.call().where)
    return std::make_unique<DeviceFrames>(std::move(values), outcome, taker);
  return std::make_unique<HostFrames>(std::move(values), outcome, taker);
}

// Of a frame, wherever its payload lies.
std::size_t bytes_of(const Outgoing& frame) {
  return frame_bytes(whole_header(frame.header, frame.payload));
}

bool is_aborted(const FrameHeader& header) { return (header.flags & kFlagAborted) != 0; }

} // namespace

TreeOperation::TreeOperation(OperationKey key, std::uint32_t id,
                             std::shared_ptr<const TreePlan> plan, std::string description,
                             TreeValues values, std::uint64_t group, Clock::duration deadline)
    : Operation(key, id, std::move(description), deadline), plan_(std::move(plan)),
      weight_(values.weight), group_(group), is_on_device_(values.where.has_value()),
      frames_(make_frames(SliceValues(plan_, std::move(values)), outcome_, *this)),
      tasks_(plan_->slices.size()) {
  for (Task& task : tasks_)
    task.weight = weight_;
  for (const PlannedSlice& slice : plan_->slices)
    payload_bytes_ =
        std::max(payload_bytes_, plan_->verbatim ? slice.count : slice.layout.payload_bytes());
  if (plan_->travel == Travel::down)
    readiness_.emplace(*plan_);
}

std::vector<int> TreeOperation::peers() const {
  std::vector<int> found;
  for (const PlannedSlice& slice : plan_->slices) {
    const Role& role = slice.role;
    found.insert(found.end(), role.up_from.begin(), role.up_from.end());
    found.insert(found.end(), role.down_to.begin(), role.down_to.end());
    for (int peer : {role.up, role.down_from})
      if (peer >= 0)
        found.push_back(peer);
  }
  return distinct(std::move(found));
}

bool TreeOperation::is_ready(Wires& wires) { return frames_->is_ready(wires); }

void TreeOperation::start(Wires& wires) {
  wires_ = &wires;
  if (readiness_)
    tell_ready(readiness_->begin(), static_cast<std::uint32_t>(wires_->rank()));
  advance();
}

void TreeOperation::tell_ready(const std::vector<Readiness::Notice>& notices,
                               std::uint32_t culprit) {
  for (const Readiness::Notice& notice : notices) {
    FrameHeader ready = header(0, kReady);
    ready.sender = culprit;
    ready.slice = static_cast<std::uint32_t>(notice.owner);
    wires_->send(notice.to, {ready, nullptr, {}});
  }
}

void TreeOperation::advance() {
  frames_->advance();
  start_tasks();
  frames_->flush();
}

void TreeOperation::start_tasks() {
  for (; skip_done(), to_start_ < tasks_.size(); ++to_start_) {
    const PlannedSlice& slice = plan_->slices[to_start_];
    if (!is_released(to_start_)) {
      is_held_up_ = true;
      return;
    }
    if (!has_room(slice))
      return;
    if (std::exchange(is_held_up_, false))
      tasks_[to_start_].culprit = last_culprit_;
    start_task(to_start_);
  }
}

// Whether the others are far enough.
bool TreeOperation::is_released(std::size_t i) const {
  const PlannedSlice& slice = plan_->slices[i];
  const std::size_t ahead =
      std::max<std::size_t>(kLeastAhead, frames_->bytes_ahead(i) / payload_bytes_);
  if (plan_->travel != Travel::down)
    return slice.round < plan_->slices[oldest_].round + ahead;
  return slice.role.down_from >= 0 || slice.round < ahead || readiness_->is_ready(slice.owner);
}

bool TreeOperation::has_room(const PlannedSlice& slice) const {
  if (!frames_->has_room())
    return false;
  const Role& role = slice.role;
  const int next = role.up >= 0 ? role.up : role.down_to.empty() ? -1 : role.down_to.front();
  return next < 0 || wires_->backlog(next) + frames_->bytes_in_making() <= kMostBacklog;
}

// A task may be done before it was started here: others were faster.
void TreeOperation::skip_done() {
  while (oldest_ < tasks_.size() && tasks_[oldest_].is_done)
    ++oldest_;
  to_start_ = std::max(to_start_, oldest_);
}

bool TreeOperation::is_finished() const {
  return done_ == tasks_.size() && frames_->is_settled() &&
         (!readiness_ || readiness_->are_all_ready());
}

std::vector<int> TreeOperation::awaited() const {
  std::vector<int> children, parents;
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    const Role& role = plan_->slices[i].role;
    const Task& task = tasks_[i];
    if (task.is_done)
      continue;
    if (plan_->travel != Travel::down && task.next_child < role.up_from.size()) {
      const auto first = role.up_from.begin() + static_cast<std::ptrdiff_t>(task.next_child);
      for (auto child = first; child != role.up_from.end(); ++child)
        if (std::none_of(task.early.begin(), task.early.end(),
                         [&](const Received& frame) { return frame.peer == *child; }))
          children.push_back(*child);
    } else if (role.down_from >= 0) {
      parents.push_back(role.down_from);
    }
  }
  if (readiness_) { // values go down only: nothing comes from children but this word
    const std::set<int> waiting = readiness_->waiting();
    parents.insert(parents.end(), waiting.begin(), waiting.end());
  }
  return distinct(children.empty() ? std::move(parents) : std::move(children));
}

std::byte* TreeOperation::place(int, const FrameHeader& header) {
  const std::optional<std::size_t> found = find(header.slice);
  if (!found || header.phase != kDown || is_aborted(header))
    return nullptr;
  const std::size_t i = *found;
  if (tasks_[i].is_done || header.count != plan_->slices[i].count)
    return nullptr;
  return frames_->place(i, header);
}

void TreeOperation::receive(Received frame) {
  const FrameHeader& header = frame.header;
  last_culprit_ = header.sender;
  if (header.phase == kReady && readiness_)
    return tell_ready(readiness_->hear(frame.peer, static_cast<int>(header.slice)), header.sender);
  const std::optional<std::size_t> found = find(header.slice);
  if (!found)
    corrupt_frame("there is no slice " + std::to_string(header.slice));
  const std::size_t i = *found;
  const Role& role = plan_->slices[i].role;
  if (header.phase == kUp && plan_->travel != Travel::down)
    take_child(i, std::move(frame));
  else if (header.phase == kDown && frame.peer == role.down_from && !tasks_[i].is_done)
    take_result(i, std::move(frame));
  else
    corrupt_frame("slice " + std::to_string(header.slice) + ", phase " +
                  std::to_string(header.phase) + " was not expected from rank " +
                  std::to_string(frame.peer));
}

// Most plans number their slices from 0 on; only all_to_all leaves out those of other ranks.
std::optional<std::size_t> TreeOperation::find(std::uint32_t id) const {
  const std::vector<PlannedSlice>& slices = plan_->slices;
  if (id < slices.size() && slices[id].id == id)
    return id;
  const auto found = std::find_if(slices.begin(), slices.end(),
                                  [id](const PlannedSlice& slice) { return slice.id == id; });
  if (found == slices.end())
    return std::nullopt;
  return static_cast<std::size_t>(found - slices.begin());
}

// What this rank can do by itself.
void TreeOperation::start_task(std::size_t i) {
  const Role& role = plan_->slices[i].role;
  if (plan_->travel == Travel::down) {
    if (role.down_from < 0)
      frames_->make_own(i, header(i, kDown));
  } else if (role.up_from.empty()) {
    if (role.up >= 0)
      frames_->make_own(i, header(i, kUp));
    else
      finish_sum(i);
  }
}

void TreeOperation::take_child(std::size_t i, Received frame) {
  const Role& role = plan_->slices[i].role;
  Task& task = tasks_[i];
  const auto pending = role.up_from.begin() + static_cast<std::ptrdiff_t>(task.next_child);
  const auto child = std::find(pending, role.up_from.end(), frame.peer);
  if (child == role.up_from.end())
    corrupt_frame("slice " + std::to_string(frame.header.slice) +
                  " came twice or from the wrong rank, " + std::to_string(frame.peer));
  if (child != pending) {
    task.early.push_back(hold(std::move(frame), wires_->pool()));
    return;
  }
  const std::uint32_t culprit = frame.header.sender;
  add_child(i, std::move(frame));
  add_early(i);
  if (task.next_child == role.up_from.size()) {
    task.culprit = culprit;
    finish_sum(i);
  }
}

void TreeOperation::add_child(std::size_t i, Received frame) {
  Task& task = tasks_[i];
  ++task.next_child;
  if (is_aborted(frame.header)) {
    if (!task.failure)
      task.failure = failure_in(frame);
    return;
  }
  task.weight += frame.header.weight;
  frames_->add(i, std::move(frame));
}

// Adds the frames that waited for the one that has just been added.
void TreeOperation::add_early(std::size_t i) {
  Task& task = tasks_[i];
  const std::vector<int>& children = plan_->slices[i].role.up_from;
  while (task.next_child < children.size()) {
    const int child = children[task.next_child];
    const auto found = std::find_if(task.early.begin(), task.early.end(),
                                    [&](const Received& frame) { return frame.peer == child; });
    if (found == task.early.end())
      return;
    Received next = std::move(*found);
    task.early.erase(found);
    add_child(i, std::move(next));
  }
}

void TreeOperation::finish_sum(std::size_t i) {
  Task& task = tasks_[i];
  const bool is_root = plan_->slices[i].role.up < 0;
  if (is_root && !task.failure && plan_->check_weights && !adds_up(task.weight))
    task.failure = wrong_weights(task.weight);
  if (task.failure) {
    frames_->drop_sum(i);
    if (is_root)
      outcome_.slices.push_back({plan_->slices[i].id, wires_->rank(), *task.failure});
    take_made(i, abort_frame(i, is_root ? kDown : kUp));
  } else if (is_root) {
    frames_->make_result(i, summed_header(i, kDown));
  } else {
    frames_->make_partial(i, summed_header(i, kUp));
  }
}

// Sends a frame on its first way.
void TreeOperation::take_made(std::size_t i, Outgoing frame) {
  if (frame.header.phase == kUp) {
    outcome_.costs.sent_up += bytes_of(frame);
    wires_->send(plan_->slices[i].role.up, std::move(frame));
  } else {
    outcome_.nonfinite |= (frame.header.flags & kFlagNonfinite) != 0;
    distribute(i, frame);
    finish_task(i);
  }
}

void TreeOperation::distribute(std::size_t i, const Outgoing& frame) {
  for (int peer : plan_->slices[i].role.down_to) {
    outcome_.costs.sent_down += bytes_of(frame);
    wires_->send(peer, frame);
  }
}

void TreeOperation::take_result(std::size_t i, Received frame) {
  const PlannedSlice& slice = plan_->slices[i];
  if (is_aborted(frame.header))
    outcome_.slices.push_back({slice.id, slice.owner, failure_in(frame)});
  else if (plan_->travel != Travel::up)
    frames_->store(i, frame);
  outcome_.nonfinite |= (frame.header.flags & kFlagNonfinite) != 0;
  if (!slice.role.down_to.empty())
    frames_->forward(i, std::move(frame));
  finish_task(i);
}

void TreeOperation::finish_task(std::size_t i) {
  tasks_[i].is_done = true;
  ++done_;
}

FrameHeader TreeOperation::header(std::size_t i, TreePhase phase) const {
  FrameHeader header = header_of(key, group_, wires_->rank());
  header.slice = plan_->slices[i].id;
  header.param = plan_id;
  header.codec = kPlanCodecId;
  header.dtype = static_cast<std::uint8_t>(plan_->dtype);
  header.phase = phase;
  header.weight = weight_;
  header.sender = tasks_[i].culprit.value_or(header.sender);
  return header;
}

FrameHeader TreeOperation::summed_header(std::size_t i, TreePhase phase) const {
  FrameHeader head = header(i, phase);
  head.weight = tasks_[i].weight;
  return head;
}

Outgoing TreeOperation::abort_frame(std::size_t i, TreePhase phase) {
  const Failure& failure = *tasks_[i].failure;
  FrameHeader head = header(i, phase);
  head.flags = kFlagAborted;
  head.param = static_cast<std::uint32_t>(failure.number);
  head.payload_bytes = std::min(failure.reason.size(), kMaxPayload);
  BlockRef block = wires_->pool().take(head.payload_bytes);
  std::memcpy(block->data, failure.reason.data(), head.payload_bytes);
  return {head, block->data, std::move(block)};
}

void TreeOperation::release() {
  tasks_.clear();
  frames_->release();
}

} // namespace thinwire
