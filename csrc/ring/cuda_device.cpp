#include "ring/cuda_device.hpp"

#include "core/cuda_memory.hpp"
#include "dispatch/cuda_codec.hpp"
#include "dispatch/cuda_sums.hpp"
#include "ring/cuda_sharing.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <vector>

namespace thinwire {
namespace {

// Of a priority above that of the model's own work: what it waits for is small.
class PriorityStream {
public:
  PriorityStream() {
    int least = 0, greatest = 0;
    THINWIRE_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    THINWIRE_CUDA(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
  }
  ~PriorityStream() { cuda::forgive(cudaStreamDestroy(stream_)); }
  PriorityStream(const PriorityStream&) = delete;
  PriorityStream& operator=(const PriorityStream&) = delete;

  cudaStream_t get() const { return stream_; }

private:
  cudaStream_t stream_ = nullptr;
};

// Events in the order in which they were recorded, used again when they have passed.
class Events {
public:
  ~Events() {
    for (cudaEvent_t event : recorded_)
      cuda::forgive(cudaEventDestroy(event));
    for (cudaEvent_t event : spare_)
      cuda::forgive(cudaEventDestroy(event));
  }

  Device::Mark record(cudaStream_t stream) {
    if (spare_.empty()) {
      cudaEvent_t event = nullptr;
      THINWIRE_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      spare_.push_back(event);
    }
    THINWIRE_CUDA(cudaEventRecord(spare_.back(), stream));
    recorded_.push_back(spare_.back());
    spare_.pop_back();
    return passed_ + recorded_.size();
  }

  bool passed(Device::Mark mark) {
    while (passed_ < mark) {
      if (!has_passed(recorded_.front()))
        return false;
      spare_.push_back(recorded_.front());
      recorded_.pop_front();
      ++passed_;
    }
    return true;
  }

  static bool has_passed(cudaEvent_t event) {
    const cudaError_t found = cudaEventQuery(event);
    if (found == cudaErrorNotReady) {
      cudaGetLastError(); // no error
      return false;
    }
    THINWIRE_CUDA(found);
    return true;
  }

private:
  std::deque<cudaEvent_t> recorded_;
  std::vector<cudaEvent_t> spare_;
  Device::Mark passed_ = 0;
};

class CudaDevice final : public Device {
public:
  // The device must be the current one.
  explicit CudaDevice(int index)
      : index_(index), pool_(index, std::numeric_limits<std::uint64_t>::max()) {}
  ~CudaDevice() override { settle(); }

  cuda::Stream stream() const override { return stream_.get(); }

  std::byte* allocate(std::size_t bytes) override { return pool_.allocate(bytes, use()); }
  void free(std::byte* memory) noexcept override {
    cuda::forgive(cudaFreeAsync(memory, stream_.get()));
  }

  SharedMemory share(std::size_t bytes) override {
    use();
    return cuda::share(bytes);
  }
  void unshare(std::byte* memory) noexcept override { cuda::unshare(memory); }
  const std::byte* open(const std::string& handle, std::size_t bytes) override {
    use();
    return cuda::open_shared(handle, bytes);
  }
  void close(const std::byte*) noexcept override {} // see cuda::open_shared

  void copy_to_host(std::byte* to, const void* from, std::size_t bytes) override {
    THINWIRE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, use()));
  }
  void copy_to_device(std::byte* to, const std::byte* from, std::size_t bytes) override {
    THINWIRE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, use()));
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    THINWIRE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, use()));
  }
  void zero(void* to, std::size_t bytes) override {
    THINWIRE_CUDA(cudaMemsetAsync(to, 0, bytes, use()));
  }

  void encode(std::span<const Encoding> frames) override {
    const DeviceMemory work = room(cuda::work_bytes(frames));
    cuda::encode_payloads(frames, work.get(), use());
  }
  void decode(std::span<const Decoding> frames) override {
    const DeviceMemory work = room(cuda::work_bytes(frames));
    cuda::decode_payloads(frames, work.get(), use());
  }
  void fold(std::span<const Folding> sums) override {
    const DeviceMemory work = room(cuda::sum_work_bytes(sums));
    cuda::fold(sums, work.get(), use());
  }
  void find_nonzero(std::span<const Stretch> stretches, DType dtype,
                    std::uint32_t* found) override {
    const DeviceMemory work = room(cuda::sum_work_bytes(stretches.size()));
    cuda::find_nonzero(stretches, dtype, found, work.get(), use());
  }

  Mark mark() override { return events_.record(use()); }
  bool passed(Mark mark) override { return events_.passed(mark); }
  bool passed(void* event) override {
    use();
    return Events::has_passed(static_cast<cudaEvent_t>(event));
  }
  void settle() noexcept override { cuda::forgive(cudaStreamSynchronize(stream_.get())); }

private:
  // The stream, with its device the current one: of a thread that is the engine's own.
  cudaStream_t use() const {
    thread_local const cuda::BesideCaptures always;
    THINWIRE_CUDA(cudaSetDevice(index_));
    return stream_.get();
  }
  DeviceMemory room(std::size_t bytes) {
    return DeviceMemory(*this, std::max(bytes, std::size_t{1}));
  }

  const int index_;
  cuda::MemoryPool pool_; // the next slice needs as much
  PriorityStream stream_;
  Events events_;
};

} // namespace

std::shared_ptr<Device> cuda_device(int index) {
  const cuda::DeviceGuard guard(index);
  return std::make_shared<CudaDevice>(index);
}

} // namespace thinwire
