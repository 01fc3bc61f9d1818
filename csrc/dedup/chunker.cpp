#include "dedup/chunker.hpp"

#include "dedup/fastcdc.hpp"
#include "dedup/native.hpp"

namespace thinwire {
namespace {

class FixedChunker final : public Chunker {
public:
  explicit FixedChunker(const Profile& profile) : block_(profile.average) {}

  void update(std::span<const std::byte> piece, Ends& ends) override {
    size_ += piece.size();
    while (size_ - start_ >= block_)
      cut(start_ + block_, ends);
  }

private:
  const std::uint64_t block_;
};

} // namespace

std::unique_ptr<Chunker> make_chunker(const Profile& profile, unsigned threads) {
  switch (profile.cutting) {
  case Cutting::native:
    return std::make_unique<NativeChunker>(profile, threads);
  case Cutting::fastcdc2020:
    return std::make_unique<FastCdcChunker>(profile);
  case Cutting::fixed:
  case Cutting::aligned: // the blocks of one tensor; a list of tensors takes a chunker each
    break;
  }
  return std::make_unique<FixedChunker>(profile);
}

} // namespace thinwire
