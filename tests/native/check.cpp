#include "check.hpp"

int main() {
  for (const check::Test& test : check::tests()) {
    const int before = check::failures;
    check::context.clear();
    test.run();
    std::printf("%-4s %s\n", check::failures == before ? "ok" : "FAIL", test.name);
  }
  return check::failures == 0 ? 0 : 1;
}
