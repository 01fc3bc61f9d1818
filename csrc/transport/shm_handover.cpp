#include "transport/shm_handover.hpp"

#include "core/error.hpp"
#include "transport/system.hpp"

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <vector>

namespace thinwire {
namespace {

constexpr std::size_t kMostDescriptors = 2;

union ControlBuffer {
  cmsghdr header; // for its alignment
  char bytes[CMSG_SPACE(kMostDescriptors * sizeof(int))];
};

// One byte with descriptors. The socket's buffer is empty: it always has room for that.
void send_descriptors(int socket, std::initializer_list<int> fds) {
  char byte = 0;
  iovec part{&byte, 1};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), fds.begin(), fds.size() * sizeof(int));
  if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
    system_call_failed("handing over shared memory");
}

// Empty where nothing has come yet.
std::vector<Descriptor> receive_descriptors(int socket) {
  char byte;
  iovec part{&byte, 1};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return {};
  if (got <= 0)
    throw TransportError("it closed the connection while shared memory was handed over");
  std::vector<Descriptor> descriptors;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= header->cmsg_len; at += sizeof(int)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
      descriptors.emplace_back(fd);
    }
  // The kernel drops what this process has no room for; a sender could also send too many.
  if ((message.msg_flags & MSG_CTRUNC) != 0 && descriptors.size() < kMostDescriptors) {
    errno = EMFILE;
    system_call_failed("taking over shared memory");
  }
  return descriptors;
}

} // namespace

ShmHandover::ShmHandover(int peer, FrameSink& sink, Poller& poller, const Waker& waker,
                         Channel channel, bool connected)
    : peer_(peer), sink_(sink), poller_(poller), waker_(waker), channel_(std::move(channel)),
      connected_(connected) {
  if (connected_) {
    const Descriptor memory = SharedSegment::make_memfd();
    segment_ = SharedSegment::map(memory.get(), true);
    send_descriptors(channel_.fd.get(), {memory.get(), waker_.fd()});
  }
  poller_.add(channel_.fd.get(), EPOLLIN, *this);
}

ShmHandover::~ShmHandover() {
  if (!hung_up_)
    poller_.remove(channel_.fd.get(), *this);
}

std::unique_ptr<ShmLink> ShmHandover::take_link() {
  if (linked_ || !std::exchange(readable_, false))
    return nullptr;
  std::vector<Descriptor> descriptors = receive_descriptors(channel_.fd.get());
  if (descriptors.empty())
    return nullptr;
  if (descriptors.size() != (connected_ ? 1u : 2u))
    throw TransportError("it handed over the wrong number of descriptors");
  if (!connected_) {
    segment_ = SharedSegment::map(descriptors.front().get(), false);
    send_descriptors(channel_.fd.get(), {waker_.fd()});
  }
  linked_ = true;
  poller_.change(channel_.fd.get(), EPOLLRDHUP, *this); // nothing but its end is of interest now
  return std::make_unique<ShmLink>(
      peer_, sink_, std::move(segment_), connected_,
      std::make_shared<const Descriptor>(std::move(descriptors.back())), "shm");
}

void ShmHandover::ready(std::uint32_t) {
  readable_ = true;
  if (!linked_)
    return;
  hung_up_ = true;
  poller_.remove(channel_.fd.get(), *this);
}

} // namespace thinwire
