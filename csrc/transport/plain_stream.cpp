#include "transport/stream.hpp"

#include "transport/system.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace thinwire {
namespace {

class PlainStream final : public Stream {
public:
  explicit PlainStream(int fd) : fd_(fd) {}

  Result write(std::span<const iovec> parts) override {
    msghdr message = gathered(parts);
    return result(::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT), "sending");
  }

  Result read(std::span<const iovec> parts) override {
    msghdr message = gathered(parts);
    return result(::recvmsg(fd_, &message, MSG_DONTWAIT), "receiving");
  }

  void shut_down() override { ::shutdown(fd_, SHUT_WR); }

private:
  static msghdr gathered(std::span<const iovec> parts) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data()); // the kernel only reads them
    message.msg_iovlen = parts.size();
    return message;
  }

  static Result result(ssize_t bytes, const char* what) {
    if (bytes > 0)
      return {State::moved, static_cast<std::size_t>(bytes)};
    if (bytes == 0)
      return {State::ended};
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
      return {State::would_block};
    system_call_failed(what);
  }

  int fd_;
};

} // namespace

std::unique_ptr<Stream> plain_stream(int fd) { return std::make_unique<PlainStream>(fd); }

} // namespace thinwire
