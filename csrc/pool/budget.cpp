#include "pool/budget.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <sys/resource.h>

namespace thinwire::pool {
namespace {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

// The number in a file that holds nothing else; none for "max" and for no file.
std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::size_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

// The number after a word, in a file of such lines.
std::optional<std::size_t> number_after(const std::string& word, const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    std::size_t number = 0;
    if (words >> first >> number && first == word)
      return number;
  }
  return std::nullopt;
}

// The files of one version of control groups.
struct Files {
  const char* most;
  const char* now;
  const char* reclaimable; // in memory.stat
};

constexpr Files kVersion1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes",
                             "total_inactive_file"};
constexpr Files kVersion2 = {"/memory.max", "/memory.current", "inactive_file"};

std::size_t left_in(const std::string& group, const Files& files) {
  const auto most = number_in(group + files.most);
  if (!most)
    return kUnlimited;
  const std::size_t now = number_in(group + files.now).value_or(0);
  const std::size_t reclaimable =
      std::min(now, number_after(files.reclaimable, group + "/memory.stat").value_or(0));
  return *most - std::min(*most, now - reclaimable);
}

// The least of a group and those above it. Inside a container the path may be that of the host:
// then only the mount itself is there.
std::size_t left_up_from(const std::string& mount, std::string path, const Files& files) {
  std::size_t left = left_in(mount, files);
  while (path.size() > 1) {
    left = std::min(left, left_in(mount + path, files));
    path.resize(path.rfind('/'));
  }
  return left;
}

// Lines as in "4:memory:/docker/1f2e" (version 1) and "0::/system.slice" (version 2).
std::size_t left_by_groups(const std::string& root) {
  const std::string mounts = root + "/sys/fs/cgroup";
  std::size_t left = kUnlimited;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    const std::string path = line.substr(second + 1);
    std::string controllers = line.substr(first, second - first + 1); // ":cpu,memory:"
    std::replace(controllers.begin(), controllers.end(), ',', ':');
    if (controllers == "::")
      left = std::min(left, left_up_from(mounts, path, kVersion2));
    else if (controllers.find(":memory:") != std::string::npos)
      left = std::min(left, left_up_from(mounts + "/memory", path, kVersion1));
  }
  return left;
}

std::size_t share_of_available(const std::string& root) {
  const auto kib = number_after("MemAvailable:", root + "/proc/meminfo");
  return kib ? *kib / 5 * 4 * 1024 : kUnlimited;
}

} // namespace

Budget budget(std::size_t asked, const std::string& root) {
  const std::array<Budget, 3> all = {{{asked == 0 ? kUnlimited : asked, "the caller"},
                                      {left_by_groups(root), "the control group"},
                                      {share_of_available(root), "available memory"}}};
  return *std::min_element(all.begin(), all.end(),
                           [](const Budget& a, const Budget& b) { return a.bytes < b.bytes; });
}

std::size_t lockable_bytes() {
  rlimit limit{};
  return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 ? limit.rlim_cur : 0;
}

} // namespace thinwire::pool
