#include "transport/tcp_stripe.hpp"

#include <sys/epoll.h>

namespace thinwire {
namespace {

constexpr std::size_t kMostReadATurn = std::size_t{1} << 20; // other sockets want their turn

std::optional<Blake3Key> key_of(const Channel& channel, Blake3Key SessionKeys::* key) {
  return channel.keys ? std::optional((*channel.keys).*key) : std::nullopt;
}

} // namespace

TcpLink::Stripe::Stripe(int peer, FrameSink& sink, BlockPool& pool, Poller& poller, Channel channel)
    : poller_(poller), channel_(std::move(channel)), writer_(key_of(channel_, &SessionKeys::send)),
      reader_(peer, sink, pool, key_of(channel_, &SessionKeys::receive)), interest_(EPOLLIN) {
  poller_.add(fd(), interest_, *this);
}

TcpLink::Stripe::~Stripe() { stop(); }

void TcpLink::Stripe::stop() {
  if (stopped_)
    return;
  stopped_ = true;
  poller_.remove(fd(), *this);
  channel_.stream->shut_down();
  writer_.drop();
  reader_.drop();
}

std::size_t TcpLink::Stripe::write(FrameQueue& queue) {
  if (blocked_ || stopped_)
    return 0;
  if (writer_.is_idle())
    writer_.load(queue);
  if (writer_.is_idle())
    return 0;
  const Stream::Result result = writer_.write(*channel_.stream);
  blocked_ = result.state == Stream::State::would_block;
  update_interest();
  return result.bytes;
}

FrameReader::Turn TcpLink::Stripe::read() {
  if (!readable_ || stopped_)
    return {};
  const FrameReader::Turn turn = reader_.read(*channel_.stream, kMostReadATurn);
  readable_ = !turn.drained;
  update_interest();
  return turn;
}

void TcpLink::Stripe::ready(std::uint32_t events) {
  const bool in = (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
  const bool out = (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
  readable_ |= in || (out && channel_.stream->read_wants_write());
  if (out || (in && channel_.stream->write_wants_read()))
    blocked_ = false;
  update_interest();
}

// The poller is level-triggered: room to write is asked for only while something waits for it.
void TcpLink::Stripe::update_interest() {
  const bool wants_out =
      (blocked_ && !channel_.stream->write_wants_read()) || channel_.stream->read_wants_write();
  const std::uint32_t interest = EPOLLIN | (wants_out ? EPOLLOUT : 0u);
  if (interest != interest_)
    poller_.change(fd(), interest_ = interest, *this);
}

} // namespace thinwire
