#include "io/read.hpp"

#include "core/guarded_copy.hpp"
#include "hash/xxh3.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

namespace thinwire {
namespace {

// Where the bytes between two records go. Nobody reads them; one a thread keeps caches apart.
thread_local std::array<std::byte, kGreatestGap> gap_bytes;

// The memory of the bytes of records from `position` on; pieces that touch become one.
class MemoryList {
public:
  explicit MemoryList(std::span<iovec> out) : out_(out) {}

  void add(std::byte* address, std::uint64_t bytes) {
    if (bytes == 0)
      return;
    if (count_ > 0 && end_ == address)
      out_[count_ - 1].iov_len += bytes;
    else
      out_[count_++] = {address, bytes};
    end_ = address + bytes;
  }
  std::span<const iovec> list() const { return out_.first(count_); }

private:
  std::span<iovec> out_;
  std::size_t count_ = 0;
  const std::byte* end_ = nullptr;
};

} // namespace

Read::Read(Batch& batch, std::span<const Record> records) : batch_(&batch), records_(records) {}

Read::Step Read::next_step(Memory& memory) const {
  if (direct)
    return direct_step(memory);
  MemoryList list(memory);
  std::uint64_t at = position();
  for (const Record& record : records_) {
    if (record.end() <= at)
      continue;
    if (at < record.offset) {
      list.add(gap_bytes.data(), record.offset - at);
      at = record.offset;
    }
    list.add(record.target + (at - record.offset), record.end() - at);
    at = record.end();
  }
  return {opened->descriptor.get(), position(), list.list()};
}

// The middle goes around the page cache; what comes before the first boundary and after the last
// does not.
Read::Step Read::direct_step(Memory& memory) const {
  const std::uint64_t at = position(), beyond = at % kDirectBlock;
  const bool whole = beyond == 0 && rest() >= kDirectBlock;
  const std::uint64_t bytes = beyond != 0 ? std::min(rest(), kDirectBlock - beyond)
                              : whole     ? rest() / kDirectBlock * kDirectBlock
                                          : rest();
  memory[0] = {records_.front().target + done_, bytes};
  return {(whole ? direct : opened)->descriptor.get(), at, {memory.data(), 1}};
}

std::optional<int> Read::advance(std::int64_t result) {
  if (result > 0) {
    done_ += static_cast<std::uint64_t>(result);
    return rest() == 0 ? std::optional(0) : std::nullopt;
  }
  if (result == 0)
    return kFaultEndOfFile;
  if (result == -EINTR)
    return std::nullopt;
  if (result == -EINVAL && direct) { // the file system asks for more than block boundaries
    direct.reset();
    return std::nullopt;
  }
  return static_cast<int>(-result);
}

void Read::settle(int ended) const {
  for (const Record& record : records_) {
    if (ended == 0 || has(record)) {
      *record.fault = check(record);
    } else if (ended == EIO && opened && records_.size() > 1) {
      Read alone(*batch_, {&record, 1});
      alone.opened = opened;
      alone.settle(read_waiting(alone));
    } else {
      *record.fault = ended;
    }
  }
}

void Read::end(int ended) {
  settle(ended);
  was_direct_ = direct != nullptr;
  direct.reset();
  opened.reset();
}

void Read::restart() {
  done_ = 0;
  opened.reset();
}

bool Read::has(const Record& record) const {
  return record.size == 0 ? opened != nullptr : record.end() <= position();
}

std::int32_t Read::check(const Record& record) const {
  const bool right = !batch_->has_sums || xxh3_64(record.target, record.size) == record.sum;
  return right ? 0 : kFaultChecksum;
}

bool Read::can_go_direct() const {
  const std::byte* expected = records_.front().target;
  const auto begin = reinterpret_cast<std::uintptr_t>(expected);
  std::uint64_t at = offset();
  for (const Record& record : records_) {
    if (record.target != expected || record.offset != at)
      return false;
    expected += record.size;
    at = record.end();
  }
  return (begin - offset()) % kDirectBlock == 0;
}

bool Read::copy_from(std::span<const std::byte> file) {
  if (offset() + size() > file.size())
    return false;
  for (const Record& record : records_)
    if (!copy_guarded(record.target, file.data() + record.offset, record.size))
      return false;
  done_ = size();
  return true;
}

int read_waiting(Read& read) {
  if (read.size() == 0)
    return 0;
  for (Read::Memory memory;;) {
    const Read::Step step = read.next_step(memory);
    const ssize_t bytes =
        ::preadv(step.fd, step.memory.data(), static_cast<int>(step.memory.size()),
                 static_cast<off_t>(step.offset));
    if (const auto ended = read.advance(bytes < 0 ? -errno : bytes))
      return *ended;
  }
}

// What the kernel answers instead of bytes is left to the next attempt, which may wait.
std::optional<int> read_cached(Read& read) {
  Read::Memory memory;
  while (read.opened->tells_cached.load(std::memory_order_relaxed)) {
    const Read::Step step = read.next_step(memory);
    const ssize_t bytes =
        ::preadv2(step.fd, step.memory.data(), static_cast<int>(step.memory.size()),
                  static_cast<off_t>(step.offset), RWF_NOWAIT);
    if (bytes < 0 && errno == EOPNOTSUPP)
      read.opened->tells_cached.store(false, std::memory_order_relaxed);
    if (bytes <= 0)
      break;
    if (const auto ended = read.advance(bytes))
      return ended;
  }
  return std::nullopt;
}

} // namespace thinwire
