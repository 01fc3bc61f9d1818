// File descriptors with an owner.
#pragma once

#include <utility>

namespace thinwire {

// Closed when its owner goes, and in every child of a fork: a forked process that held a socket
// open would hide from the peers that its parent is gone.
class Descriptor {
public:
  Descriptor() = default;
  explicit Descriptor(int fd);
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();
  void reset() { Descriptor().swap(*this); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

private:
  void swap(Descriptor& other) noexcept { std::swap(fd_, other.fd_); }
  int fd_ = -1;
};

} // namespace thinwire
