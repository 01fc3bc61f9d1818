// Registers regions with the CUDA driver, in the background and one after the other: the driver
// holds a lock of its own meanwhile, and others must get at it between two.
#pragma once

#include "pool/cuda_driver.hpp"
#include "pool/region.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace thinwire::pool {

class Registrar {
public:
  // `done` hears of each region what went wrong with it, or "".
  using Done = std::function<void(Region&, const std::string& failure)>;

  Registrar(CudaDriver& driver, Done done) : driver_(driver), done_(std::move(done)) {}
  ~Registrar() { settle(); }

  void add(Region& region);
  void release(Region& region) { driver_.unpin(region.begin()); }
  void settle(); // waits until there is nothing to do
  void end();    // waits for the region that is being registered; the others stay as they are
  double seconds() const;

private:
  void run();

  CudaDriver& driver_;
  const Done done_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Region*> todo_;
  bool running_ = false; // there is a thread while there is work
  bool is_over_ = false;
  double seconds_ = 0;
};

} // namespace thinwire::pool
