#include "transport/openssl.hpp"

#include "core/error.hpp"

#include <cstring>
#include <dlfcn.h>
#include <system_error>

namespace thinwire::openssl {
namespace {

constexpr unsigned long kOldestVersion = 0x30000000; // 3.0.0; LibreSSL calls itself 2.0.0

[[noreturn]] void absent(const std::string& why) {
  throw NotBuilt("TLS needs OpenSSL 3 (libssl.so.3), which " + why +
                 ": install libssl3 (Debian, Ubuntu) or openssl-libs (Fedora)");
}

// It stays open: threads and other libraries may use it as well.
void* open_library() {
  for (const char* name : {"libssl.so.3", "libssl.so"})
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL))
      return library;
  absent("could not be opened");
}

// libcrypto's functions are found through libssl, which depends on it: so the two always match.
template <class Function> void find(void* library, const char* name, Function& function) {
  void* symbol = dlsym(library, name);
  if (!symbol)
    absent(std::string("lacks ") + name);
  static_assert(sizeof symbol == sizeof function);
  std::memcpy(&function, &symbol, sizeof function);
}

Functions load() {
  void* library = open_library();
  Functions found;
#define THINWIRE_FIND(result, name, parameters) find(library, #name, found.name);
  THINWIRE_OPENSSL_FUNCTIONS(THINWIRE_FIND)
#undef THINWIRE_FIND
  if (found.OpenSSL_version_num() < kOldestVersion)
    absent("is too old");
  return found;
}

} // namespace

const Functions& functions() {
  static const Functions loaded = load();
  return loaded;
}

std::string take_error() {
  constexpr unsigned long kSystemError = 0x80000000; // the rest is errno
  const unsigned long error = functions().ERR_get_error();
  functions().ERR_clear_error();
  if (error == 0)
    return "";
  if ((error & kSystemError) != 0)
    return std::generic_category().message(static_cast<int>(error & ~kSystemError));
  const char* reason = functions().ERR_reason_error_string(error);
  return reason ? reason : "error " + std::to_string(error);
}

} // namespace thinwire::openssl
