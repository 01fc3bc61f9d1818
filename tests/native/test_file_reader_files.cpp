// What can be wrong with files while records are read from them.
#include "core/error.hpp"
#include "core/guarded_copy.hpp"
#include "few_descriptors.hpp"
#include "record_files.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <sys/stat.h>
#include <thread>

namespace {

using namespace records;

TEST(a_file_that_cannot_be_read_is_the_fault_of_its_records) {
  const Folder folder;
  const std::string pipe = folder / "pipe";
  CHECK(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::vector<std::string> paths = {make_file(folder, 0, 1000), folder / "missing",
                                          folder / "", pipe, folder / "0/below"};
  const std::vector<int> expected = {0, ENOENT, EISDIR, ESPIPE, ENOTDIR};
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    Asked asked;
    for (std::uint32_t file = 0; file < paths.size(); ++file) {
      asked.add(file, 0, 100);
      asked.add(file, 500, 100);
    }
    CHECK(read(reader, asked));
    for (std::size_t i = 0; i < asked.files.size(); ++i)
      CHECK(asked.faults[i] == expected[asked.files[i]]);
    CHECK(asked.is_right(0) && asked.is_right(1));
    const std::vector<std::int64_t> sizes = reader.sizes();
    CHECK(sizes[0] == 1000);
    for (std::size_t file = 1; file < paths.size(); ++file)
      CHECK(sizes[file] == -expected[file]);
  });
}

TEST(a_file_without_permission_is_a_fault) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 1000)};
  ::chmod(paths[0].c_str(), 0);
  if (std::ifstream(paths[0]).good())
    return; // root may read everything
  FileReader reader(paths, {});
  Asked asked;
  asked.add(0, 0, 10);
  CHECK(read(reader, asked));
  CHECK(asked.faults[0] == EACCES);
}

TEST(records_beyond_the_end_are_told_apart_from_those_before) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 10'000), make_file(folder, 1, 0)};
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    Asked asked;
    for (std::uint64_t at = 0; at < 12'000; at += 1'500) // neighbours: one read
      asked.add(0, at, 1'500);
    asked.add(0, 1ULL << 60, 5);
    asked.add(1, 0, 1);
    asked.add(0, 1ULL << 60, 0); // nothing to read anywhere
    CHECK(read(reader, asked));
    for (std::size_t i = 0; i < 6; ++i)
      CHECK(asked.is_right(i));
    for (std::size_t i = 6; i < 10; ++i)
      CHECK(asked.faults[i] == kFaultEndOfFile);
    CHECK(asked.faults[10] == 0);
  });
}

TEST(memory_that_cannot_be_written_is_a_fault) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 1000)};
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    Asked asked;
    asked.add(0, 0, 100);
    Request request = asked.request();
    const std::uint64_t nowhere = 0;
    request.targets = {&nowhere, 1};
    CHECK(reader.wait(reader.submit(request), 30s));
    CHECK(asked.faults[0] == EFAULT);
  });
}

TEST(more_files_than_descriptors) {
  const Folder folder;
  const std::vector<std::string> paths = make_files(folder, 300, 2'000);
  Asked asked;
  for (std::uint32_t file = 0; file < 300; ++file)
    asked.add(file, file, 1'500);
  with_each_engine([&](const FileReaderOptions& options) {
    const FewDescriptors few(64);
    FileReader reader(paths, options);
    for (int round = 0; round < 3; ++round) {
      CHECK(read(reader, asked));
      CHECK(asked.all_right());
    }
  });
}

// Often enough that its file counts as hot.
void warm_up(FileReader& reader) {
  for (int round = 0; round < 10; ++round) {
    Asked asked;
    for (std::uint64_t i = 0; i < 32; ++i)
      asked.add(0, i * 10'000, 100);
    CHECK(read(reader, asked));
    CHECK(asked.all_right());
  }
}

TEST(hot_files_give_the_same_bytes_until_they_shrink) {
  const Folder folder;
  with_each_engine([&](const FileReaderOptions& options) {
    const std::vector<std::string> paths = {make_file(folder, 0, 2'500'000)};
    FileReader reader(paths, options);
    warm_up(reader);
    Asked many; // too many for the caller's thread
    for (std::uint64_t i = 0; i < 400; ++i)
      many.add(0, i * 6'000, 1'000);
    CHECK(read(reader, many));
    CHECK(many.all_right());
    CHECK(::truncate(paths[0].c_str(), 200'100) == 0);
    CHECK(read(reader, many));
    for (std::size_t i = 0; i < 400; ++i)
      CHECK(i <= 33 ? many.is_right(i) : many.faults[i] == kFaultEndOfFile);
    Asked asked;
    asked.add(0, 100'000, 1'000);
    asked.add(0, 200'000, 100);
    asked.add(0, 200'000, 101); // in the last page, where a mapping has zeros
    asked.add(0, 300'000, 100); // in a page that is not there
    CHECK(read(reader, asked));
    CHECK(asked.is_right(0));
    CHECK(asked.is_right(1));
    CHECK(asked.faults[2] == kFaultEndOfFile);
    CHECK(asked.faults[3] == kFaultEndOfFile);
    make_file(folder, 0, 500'000); // the same file, grown
    warm_up(reader);
    Asked grown;
    grown.add(0, 450'000, 1'000);
    CHECK(read(reader, grown));
    CHECK(grown.all_right());
  });
}

TEST(a_file_may_shrink_and_grow_while_it_is_read) {
  const Folder folder;
  with_each_engine([&](const FileReaderOptions& options) {
    const std::vector<std::string> paths = {make_file(folder, 0, 400'000)};
    FileReader reader(paths, options);
    std::atomic<bool> over = false;
    int failures = 0;
    std::thread writer([&] {
      while (!over) {
        failures += ::truncate(paths[0].c_str(), 100'000) != 0;
        std::this_thread::sleep_for(100us);
        make_file(folder, 0, 400'000);
      }
    });
    for (int round = 0; round < 200; ++round) {
      Asked asked;
      for (std::uint64_t i = 0; i < 30; ++i)
        asked.add(0, i * 13'000, 5'000);
      CHECK(read(reader, asked));
      for (const std::int32_t fault : asked.faults)
        CHECK(fault == 0 || fault == kFaultEndOfFile);
    }
    over = true;
    writer.join();
    CHECK(failures == 0);
  });
}

TEST(a_handler_of_others_ends_guarded_copies_and_keeps_its_signals) {
  static std::atomic<int> caught = 0;
  CHECK(copies_are_guarded());
  struct sigaction others{}, ours{};
  others.sa_handler = [](int) { ++caught; };
  CHECK(::sigaction(SIGBUS, &others, &ours) == 0);
  CHECK(!copies_are_guarded());
  ::raise(SIGBUS);
  CHECK(caught == 1);
  CHECK(::sigaction(SIGBUS, &ours, nullptr) == 0);
  CHECK(copies_are_guarded());
}

} // namespace
