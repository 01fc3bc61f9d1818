#include "pool/numa.hpp"

#include <array>
#include <climits>
#include <fstream>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

namespace thinwire::pool {
namespace {

constexpr int kPreferred = 1; // MPOL_PREFERRED; <linux/mempolicy.h> is not everywhere
constexpr std::size_t kMostNodes = 1024;
constexpr std::size_t kWordBits = sizeof(unsigned long) * CHAR_BIT;

bool several_nodes() {
  std::ifstream file("/sys/devices/system/node/has_memory"); // as in "0-1" or "0,2"
  std::string nodes;
  return file >> nodes && nodes.find_first_of(",-") != std::string::npos;
}

} // namespace

void prefer_this_node(std::byte* begin, std::size_t bytes) {
  unsigned core = 0;
  unsigned node = 0;
  if (!several_nodes() || syscall(SYS_getcpu, &core, &node, nullptr) != 0 || node >= kMostNodes)
    return;
  std::array<unsigned long, kMostNodes / kWordBits> nodes{};
  nodes[node / kWordBits] = 1UL << (node % kWordBits);
  // What fails here costs speed, nothing else.
  syscall(SYS_mbind, begin, bytes, kPreferred, nodes.data(), kMostNodes + 1, 0);
}

} // namespace thinwire::pool
