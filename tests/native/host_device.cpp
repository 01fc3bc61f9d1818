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
  template <class Fn> std::vector<Work> list(Fn real) {
    std::vector<Work> found;
    for (Copy& copy : copies_)
      found.push_back(real(copy));
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

} // namespace

void Device::encode(std::span<const Encoding> frames) {
  ++launches_.encode;
  call([this, work = Copies(frames)]() mutable {
    const std::vector<Encoding> all = work.list([this](auto& copy) {
      Encoding real = copy.what;
      real.layout = &copy.layout;
      real.values = copy.values.view([this](const void* at) { return readable(at); });
      real.frame = behind(real.frame);
      real.nonfinite = behind(real.nonfinite);
      return real;
    });
    data::Memory memory(lane::work_bytes(std::span(all)));
    Launcher launcher(3, false);
    lane::encode_payloads(launcher, std::span(all), bytes(memory));
  });
}

void Device::decode(std::span<const Decoding> frames) {
  ++launches_.decode;
  call([this, work = Copies(frames)]() mutable {
    const std::vector<Decoding> all = work.list([this](auto& copy) {
      Decoding real = copy.what;
      real.layout = &copy.layout;
      real.frame = static_cast<const std::byte*>(readable(real.frame));
      real.out = behind(real.out);
      return real;
    });
    data::Memory memory(lane::work_bytes(std::span(all)));
    Launcher launcher(3, true);
    lane::decode_payloads(launcher, std::span(all), bytes(memory));
  });
}

void Device::fold(std::span<const Folding> sums) {
  ++launches_.fold;
  call([this, work = Copies(sums)]() mutable {
    const std::vector<Folding> all = work.list([this](auto& copy) {
      Folding real = copy.what;
      real.layout = &copy.layout;
      real.values = copy.values.view([this](const void* at) { return readable(at); });
      real.out = behind(real.out);
      return real;
    });
    data::Memory memory(lane::sum_work_bytes(std::span(all)));
    Launcher launcher(3, false);
    lane::fold(launcher, std::span(all), bytes(memory));
  });
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
