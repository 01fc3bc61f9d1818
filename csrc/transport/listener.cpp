#include "transport/listener.hpp"

#include "core/error.hpp"
#include "transport/sockets.hpp"
#include "transport/system.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>

namespace thinwire {
namespace {

constexpr std::size_t kMostGuests = 64; // sockets that have not finished the handshake
constexpr auto kRest = std::chrono::milliseconds(100);

} // namespace

// A listening socket.
class Listener::Door final : public Pollable {
public:
  Door(Listener& listener, Descriptor socket) : listener_(listener), socket_(std::move(socket)) {
    listener_.poller_.add(socket_.get(), EPOLLIN, *this);
  }
  ~Door() { listener_.poller_.remove(socket_.get(), *this); }

  void open(bool open) {
    if (std::exchange(open_, open) != open)
      listener_.poller_.change(socket_.get(), open ? EPOLLIN : 0u, *this);
  }

  void ready(std::uint32_t) override {
    for (std::size_t i = 0; i < kMostGuests; ++i) { // level-triggered: the others come next time
      Descriptor socket = accept_socket(socket_.get());
      if (!socket) {
        if (is_out_of_resources(errno))
          listener_.shut_until_ = Clock::now() + kRest;
        break;
      }
      listener_.admit(std::move(socket));
    }
    listener_.open_or_shut_doors(Clock::now());
  }

private:
  Listener& listener_;
  Descriptor socket_;
  bool open_ = true;
};

Listener::Listener(Poller& poller, Terms terms) : poller_(poller), terms_(std::move(terms)) {}

Listener::~Listener() = default;

void Listener::listen(Descriptor socket) {
  doors_.push_back(std::make_unique<Door>(*this, std::move(socket)));
}

bool Listener::is_full() const { return guests_.size() >= kMostGuests; }

// Where there are too many, the first that came makes room: ranks are quick.
void Listener::admit(Descriptor socket) {
  if (!may_enter(socket.get()))
    return;
  if (is_full()) {
    refuse(guests_.front(), "it gave way to others before it finished the handshake");
    guests_.erase(guests_.begin());
  }
  const std::string whom = Endpoint::remote(socket.get()).text();
  try {
    const bool is_local = Endpoint::local(socket.get()).family() == AF_UNIX;
    const auto welcome = [this, is_local](const Hello& hello) {
      return terms_.welcome(hello, is_local);
    };
    auto stream = is_local ? plain_stream(socket.get()) : terms_.stream(socket.get(), true);
    auto greeting = std::make_unique<Greeting>(std::move(socket), std::move(stream),
                                               terms_.handshake(welcome), false, poller_);
    guests_.push_back({std::move(greeting), Clock::now() + terms_.patience});
  } catch (const Error& error) {
    terms_.refused(whom + ": " + error.what(), nullptr);
  }
}

// By the address it came to, or on a Unix socket by its user.
bool Listener::may_enter(int socket) const {
  const Endpoint local = Endpoint::local(socket);
  if (local.family() == AF_UNIX)
    return is_same_user(socket);
  const auto& hosts = terms_.local_hosts;
  return hosts.empty() || std::find(hosts.begin(), hosts.end(), local.host()) != hosts.end();
}

bool Listener::progress() {
  const auto now = Clock::now();
  const std::size_t before = guests_.size();
  std::erase_if(guests_, [&](Guest& guest) { return see_to(guest, now); });
  open_or_shut_doors(now);
  return guests_.size() != before;
}

// Whether the guest has left, one way or the other.
bool Listener::see_to(Guest& guest, Clock::time_point now) {
  switch (guest.greeting->advance()) {
  case Handshake::State::done:
    terms_.joined(guest.greeting->take(), guest.greeting->handshake().other());
    return true;
  case Handshake::State::failed:
    if (!guest.greeting->was_abandoned())
      refuse(guest, guest.greeting->failure());
    return true;
  case Handshake::State::running:
    if (now < guest.deadline)
      return false;
    refuse(guest, "it did not finish the handshake in time");
    return true;
  }
  return true;
}

void Listener::refuse(const Guest& guest, const std::string& what) {
  terms_.refused(guest.greeting->remote().text() + ": " + what, &guest.greeting->handshake());
}

void Listener::open_or_shut_doors(Clock::time_point now) {
  for (const auto& door : doors_)
    door->open(now >= shut_until_);
}

Clock::time_point Listener::next_event() const {
  auto first = Clock::time_point::max();
  if (shut_until_ > Clock::now())
    first = shut_until_;
  for (const auto& guest : guests_)
    first = std::min(first, guest.deadline);
  return first;
}

} // namespace thinwire
