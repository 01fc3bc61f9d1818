// Files of known bytes, and requests for records of them.
#pragma once

#include "check.hpp"
#include "io/file_reader.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace records {

using namespace thinwire;
using namespace std::chrono_literals;

// A folder of this test's own, removed at its end.
class Folder {
public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "thinwire-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

private:
  std::filesystem::path path_;
};

// What byte `at` of file `file` is.
inline std::byte byte_at(std::uint32_t file, std::uint64_t at) {
  return static_cast<std::byte>((at * 0x9E3779B97F4A7C15U + file * 31 + (at >> 7)) >> 13);
}

inline std::string make_file(const Folder& folder, std::uint32_t file, std::uint64_t bytes) {
  const std::string path = folder / std::to_string(file);
  std::vector<char> data(bytes);
  for (std::uint64_t i = 0; i < bytes; ++i)
    data[i] = static_cast<char>(byte_at(file, i));
  std::ofstream(path, std::ios::binary).write(data.data(), static_cast<std::streamsize>(bytes));
  return path;
}

// Files 0 to `count`, of that many bytes each.
inline std::vector<std::string> make_files(const Folder& folder, std::uint32_t count,
                                           std::uint64_t bytes) {
  std::vector<std::string> paths;
  for (std::uint32_t file = 0; file < count; ++file)
    paths.push_back(make_file(folder, file, bytes));
  return paths;
}

// Records and the memory they are read into, side by side; a multiple of `alignment` each.
class Asked {
public:
  static constexpr std::int32_t kUntold = 12345;

  void add(std::uint32_t file, std::uint64_t offset, std::uint64_t size, std::uint64_t sum = 0) {
    files.push_back(file);
    offsets.push_back(offset);
    sizes.push_back(size);
    sums.push_back(sum);
  }

  // `shift`: bytes from a block boundary of memory to the first record.
  Request request(bool checked = false, std::size_t shift = 0) {
    std::uint64_t all = shift;
    for (const std::uint64_t size : sizes)
      all += size;
    memory_.assign(all + 2 * kDirectBlock, std::byte{0xEE});
    faults.assign(files.size(), kUntold);
    targets_.clear();
    auto at = (reinterpret_cast<std::uintptr_t>(memory_.data()) / kDirectBlock + 1) * kDirectBlock +
              shift;
    for (const std::uint64_t size : sizes) {
      targets_.push_back(at);
      at += size;
    }
    return {.places = places(),
            .targets = targets_,
            .sums =
                checked ? std::span<const std::uint64_t>(sums) : std::span<const std::uint64_t>(),
            .faults = faults};
  }
  Places places() const { return {files, offsets, sizes}; }

  std::span<const std::byte> record(std::size_t i) const {
    return {reinterpret_cast<const std::byte*>(targets_[i]), sizes[i]};
  }
  // Whether record i came, with the bytes of its file.
  bool is_right(std::size_t i) const {
    if (faults[i] != 0)
      return false;
    for (std::uint64_t at = 0; at < sizes[i]; ++at)
      if (record(i)[at] != byte_at(files[i], offsets[i] + at))
        return false;
    return true;
  }
  bool all_right() const {
    for (std::size_t i = 0; i < files.size(); ++i)
      if (!is_right(i))
        return false;
    return true;
  }

  std::vector<std::uint32_t> files;
  std::vector<std::uint64_t> offsets, sizes, sums;
  std::vector<std::int32_t> faults;

private:
  std::vector<std::uint64_t> targets_;
  std::vector<std::byte> memory_;
};

// Both engines, or the one there is.
inline std::vector<ReadEngine> engines() {
  std::vector<ReadEngine> found = {ReadEngine::preadv};
  if (FileReader({}, {}).engine() == ReadEngine::io_uring)
    found.push_back(ReadEngine::io_uring);
  return found;
}

// Both engines in turn; the name of the one is the context of failures.
template <class Act> void with_each_engine(Act act) {
  for (const ReadEngine engine : engines()) {
    check::context = engine == ReadEngine::io_uring ? "io_uring" : "preadv";
    act(FileReaderOptions{.threads = 2, .depth = 4, .engine = engine});
  }
}

// Whether it came to an end, not how.
inline bool read(FileReader& reader, Asked& asked, bool checked = false, std::size_t shift = 0) {
  return reader.wait(reader.submit(asked.request(checked, shift)), 30s);
}

} // namespace records
