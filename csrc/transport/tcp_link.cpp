#include "transport/tcp_link.hpp"

#include "core/error.hpp"
#include "transport/endpoint.hpp"
#include "transport/interfaces.hpp"
#include "transport/system.hpp"
#include "transport/tcp_stripe.hpp"

#include <algorithm>
#include <array>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace thinwire {
namespace {

constexpr std::size_t kMostSentATurn = std::size_t{4} << 20; // what comes in wants its turn

constexpr auto kLastWords = std::chrono::milliseconds(100);

tcp_info info_of(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes);
  return info;
}

std::string congestion_of(int fd) {
  std::array<char, 16> name{};
  socklen_t bytes = name.size() - 1;
  ::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &bytes);
  return name.data();
}

std::string describe(int fd, std::size_t sockets) {
  const Endpoint local = Endpoint::local(fd);
  const std::string interface = interface_with(local);
  return local.text() + (interface.empty() ? "" : " (" + interface + ")") + " - " +
         Endpoint::remote(fd).text() + ", " + std::to_string(sockets) +
         (sockets == 1 ? " socket, " : " sockets, ") + congestion_of(fd);
}

} // namespace

TcpLink::TcpLink(int peer, FrameSink& sink, BlockPool& pool, Poller& poller,
                 std::vector<Channel> channels)
    : Link(peer), sink_(sink), last_received_(Clock::now()), last_sent_(last_received_) {
  stats_.kind = "tcp";
  for (Channel& channel : channels) {
    tag_bytes_ = channel.keys ? kTagBytes : 0;
    stripes_.push_back(std::make_unique<Stripe>(peer, sink, pool, poller, std::move(channel)));
  }
  stats_.detail = describe(stripes_.front()->fd(), stripes_.size());
}

TcpLink::~TcpLink() = default;

std::size_t TcpLink::tagged_bytes(const FrameHeader& header) const {
  return frame_bytes(header) + tag_bytes_;
}

void TcpLink::send(Outgoing frame) {
  if (failed_)
    return;
  if (backlog_ == 0)
    busy_since_ = Clock::now();
  backlog_ += tagged_bytes(frame.header);
  queue_.push(std::move(frame));
}

bool TcpLink::progress() {
  if (failed_)
    return false;
  try {
    const bool received = receive();
    if (!has_ended())
      return flush() || received;
    if (!received && has_said_all())
      fail(end_reason_);
    return received;
  } catch (const Error& error) {
    if (is_own_want(error))
      throw;
    fail(error.what());
    return true;
  }
}

bool TcpLink::receive() {
  std::size_t bytes = 0;
  for (const auto& stripe : stripes_)
    bytes += read(*stripe);
  if (bytes == 0)
    return false;
  stats_.received_bytes += bytes;
  last_received_ = Clock::now();
  return true;
}

std::size_t TcpLink::read(Stripe& stripe) {
  try {
    const FrameReader::Turn turn = stripe.read();
    if (turn.ended) {
      stripe.stop();
      note_end("it closed the connection");
    }
    return turn.bytes;
  } catch (const TransportError& error) {
    if (is_own_want(error))
      throw;
    stripe.stop();
    note_end(error.what());
    return 0;
  }
}

bool TcpLink::flush() {
  std::size_t total = 0, round = 0;
  do {
    round = 0;
    for (const auto& stripe : stripes_)
      round += write(*stripe);
    total += round;
  } while (round > 0 && total < kMostSentATurn && !has_ended());
  if (total > 0)
    count_sent(total);
  return total > 0;
}

std::size_t TcpLink::write(Stripe& stripe) {
  try {
    return stripe.write(queue_);
  } catch (const TransportError& error) {
    if (is_own_want(error))
      throw;
    note_end(error.what());
    return 0;
  }
}

// The link is of no more use, but the peer's last words may still be on their way, here or on
// another socket: why it closed.
void TcpLink::note_end(const std::string& reason) {
  if (has_ended())
    return;
  end_reason_ = reason;
  read_until_ = Clock::now() + kLastWords;
}

bool TcpLink::has_said_all() const {
  const bool all_ended = std::all_of(stripes_.begin(), stripes_.end(),
                                     [](const auto& stripe) { return stripe->is_stopped(); });
  return all_ended || Clock::now() >= read_until_;
}

void TcpLink::count_sent(std::size_t bytes) {
  last_sent_ = Clock::now();
  stats_.sent_bytes += bytes;
  backlog_ -= bytes;
  if (backlog_ == 0)
    stats_.busy_seconds += to_seconds(last_sent_ - busy_since_);
}

// Frames that a socket could take were queued since the last progress().
Clock::time_point TcpLink::next_event() const {
  if (has_ended())
    return failed_ ? Clock::time_point::max() : read_until_;
  const bool can_go_on = std::any_of(stripes_.begin(), stripes_.end(), [this](const auto& stripe) {
    return stripe->can_write(!queue_.empty());
  });
  return can_go_on ? Clock::time_point{} : Clock::time_point::max();
}

void TcpLink::detach() {
  while (!queue_.empty())
    backlog_ -= tagged_bytes(queue_.pop().header);
  for (const auto& stripe : stripes_)
    stripe->detach();
}

void TcpLink::fail(const std::string& reason) {
  failed_ = true;
  for (const auto& stripe : stripes_)
    stripe->stop();
  queue_ = {};
  backlog_ = 0;
  sink_.lost(peer(), reason);
}

LinkStats TcpLink::stats() const {
  LinkStats stats = stats_;
  if (backlog_ > 0)
    stats.busy_seconds += to_seconds(Clock::now() - busy_since_);
  for (const auto& stripe : stripes_) {
    const tcp_info info = info_of(stripe->fd());
    stats.sent_frames += stripe->sent_frames();
    stats.received_frames += stripe->received_frames();
    stats.retransmits += info.tcpi_total_retrans;
    const double rtt = 1e-6 * info.tcpi_rtt;
    if (rtt > 0 && (stats.rtt_seconds == 0 || rtt < stats.rtt_seconds))
      stats.rtt_seconds = rtt;
  }
  return stats;
}

} // namespace thinwire
