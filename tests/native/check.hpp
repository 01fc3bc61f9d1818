// Checks and the program around them: TEST(name) { CHECK(...); } Every failure is printed; the
// first does not end the test. `main` is in check.cpp.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int failures = 0;
inline std::string context; // printed with a failure: which case it was

inline void report(bool passed, const char* file, int line, const std::string& what) {
  if (passed)
    return;
  std::printf("%s:%d: %s%s%s\n", file, line, what.c_str(), context.empty() ? "" : "  in ",
              context.c_str());
  ++failures;
}

struct Registration {
  Registration(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

// Whether `act` throws an E whose text contains `part`.
template <class E, class Act> bool throws(const std::string& part, Act&& act) {
  try {
    act();
  } catch (const E& error) {
    return std::string(error.what()).find(part) != std::string::npos;
  }
  return false;
}

} // namespace check

#define TEST(name)                                                                                 \
  static void name();                                                                              \
  static const check::Registration registration_of_##name(#name, name);                            \
  static void name()

#define CHECK(condition) check::report((condition), __FILE__, __LINE__, #condition)
#define CHECK_THROWS(error, part, expression)                                                      \
  check::report(check::throws<error>(part, [&] { expression; }), __FILE__, __LINE__,               \
                #expression " throws " #error " with '" + std::string(part) + "'")
