// What the emulated device does with frames and sums: the code of the CUDA kernels.
#include "host_device.hpp"

#include "host_warp.hpp"

#include "dispatch/warp_sums.hpp"

#include <type_traits>

namespace emulation {
namespace {

using namespace thinwire;

// What an encoder is told, with lists of its own.
class Values {
public:
  explicit Values(const FrameValues& values)
      : in_(values.residual_in.begin(), values.residual_in.end()),
        out_(values.residual_out.begin(), values.residual_out.end()),
        held_(values.held.begin(), values.held.end()), view_(values) {}

  // With the addresses behind those of the device. What is only read may lie in another's memory.
  template <class Fn> FrameValues view(Fn readable) {
    for (void*& residual : in_)
      residual = const_cast<void*>(readable(residual));
    for (void*& residual : out_)
      residual = behind(residual);
    view_.x = readable(view_.x);
    view_.residual_in = in_;
    view_.residual_out = out_;
    view_.held = held_;
    return view_;
  }

private:
  std::vector<void*> in_, out_;
  std::vector<std::uint8_t> held_;
  FrameValues view_;
};

// The addresses behind those of the device.
template <class Readable> void find(Encoding& work, Readable) {
  work.frame = behind(work.frame);
  work.nonfinite = behind(work.nonfinite);
}
template <class Readable> void find(Decoding& work, Readable readable) {
  work.frame = static_cast<const std::byte*>(readable(work.frame));
  work.out = behind(work.out);
}
template <class Readable> void find(Folding& work, Readable) { work.out = behind(work.out); }

// Work, with layouts and lists of its own: those it came with are gone when it is done.
template <class Work> class Copies {
public:
  explicit Copies(std::span<const Work> all) {
    for (const Work& work : all) {
      if constexpr (requires { work.values; })
        copies_.push_back({work, *work.layout, Values(work.values)});
      else
        copies_.push_back({work, *work.layout});
    }
  }
  // As the host can do it.
  template <class Readable> std::vector<Work> real(Readable readable) {
    std::vector<Work> found;
    for (Copy& copy : copies_) {
      copy.what.layout = &copy.layout;
      if constexpr (requires { copy.values; })
        copy.what.values = copy.values.view(readable);
      find(copy.what, readable);
      found.push_back(copy.what);
    }
    return found;
  }

private:
  struct Bare {
    Work what;
    Layout layout;
  };
  struct WithValues {
    Work what;
    Layout layout;
    Values values;
  };
  using Copy = std::conditional_t<requires(Work work) { work.values; }, WithValues, Bare>;
  std::vector<Copy> copies_;
};

std::byte* bytes(data::Memory& memory) { return memory.span().data(); }

// What is queued for a list of work: run(launcher, all).
template <class Work, class Readable, class Run>
auto task(std::span<const Work> all, bool backward, Readable readable, Run run) {
  return [copies = Copies(all), backward, readable, run]() mutable {
    const std::vector<Work> real = copies.real(readable);
    Launcher launcher(3, backward);
    run(launcher, std::span(real));
  };
}

} // namespace

void Device::encode(std::span<const Encoding> frames) {
  ++launches_.encode;
  call(task(
      frames, /*backward=*/false, [this](const void* at) { return readable(at); },
      [](Launcher& launcher, std::span<const Encoding> all) {
        data::Memory memory(lane::work_bytes(all));
        lane::encode_payloads(launcher, all, bytes(memory));
      }));
}

void Device::decode(std::span<const Decoding> frames) {
  ++launches_.decode;
  call(task(
      frames, /*backward=*/true, [this](const void* at) { return readable(at); },
      [](Launcher& launcher, std::span<const Decoding> all) {
        data::Memory memory(lane::work_bytes(all));
        lane::decode_payloads(launcher, all, bytes(memory));
      }));
}

void Device::fold(std::span<const Folding> sums) {
  ++launches_.fold;
  call(task(
      sums, /*backward=*/false, [this](const void* at) { return readable(at); },
      [](Launcher& launcher, std::span<const Folding> all) {
        data::Memory memory(lane::sum_work_bytes(all));
        lane::fold(launcher, all, bytes(memory));
      }));
}

void Device::find_nonzero(std::span<const Stretch> stretches, DType dtype, std::uint32_t* found) {
  std::vector<Stretch> real;
  for (const Stretch& stretch : stretches)
    real.push_back({behind(stretch.values), stretch.count});
  call([=] {
    Launcher launcher(3, true);
    data::Memory work(lane::sum_work_bytes(real.size()));
    lane::find_nonzero(launcher, real, dtype, behind(found), bytes(work));
  });
}

} // namespace emulation
