#!/bin/sh
# Looks for what a build needs: Python 3.10 or newer with venv and headers, a C++20 compiler, make.
# Found: prints the Python's path. Missing: says on standard error what to install, and exits with 1.
# PYTHON and CXX, where set, are the only candidates.
set -u

apt='' dnf=''
lack() { # what is missing, Debian's package, Fedora's package
  echo "missing: $1" >&2
  apt="$apt $2"
  dnf="$dnf $3"
}

find_python() {
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
}

find_compiler() {
  for candidate in ${CXX:-c++ g++ clang++}; do
    if command -v "$candidate" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

compiles_cxx20() {
  echo '#include <bit>
        #include <concepts>
        static_assert(std::integral<int> && std::bit_cast<unsigned>(1.0f) != 0);' |
    "$1" -std=c++20 -fsyntax-only -x c++ - 2>/dev/null
}

python=$(find_python)
if [ -z "$python" ]; then
  lack "${PYTHON:-Python} 3.10 or newer" 'python3 python3-venv python3-dev' 'python3.12 python3.12-devel'
else
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    lack "the module venv of $python" "python$version-venv" "python$version"
  "$python" -c 'import os, sysconfig as s; open(os.path.join(s.get_path("include"), "Python.h")).close()' 2>/dev/null ||
    lack "the header files of $python" "python$version-dev" "python$version-devel"
fi

compiler=$(find_compiler)
if [ -z "$compiler" ]; then
  lack "a C++ compiler${CXX:+ ($CXX)}" g++ gcc-c++
elif ! compiles_cxx20 "$compiler"; then
  lack "C++20 in $compiler (GCC 11 or Clang 14 have it; choose with CXX=...)" g++-12 gcc-toolset-12-gcc-c++
fi

command -v make >/dev/null 2>&1 || lack make make make

if [ -n "$apt" ]; then
  sudo=''
  [ "$(id -u)" = 0 ] || sudo='sudo '
  command -v dnf >/dev/null 2>&1 || echo "install with: ${sudo}apt-get install$apt" >&2
  command -v apt-get >/dev/null 2>&1 || echo "install with: ${sudo}dnf install$dnf" >&2
  exit 1
fi
echo "$python"
