// The reader of records: right bytes from any mixture of files and records, tickets, many threads,
// closing.
#include "core/error.hpp"
#include "hash/xxh3.hpp"
#include "record_files.hpp"

#include <cerrno>
#include <random>
#include <sys/wait.h>
#include <thread>

namespace {

using namespace records;

Asked random_records(std::uint64_t seed, std::size_t count, std::uint32_t files,
                     std::uint64_t bytes, std::uint64_t longest) {
  std::mt19937_64 random(seed);
  Asked asked;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t size = random() % (longest + 1);
    asked.add(static_cast<std::uint32_t>(random() % files), random() % (bytes - size + 1), size);
  }
  return asked;
}

TEST(records_of_many_files_arrive_whole) {
  const Folder folder;
  const std::vector<std::string> paths = make_files(folder, 7, 300'000);
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    for (const std::uint64_t longest : {1U, 100U, 5'000U, 50'000U}) {
      Asked asked = random_records(longest, 100, 7, 300'000, longest);
      CHECK(read(reader, asked));
      CHECK(asked.all_right());
    }
  });
}

TEST(neighbours_are_read_together_gaps_thrown_away) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 1 << 20)};
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    Asked asked;
    for (std::uint64_t i = 0; i < 300; ++i)
      asked.add(0, (299 - i) * 1100, i % 3 == 0 ? 1100 : 1000); // with and without a gap
    asked.add(0, 400'000, 10);
    asked.add(0, 400'000, 10); // the same twice
    asked.add(0, 400'005, 10); // overlapping
    CHECK(read(reader, asked));
    CHECK(asked.all_right());
    const ReaderStats stats = reader.stats();
    CHECK(stats.merged >= 290);
    CHECK(stats.reads + stats.merged == 303);
  });
}

TEST(direct_reads_give_the_same_bytes) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 3'000'001)};
  with_each_engine([&](FileReaderOptions options) {
    options.direct = DirectReads::always;
    FileReader reader(paths, options);
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{4096}, std::uint64_t{777}}) {
      Asked asked;
      asked.add(0, offset, 2'000'003);
      CHECK(read(reader, asked, false, offset % kDirectBlock));
      CHECK(asked.all_right());
    }
    CHECK(reader.stats().direct == 3);
    Asked tail; // ends with the file, between two boundaries
    tail.add(0, 8192, 3'000'001 - 8192);
    CHECK(read(reader, tail));
    CHECK(tail.all_right());
    Asked beyond;
    beyond.add(0, 8192, 3'000'002 - 8192);
    CHECK(read(reader, beyond));
    CHECK(beyond.faults[0] == kFaultEndOfFile);
    Asked apart; // memory and file have their boundaries in different places
    apart.add(0, 1, 100'000);
    CHECK(read(reader, apart));
    CHECK(apart.all_right());
    CHECK(reader.stats().direct == 5);
  });
}

TEST(sums_are_checked) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 10'000)};
  std::vector<std::byte> bytes(10'000);
  for (std::uint64_t i = 0; i < bytes.size(); ++i)
    bytes[i] = byte_at(0, i);
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    Asked asked;
    for (std::uint64_t i = 0; i < 10; ++i)
      asked.add(0, i * 1000, 1000, xxh3_64(&bytes[i * 1000], 1000));
    asked.add(0, 0, 0, xxh3_64(nullptr, 0));
    asked.sums[4] ^= 1;
    CHECK(read(reader, asked, true));
    for (std::size_t i = 0; i < 11; ++i)
      CHECK(asked.faults[i] == (i == 4 ? kFaultChecksum : 0));
  });
}

TEST(tickets_may_be_waited_for_in_any_order_and_again) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 1 << 20)};
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    std::vector<Asked> asked;
    std::vector<std::uint64_t> tickets;
    for (std::uint64_t i = 0; i < 20; ++i)
      asked.push_back(random_records(i, 50, 1, 1 << 20, 3000));
    for (Asked& one : asked)
      tickets.push_back(reader.submit(one.request()));
    for (std::size_t i = tickets.size(); i-- > 0;) {
      CHECK(reader.wait(tickets[i], 30s));
      CHECK(asked[i].all_right());
      CHECK(reader.wait(tickets[i], 0s));
    }
    Asked nothing;
    CHECK(reader.wait(reader.submit(nothing.request()), 0s));
    CHECK_THROWS(InvalidArgument, "is not one of this reader's", reader.wait(9'999, 0s));
    CHECK_THROWS(InvalidArgument, "is not one of this reader's", reader.wait(0, 0s));
  });
}

TEST(arguments_are_checked_before_anything_is_read) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 100)};
  FileReader reader(paths, {});
  Asked wrong_file;
  wrong_file.add(0, 0, 10);
  wrong_file.add(1, 0, 10);
  CHECK_THROWS(InvalidArgument, "record 1 is in file 1; there are 1",
               reader.submit(wrong_file.request()));
  CHECK_THROWS(InvalidArgument, "record 1 is in file 1", reader.ahead(wrong_file.places()));
  CHECK(wrong_file.faults[0] == Asked::kUntold);
  Asked far;
  far.add(0, ~std::uint64_t{0}, 1);
  CHECK_THROWS(InvalidArgument, "ends where no file can", reader.ahead(far.places()));
  CHECK_THROWS(InvalidArgument, "depth is 0", FileReader(paths, {.depth = 0}));
  CHECK_THROWS(InvalidArgument, "threads is 1000", FileReader(paths, {.threads = 1000}));
}

TEST(many_threads_submit_and_wait) {
  const Folder folder;
  const std::vector<std::string> paths = make_files(folder, 4, 200'000);
  with_each_engine([&](const FileReaderOptions& options) {
    FileReader reader(paths, options);
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 6; ++t)
      threads.emplace_back([&, t] {
        for (std::uint64_t round = 0; round < 20; ++round) {
          Asked asked = random_records(100 * t + round, 40, 4, 200'000, 2'000);
          reader.ahead(asked.places());
          wrong += !read(reader, asked) || !asked.all_right();
          static_cast<void>(reader.stats());
        }
      });
    for (std::thread& thread : threads)
      thread.join();
    CHECK(wrong == 0);
  });
}

TEST(closing_in_the_middle_tells_every_record) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 8 << 20)};
  with_each_engine([&](const FileReaderOptions& options) {
    for (int round = 0; round < 4; ++round) {
      FileReader reader(paths, options);
      std::vector<Asked> asked;
      for (std::uint64_t i = 0; i < 30; ++i)
        asked.push_back(random_records(i, 100, 1, 8 << 20, 20'000));
      std::vector<std::uint64_t> tickets;
      for (Asked& one : asked)
        tickets.push_back(reader.submit(one.request()));
      bool all_ended = true;
      std::thread waiter([&] {
        for (const std::uint64_t ticket : tickets)
          all_ended &= reader.wait(ticket, 30s);
      });
      std::thread other([&] { reader.close(); });
      reader.close();
      other.join();
      waiter.join();
      CHECK(all_ended);
      for (Asked& one : asked)
        for (std::size_t i = 0; i < one.files.size(); ++i)
          CHECK(one.faults[i] == ECANCELED || one.is_right(i));
      CHECK_THROWS(InvalidArgument, "the reader is closed", reader.submit(asked[0].request()));
      CHECK_THROWS(InvalidArgument, "the reader is closed", reader.ahead(asked[0].places()));
    }
  });
}

TEST(the_child_of_a_fork_is_told_to_open_its_own) {
  const Folder folder;
  const std::vector<std::string> paths = {make_file(folder, 0, 100'000)};
  with_each_engine([&](const FileReaderOptions& options) {
    auto reader = std::make_unique<FileReader>(paths, options);
    Asked asked = random_records(1, 100, 1, 100'000, 1'000);
    CHECK(read(*reader, asked));
    const pid_t child = ::fork();
    if (child == 0) {
      Asked own = random_records(1, 10, 1, 100'000, 1'000);
      const bool refused = check::throws<InvalidArgument>("open one in the process that reads",
                                                          [&] { reader->submit(own.request()); });
      reader->close();
      reader.reset(); // neither waits for threads that are not there
      ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    CHECK(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(read(*reader, asked)); // the parent's goes on
    CHECK(asked.all_right());
  });
}

} // namespace
