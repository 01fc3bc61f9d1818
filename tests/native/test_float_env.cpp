// The floating-point environment of kernels: set for a call, and put back.
#include "check.hpp"
#include "core/cpu.hpp"
#include "core/float_env.hpp"
#include "data.hpp"
#include "dispatch/frame_codec.hpp"

#include <cfenv>
#include <optional>

namespace {

using namespace thinwire;

#if defined(__x86_64__)
using Control = std::uint32_t;
constexpr Control kFlush = 0x8040;    // flush to zero, denormals are zero
constexpr Control kSettings = 0xffc0; // the rest says what has happened
Control control() { return _mm_getcsr(); }
void set_control(Control value) { _mm_setcsr(value); }
#else
using Control = std::uint64_t;
constexpr Control kFlush = 1u << 24, kSettings = ~Control{0};
Control control() {
  Control value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
void set_control(Control value) { asm volatile("msr fpcr, %0" ::"r"(value) : "memory"); }
#endif

Control settings() { return control() & kSettings; }

// A thread that flushes denormals and rounds upwards, for a scope.
class Disturbed {
public:
  Disturbed() : saved_(control()) {
    std::fesetround(FE_UPWARD);
    set_control(control() | kFlush);
  }
  ~Disturbed() {
    std::fesetround(FE_TONEAREST);
    set_control(saved_);
  }

private:
  Control saved_;
};

// Neither computed by the compiler nor moved by it.
__attribute__((noinline)) float product(float a, float b) {
  volatile float factor = a;
  volatile float result = factor * b;
  return result;
}
bool flushes() { return product(0x1p-126f, 0.5f) == 0; }
bool rounds_up() { return product(0x1.000002p0f, 0x1.000002p0f) > 0x1.000004p0f; }

TEST(the_environment_is_set_and_restored) {
  CHECK(!flushes() && !rounds_up());
  const Disturbed disturbed;
  const Control before = settings();
  CHECK(flushes() && rounds_up());
  {
    const FloatEnvironment environment;
    CHECK(!flushes() && !rounds_up());
    {
      const FloatEnvironment nested;
      CHECK(!flushes() && !rounds_up());
    }
    CHECK(!flushes() && !rounds_up());
  }
  CHECK(flushes() && rounds_up());
  CHECK(settings() == before);
}

TEST(an_exception_restores_it_too) {
  const Disturbed disturbed;
  const Control before = settings();
  try {
    const FloatEnvironment environment;
    throw 1;
  } catch (int) {
  }
  CHECK(settings() == before);
}

// Everything that comes out of a codec: frame, residual, decoded values, and the folded values.
std::vector<std::uint8_t> outcome(const CodecSpec& spec, data::Kind kind, bool disturb) {
  constexpr std::size_t n = 1500;
  const data::Memory x = data::tensor(kind, DType::fp32, n, 1);
  data::Memory residual = data::tensor(data::Kind::tiny, DType::fp32, n, 2), out(4 * n),
               folded(4 * n);
  void* kept = residual.data();
  const FrameValues values{.x = x.data(),
                           .dtype = DType::fp32,
                           .scale = 0.3f,
                           .residual_in = {&kept, 1},
                           .residual_out = {&kept, 1}};
  const Layout layout(n, spec);
  data::Memory frame(layout.frame_bytes());
  {
    std::optional<Disturbed> scope;
    if (disturb)
      scope.emplace();
    fold(layout, values, reinterpret_cast<float*>(folded.data()));
    encode_frame(layout, {}, values, 5, frame.span());
    decode_frame(layout, frame.span(), out.data(), DType::fp32, false);
    decode_frame(layout, frame.span(), out.data(), DType::fp32, true);
  }
  std::vector<std::uint8_t> all;
  for (const data::Memory* part : {&frame, &residual, &out, &folded})
    all.insert(all.end(), part->data(), part->data() + part->size());
  return all;
}

TEST(codecs_do_not_depend_on_the_environment_of_the_thread) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (const CodecSpec& spec : data::every_spec())
      for (data::Kind kind : {data::Kind::ordinary, data::Kind::tiny, data::Kind::ties}) {
        check::context = std::string(name(target)) + " " + data::text(spec);
        CHECK(outcome(spec, kind, true) == outcome(spec, kind, false));
      }
  }
  force_target("");
}

TEST(denormals_are_not_zeros_in_any_environment) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (DType dtype : {DType::fp32, DType::fp16, DType::bf16}) {
      data::Memory x(33 * element_bytes(dtype));
      std::memset(x.data(), 0, x.size());
      x.data()[32 * element_bytes(dtype)] = 1;
      const Disturbed disturbed;
      CHECK(!is_zero(x.data(), 33, dtype));
      CHECK(is_zero(x.data(), 32, dtype));
      CHECK(count_nonfinite(x.data(), 33, dtype) == 0);
    }
  }
  force_target("");
}

} // namespace
