#include "transport/mesh.hpp"

#include "transport/mesh_state.hpp"

namespace thinwire {

Mesh::Mesh(int rank, int ranks, const NetworkOptions& options, Poller& poller, const Waker& waker,
           BlockPool& pool, FrameSink& sink)
    : state_(std::make_unique<State>(rank, ranks, options, poller, waker, pool, sink)) {}

Mesh::~Mesh() = default;

const PeerAddress& Mesh::address() const { return state_->address; }

void Mesh::set_peers(std::uint64_t group, std::vector<PeerAddress> peers,
                     std::vector<LinkKind> kinds) {
  state_->set_peers(group, std::move(peers), std::move(kinds));
}

Link& Mesh::open(int peer) { return state_->open(peer); }

Link* Mesh::find(int peer) const {
  const auto i = static_cast<std::size_t>(peer);
  return i < state_->peers.size() ? state_->peers[i].slot.get() : nullptr;
}

bool Mesh::is_connected(int peer) const {
  const auto i = static_cast<std::size_t>(peer);
  return find(peer) && state_->peers[i].slot->is_connected();
}

bool Mesh::shares_memory(int peer) const {
  const auto i = static_cast<std::size_t>(peer);
  return i < state_->peers.size() && state_->peers[i].kind != LinkKind::tcp;
}

bool Mesh::progress() { return state_->progress(); }
Clock::time_point Mesh::next_event() const { return state_->next_event(); }
void Mesh::stop_listening() { state_->stop_listening(); }

bool Mesh::announce_sleep(bool sleeping) {
  bool may_wait = true;
  for (const auto& peer : state_->peers)
    if (peer.shm) {
      peer.shm->announce_sleep(sleeping);
      may_wait &= !sleeping || !peer.shm->has_input();
    }
  return may_wait;
}

std::vector<std::string> Mesh::take_events() { return std::exchange(state_->events, {}); }
std::uint64_t Mesh::refused() const { return state_->refused; }

} // namespace thinwire
