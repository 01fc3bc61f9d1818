#include "transport/mesh_state.hpp"

#include "core/error.hpp"
#include "transport/sockets.hpp"
#include "transport/system.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace thinwire {
namespace {

constexpr std::size_t kMostEvents = 64;
constexpr int kMostSockets = 64;
constexpr double kMostPatience = 5; // seconds for a stranger's handshake

std::uint64_t random_token() {
  std::uint64_t token;
  fill_randomly(std::as_writable_bytes(std::span(&token, 1)));
  return token;
}

std::string name_of(std::uint64_t token) {
  std::array<char, 32> name;
  std::snprintf(name.data(), name.size(), "thinwire-%016llx",
                static_cast<unsigned long long>(token));
  return name.data();
}

} // namespace

Mesh::State::State(int rank, int ranks, const NetworkOptions& options, Poller& poller,
                   const Waker& waker, BlockPool& pool, FrameSink& sink)
    : rank(rank), ranks(ranks), options(options), poller_(poller), waker_(waker), pool_(pool),
      sink_(sink), losses_(sink), interfaces_(usable_interfaces(options.interfaces)) {
  if (options.sockets < 1 || options.sockets > kMostSockets)
    throw InvalidArgument("sockets is " + std::to_string(options.sockets) + ", not 1 to " +
                          std::to_string(kMostSockets));
  if (options.tls.enabled)
    tls_ = std::make_unique<TlsContext>(options.tls, options.secret);
  tcp_socket_ = listen_tcp(options.first_port, options.last_port);
  tune_tcp(tcp_socket_.get(), options.congestion, 0); // a wrong name is found out now
  address.hosts = hosts_of(interfaces_);
  address.port = Endpoint::local(tcp_socket_.get()).port();
  address.token = random_token();
  address.local_name = name_of(address.token);
  unix_socket_ = listen_unix(address.local_name);
}

void Mesh::State::set_peers(std::uint64_t group, std::vector<PeerAddress> addresses,
                            std::vector<LinkKind> kinds) {
  const auto count = static_cast<std::size_t>(ranks);
  if (addresses.size() != count || kinds.size() != count)
    throw InvalidArgument("set_peers takes an address and a kind for each of " +
                          std::to_string(ranks) + " ranks");
  group_ = group;
  peers.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    Peer& peer = peers[i];
    peer.rank = static_cast<int>(i);
    peer.kind = kinds[i];
    peer.token = addresses[i].token;
    if (peer.kind == LinkKind::shm)
      peer.endpoints.push_back(Endpoint::of_unix(addresses[i].local_name));
    if (peer.kind == LinkKind::tcp)
      for (const std::string& host : addresses[i].hosts)
        peer.endpoints.push_back(Endpoint::of_host(host, addresses[i].port));
  }
  for (Peer& peer : peers)
    if (peer.kind == LinkKind::inproc && peer.rank != rank)
      peer.inproc = make_inproc(peer);
  start_listening();
}

std::unique_ptr<InprocSide> Mesh::State::make_inproc(const Peer& peer) {
  const bool is_high = connects(peer);
  const std::uint64_t token = is_high ? peer.token : address.token;
  const InprocKey key{group_, token, std::min(rank, peer.rank), std::max(rank, peer.rank)};
  return std::make_unique<InprocSide>(key, is_high, waker_);
}

void Mesh::State::start_listening() {
  if (is_closed_ || have_all_joined())
    return close_doors();
  Listener::Terms terms;
  terms.welcome = [this](const Hello& hello, bool is_local) { return welcome(hello, is_local); };
  terms.handshake = [this](const Handshake::Welcome& welcome) {
    Hello mine;
    mine.group = group_;
    mine.sender = static_cast<std::uint32_t>(rank);
    return Handshake::accepting(mine, options.secret, welcome);
  };
  terms.stream = stream_maker();
  terms.joined = [this](Channel channel, const Hello& hello) { join(std::move(channel), hello); };
  terms.refused = [this](const std::string& what, const Handshake* handshake) {
    note_refusal(what, handshake);
  };
  if (!options.interfaces.empty())
    terms.local_hosts = address.hosts;
  terms.patience = to_duration(std::min(options.timeout, kMostPatience));
  listener_.emplace(poller_, std::move(terms));
  listener_->listen(std::move(tcp_socket_));
  listener_->listen(std::move(unix_socket_));
}

void Mesh::State::close_doors() {
  listener_.reset();
  tcp_socket_.reset();
  unix_socket_.reset();
}

void Mesh::State::stop_listening() {
  is_closed_ = true;
  close_doors();
  for (Peer& peer : peers)
    peer.dialer.reset();
}

// The one place where TLS comes in.
StreamMaker Mesh::State::stream_maker() const {
  return [tls = tls_.get()](int fd, bool server) {
    return tls ? tls_stream(fd, *tls, server) : plain_stream(fd);
  };
}

Mesh::State::Peer& Mesh::State::at(int peer) {
  if (peer < 0 || peer == rank || static_cast<std::size_t>(peer) >= peers.size())
    throw InvalidArgument("rank " + std::to_string(peer) + " is no peer of rank " +
                          std::to_string(rank));
  return peers[static_cast<std::size_t>(peer)];
}

Hello Mesh::State::hello_to(const Peer& peer, std::size_t stripe) const {
  Hello hello;
  hello.group = group_;
  hello.sender = static_cast<std::uint32_t>(rank);
  hello.receiver = static_cast<std::uint32_t>(peer.rank);
  hello.stripe = static_cast<std::uint16_t>(stripe);
  hello.stripes = static_cast<std::uint16_t>(peer.kind == LinkKind::tcp ? options.sockets : 1);
  hello.kind = peer.kind;
  return hello;
}

// How many sockets there are is up to the rank that connects. Shared memory is asked for through
// the Unix socket and nothing else is, which TLS does not protect.
std::string Mesh::State::welcome(const Hello& hello, bool is_local) const {
  if (hello.group != group_)
    return "belongs to another group";
  if (hello.receiver != static_cast<std::uint32_t>(rank))
    return "looks for rank " + std::to_string(hello.receiver);
  if (hello.sender <= hello.receiver || hello.sender >= static_cast<std::uint32_t>(ranks))
    return "claims to be rank " + std::to_string(hello.sender);
  const Peer& peer = peers[hello.sender];
  const LinkKind kind = is_local ? LinkKind::shm : LinkKind::tcp;
  if (hello.kind != kind || peer.kind != kind)
    return "is rank " + std::to_string(peer.rank) + " and wants another kind of link";
  if (hello.stripe >= hello.stripes || hello.stripes > kMostSockets)
    return "has sockets that make no sense";
  if (peer.has_joined)
    return "claims to be rank " + std::to_string(peer.rank) + ", which is connected already";
  return {};
}

void Mesh::State::note_refusal(const std::string& what, const Handshake* handshake) {
  ++refused;
  if (events.size() < kMostEvents)
    events.push_back("turned away: " + what);
  // Without a secret, who knows the group belongs to it, and the user should hear of the versions.
  if (handshake && handshake->has_other_version() && options.secret.empty())
    losses_.lost(static_cast<int>(handshake->other().sender), what);
}

void Mesh::State::join(Channel channel, const Hello& hello) {
  Peer& peer = peers[hello.sender];
  if (peer.has_joined)
    return; // its last socket finished twice in one turn
  if (peer.channels.size() != hello.stripes) {
    peer.channels.clear();
    peer.channels.resize(hello.stripes);
  }
  peer.channels[hello.stripe] = std::move(channel);
  peer.has_joined = std::all_of(peer.channels.begin(), peer.channels.end(),
                                [](const Channel& joined) { return bool(joined.fd); });
  if (!peer.has_joined)
    return;
  if (!peer.slot)
    add_slot(peer);
  establish(peer);
}

// From now on the engine looks after the peer, whoever of the two needed the link first.
LinkSlot& Mesh::State::add_slot(Peer& peer) {
  peer.slot = std::make_unique<LinkSlot>(peer.rank, losses_);
  peer.is_lost = false;
  return *peer.slot;
}

bool Mesh::State::have_all_joined() const {
  return std::all_of(peers.begin(), peers.end(), [this](const Peer& peer) {
    return peer.rank <= rank || peer.kind == LinkKind::inproc || peer.has_joined;
  });
}

Link& Mesh::State::open(int rank_of_peer) {
  Peer& peer = at(rank_of_peer);
  if (peer.slot)
    return *peer.slot;
  LinkSlot& slot = add_slot(peer);
  if (peer.inproc)
    peer.inproc->want();
  else if (connects(peer))
    dial(peer);
  if (connects(peer))
    peer.deadline = Clock::now() + to_duration(options.timeout);
  return slot;
}

std::vector<Route> Mesh::State::routes(const Peer& peer, std::size_t stripe) const {
  std::vector<Route> routes;
  const std::size_t count = peer.endpoints.size();
  if (options.interfaces.empty() || peer.kind != LinkKind::tcp) {
    for (const Endpoint& endpoint : peer.endpoints)
      routes.push_back({endpoint, {}});
    return routes;
  }
  const Interface& interface = interfaces_[stripe % interfaces_.size()];
  for (std::size_t i = 0; i < count; ++i) {
    const Endpoint& to = peer.endpoints[(stripe + i) % count];
    if (const Endpoint* from = interface.address_of(to.family()))
      routes.push_back({to, *from});
  }
  return routes;
}

void Mesh::State::dial(Peer& peer) {
  DialTerms terms;
  terms.stripes = hello_to(peer, 0).stripes;
  terms.routes = [this, &peer](std::size_t stripe) { return routes(peer, stripe); };
  terms.same_way = options.interfaces.size() < 2;
  terms.handshake = [this, &peer](std::size_t stripe) {
    return Handshake::connecting(hello_to(peer, stripe), options.secret);
  };
  terms.stream = stream_maker();
  terms.timeout = to_duration(options.timeout);
  peer.dialer = std::make_unique<Dialer>(poller_, std::move(terms));
}

void Mesh::State::advance_dialer(Peer& peer) {
  const Dialer::State state = peer.dialer->progress();
  if (state == Dialer::State::dialing)
    return;
  const std::unique_ptr<Dialer> dialer = std::move(peer.dialer);
  if (state == Dialer::State::failed && dialer->is_own_want())
    throw OutOfResources(dialer->failure());
  if (state == Dialer::State::failed)
    return losses_.lost(peer.rank, dialer->failure());
  peer.channels = dialer->take();
  establish(peer);
}

// What goes wrong on the way to a link is the peer's loss, unless it is this rank that lacks
// something.
template <class Step> void Mesh::State::attempt(const Peer& peer, Step step) {
  try {
    step();
  } catch (const Error& error) {
    if (is_own_want(error))
      throw;
    losses_.lost(peer.rank, error.what());
  }
}

// All sockets of the peer are there.
void Mesh::State::establish(Peer& peer) {
  attempt(peer, [&] {
    if (peer.kind == LinkKind::tcp)
      establish_tcp(peer);
    else
      peer.handover = std::make_unique<ShmHandover>(
          peer.rank, losses_, poller_, waker_, std::move(peer.channels.front()), connects(peer));
  });
  peer.channels.clear();
}

void Mesh::State::establish_tcp(Peer& peer) {
  for (Channel& channel : peer.channels) {
    tune_tcp(channel.fd.get(), options.congestion, options.pacing / peer.channels.size());
    if (tls_)
      channel.keys.reset(); // TLS protects every byte already
  }
  const auto make = [&](FrameSink& sink) {
    return std::make_unique<TcpLink>(peer.rank, sink, pool_, poller_, std::move(peer.channels));
  };
  if (options.shape)
    peer.slot->connect(std::make_unique<ShapedLink>(peer.rank, losses_, *options.shape, make));
  else
    peer.slot->connect(make(losses_));
}

void Mesh::State::connect_shm(Peer& peer, std::unique_ptr<ShmLink> link) {
  if (!link)
    return;
  peer.shm = link.get();
  peer.slot->connect(std::move(link));
}

bool Mesh::State::has_hung_up(const Peer& peer) const {
  return (peer.shm && peer.handover && peer.handover->has_hung_up()) ||
         (peer.inproc && peer.inproc->has_hung_up());
}

void Mesh::State::advance(Peer& peer, bool& moved) {
  if (!peer.slot && peer.inproc && peer.inproc->is_wanted())
    add_slot(peer);
  if (!peer.slot || peer.is_lost)
    return;
  if (peer.dialer)
    advance_dialer(peer);
  attempt(peer, [&] {
    if (peer.handover)
      connect_shm(peer, peer.handover->take_link());
    if (peer.inproc)
      connect_shm(peer, peer.inproc->take_link(peer.rank, losses_));
  });
  const bool hung_up = has_hung_up(peer); // before the last look at what it sent
  const bool link_moved = peer.slot->progress();
  moved |= link_moved;
  if (hung_up && !link_moved)
    losses_.lost(peer.rank, "it closed the connection");
  if (!peer.slot->is_connected() && Clock::now() >= peer.deadline)
    losses_.lost(peer.rank, peer.dialer ? peer.dialer->failure() : "it did not answer in time");
}

bool Mesh::State::progress() {
  bool moved = listener_ && listener_->progress();
  if (listener_ && have_all_joined())
    close_doors();
  for (Peer& peer : peers)
    advance(peer, moved);
  if (!losses_.empty()) {
    report_losses();
    moved = true;
  }
  return moved;
}

void Mesh::State::report_losses() {
  for (const auto& [rank_of_peer, reason] : losses_.take()) {
    Peer& peer = at(rank_of_peer);
    if (std::exchange(peer.is_lost, true))
      continue;
    peer.dialer.reset();
    peer.handover.reset(); // nothing of a lost peer is waited for, and one in this process hears it
    peer.inproc.reset();
    if (peer.slot)
      peer.slot->detach(); // its link neither moves nor ends before the group does
    sink_.lost(peer.rank, reason);
  }
}

Clock::time_point Mesh::State::next_event() const {
  auto first = listener_ ? listener_->next_event() : Clock::time_point::max();
  for (const Peer& peer : peers) {
    if (!peer.slot || peer.is_lost)
      continue;
    first = std::min(first, peer.slot->next_event());
    if (peer.dialer)
      first = std::min(first, peer.dialer->next_event());
    if (!peer.slot->is_connected())
      first = std::min(first, peer.deadline);
  }
  return first;
}

} // namespace thinwire
