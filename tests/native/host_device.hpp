// A device, emulated: a thread does what it is given in order, each a while later. What is called
// device memory has addresses that fault where the host touches them. Whoever waits too little sees
// wrong values.
#pragma once

#include "check.hpp"
#include "data.hpp"

#include "core/error.hpp"
#include "core/float_env.hpp"
#include "ring/device.hpp"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace emulation {

// No user's address has this bit.
inline constexpr std::uintptr_t kOnDevice = std::uintptr_t{1} << 62;

template <class T> T* on_device(T* memory) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(memory) | kOnDevice);
}

template <class T> T* behind(T* memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  CHECK(memory == nullptr || (address & kOnDevice) != 0);
  return reinterpret_cast<T*>(address & ~kOnDevice);
}

// Another device's memory, as one that has opened it sees it.
inline constexpr std::uintptr_t kOpened = std::uintptr_t{1} << 61;

// Memory that devices share: what a handle stands for. What nobody takes back stays.
class Shares {
public:
  static Shares& all() {
    static Shares shares;
    return shares;
  }

  std::string add(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::string handle = "share " + std::to_string(++last_);
    shares_[handle].memory.resize(bytes, std::byte{0x5a});
    return handle;
  }
  std::byte* open(const std::string& handle, std::size_t bytes, int users) {
    const std::lock_guard lock(mutex_);
    const auto share = shares_.find(handle);
    if (share == shares_.end() || share->second.memory.size() < bytes)
      throw thinwire::CudaError("the handle stands for no such memory");
    share->second.users += users;
    return share->second.memory.data();
  }
  // False where somebody has it open.
  bool end(const std::string& handle) {
    const std::lock_guard lock(mutex_);
    const bool is_open = shares_.at(handle).users != 0;
    shares_.erase(handle);
    return !is_open;
  }
  std::size_t count() {
    const std::lock_guard lock(mutex_);
    return shares_.size();
  }

private:
  struct Share {
    std::vector<std::byte> memory;
    int users = 0;
  };
  std::mutex mutex_;
  std::map<std::string, Share> shares_;
  int last_ = 0;
};

class Device final : public thinwire::Device {
public:
  explicit Device(std::uint64_t seed) : random_(seed), thread_([this] { run(); }) {}
  ~Device() override {
    settle();
    queue([this] { ended_ = true; });
    thread_.join();
    CHECK(memory_.empty());
    CHECK(opened_.empty());
  }

  // The call after so many more fails, and every later one.
  void fail_after(int calls) { calls_left_ = calls; }
  // Whether it does nothing of what it is given.
  void set_paused(bool is_paused) {
    {
      const std::lock_guard lock(mutex_);
      is_paused_ = is_paused;
    }
    changed_.notify_all();
  }
  // How often it was given work of a kind.
  struct Launches {
    std::atomic<int> encode = 0, decode = 0, fold = 0;
  };
  const Launches& launches() const { return launches_; }
  // Copies that still read or write memory of the host.
  int host_copies() const { return host_copies_; }
  // Whether `ready()` has passed.
  void set_ready(bool is_ready) { is_ready_ = is_ready; }
  void* ready() { return &is_ready_; }
  // Whether it can share memory, and open what others share.
  void set_shares(bool can_share, bool can_open) {
    can_share_ = can_share;
    can_open_ = can_open;
  }

  thinwire::cuda::Stream stream() const override { return nullptr; }

  std::byte* allocate(std::size_t bytes) override {
    count_call();
    auto* memory = new std::byte[bytes];
    std::memset(memory, 0x5a, bytes);
    const std::lock_guard lock(mutex_);
    memory_.insert(memory);
    return on_device(memory);
  }
  void free(std::byte* memory) noexcept override {
    queue([this, real = behind(memory)] {
      {
        const std::lock_guard lock(mutex_);
        memory_.erase(real);
      }
      delete[] real;
    });
  }

  thinwire::SharedMemory share(std::size_t bytes) override {
    count_call();
    if (!can_share_)
      throw thinwire::CudaError("the device of the test shares nothing");
    const std::string handle = Shares::all().add(bytes);
    std::byte* memory = on_device(Shares::all().open(handle, bytes, 0));
    shared_[memory] = handle;
    return {memory, handle};
  }
  void unshare(std::byte* memory) noexcept override {
    CHECK(Shares::all().end(shared_.at(memory)));
    shared_.erase(memory);
  }
  const std::byte* open(const std::string& handle, std::size_t bytes) override {
    count_call();
    if (!can_open_)
      throw thinwire::CudaError("the device of the test opens nothing");
    const std::byte* memory = Shares::all().open(handle, bytes, 1);
    const std::lock_guard lock(mutex_);
    opened_[memory] = {handle, bytes};
    return reinterpret_cast<const std::byte*>(reinterpret_cast<std::uintptr_t>(on_device(memory)) |
                                              kOpened);
  }
  void close(const std::byte* opened) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto found = opened_.find(reinterpret_cast<const std::byte*>(
        reinterpret_cast<std::uintptr_t>(behind(opened)) & ~kOpened));
    CHECK(found != opened_.end());
    Shares::all().open(found->second.handle, 0, -1);
    opened_.erase(found);
  }

  void copy_to_host(std::byte* to, const void* from, std::size_t bytes) override {
    copy_host([=, this] { std::memcpy(to, readable(from), bytes); });
  }
  void copy_to_device(std::byte* to, const std::byte* from, std::size_t bytes) override {
    copy_host([=] { std::memcpy(behind(to), from, bytes); });
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    call([=, this] { std::memcpy(behind(to), readable(from), bytes); });
  }
  void zero(void* to, std::size_t bytes) override {
    call([=] { std::memset(behind(to), 0, bytes); });
  }

  void encode(std::span<const thinwire::Encoding> frames) override;
  void decode(std::span<const thinwire::Decoding> frames) override;
  void fold(std::span<const thinwire::Folding> sums) override;
  void find_nonzero(std::span<const thinwire::Stretch> stretches, thinwire::DType dtype,
                    std::uint32_t* found) override;

  Mark mark() override {
    count_call();
    queue([this] { ++passed_; });
    return ++marks_;
  }
  bool passed(Mark mark) override {
    count_call();
    return passed_ >= mark;
  }
  bool passed(void* event) override {
    count_call();
    CHECK(event == ready());
    return is_ready_;
  }
  void settle() noexcept override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tasks_.empty() && !is_busy_; });
  }

private:
  struct Opened {
    std::string handle;
    std::size_t bytes;
  };

  // Its own memory, or what it has opened and not closed again.
  const void* readable(const void* memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(behind(memory));
    if ((address & kOpened) == 0)
      return reinterpret_cast<const void*>(address);
    const auto* real = reinterpret_cast<const std::byte*>(address & ~kOpened);
    const std::lock_guard lock(mutex_);
    const auto above = opened_.upper_bound(real);
    CHECK(above != opened_.begin() &&
          real < std::prev(above)->first + std::prev(above)->second.bytes);
    return real;
  }

  void count_call() {
    if (calls_left_ >= 0 && --calls_left_ < 0) {
      calls_left_ = 0;
      throw thinwire::CudaError("the device of the test failed");
    }
  }

  void call(std::function<void()> task) {
    count_call();
    queue(std::move(task));
  }

  void copy_host(std::function<void()> copy) {
    count_call();
    ++host_copies_;
    queue([this, copy = std::move(copy)] {
      copy();
      --host_copies_;
    });
  }

  void queue(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
  }

  void run() {
    const thinwire::FloatEnvironment environment;
    std::unique_lock lock(mutex_);
    while (!ended_) {
      changed_.wait(lock, [this] { return !is_paused_ && !tasks_.empty(); });
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      is_busy_ = true;
      lock.unlock();
      if (random_.below(4) == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(random_.below(100)));
      task();
      lock.lock();
      is_busy_ = false;
      changed_.notify_all();
    }
  }

  data::Random random_;
  std::atomic<int> calls_left_ = -1; // -1: any number
  std::atomic<bool> is_ready_ = true;
  std::atomic<Mark> passed_ = 0;
  std::atomic<int> host_copies_ = 0;
  Launches launches_;
  Mark marks_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::set<std::byte*> memory_;
  std::map<std::byte*, std::string> shared_;  // handles of its own memory
  std::map<const std::byte*, Opened> opened_; // others' memory
  std::atomic<bool> can_share_ = true, can_open_ = true;
  bool is_busy_ = false, is_paused_ = false, ended_ = false;
  std::thread thread_;
};

} // namespace emulation
