// The links of one communicator: who listens, who connects, by which way.
#pragma once

#include "transport/poller.hpp"
#include "transport/shaped_link.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace thinwire {

enum class LinkKind : std::uint8_t { tcp, shm, inproc };

struct TlsOptions {
  bool enabled = false;
  // PEM files. All empty: TLS 1.3 with a pre-shared key derived from the secret.
  std::string certificate, key, authority;
};

struct NetworkOptions {
  std::vector<std::string> interfaces; // names; empty: whatever routes to the peer
  int first_port = 0, last_port = 0;   // to listen on; 0: any
  int sockets = 1;                     // a peer
  std::string congestion;              // TCP_CONGESTION; empty: the system's
  std::uint64_t pacing = 0;            // SO_MAX_PACING_RATE of each peer, bytes a second; 0: none
  std::string secret;                  // empty: who knows the group number may join
  TlsOptions tls;
  double timeout = 30;                 // seconds a handshake may take
  std::optional<LinkShape> shape = {}; // for tests: makes TCP links worse
};

// How a rank can be reached. It travels through the store.
struct PeerAddress {
  std::vector<std::string> hosts; // numeric, IPv4 and IPv6, the likeliest first
  std::uint16_t port = 0;
  std::string local_name;  // of the abstract Unix socket through which shared memory is handed over
  std::uint64_t token = 0; // random: tells apart communicators within a process (inproc)
};

class Mesh {
public:
  // Starts to listen. Throws InvalidArgument or TransportError: a port range or an interface that
  // cannot be used, named in the message.
  Mesh(int rank, int ranks, const NetworkOptions& options, Poller& poller, const Waker& waker,
       BlockPool& pool, FrameSink& sink);
  ~Mesh(); // closes everything at once

  const PeerAddress& address() const;
  // What all ranks published, in order, and how this rank reaches each of them: the two ranks of a
  // pair must have been told the same kind. `group` is the number all ranks share.
  void set_peers(std::uint64_t group, std::vector<PeerAddress> peers, std::vector<LinkKind> kinds);

  // The link to a peer, made at the first call. Of a pair the higher rank connects and the lower
  // one accepts: a link between processes stands once the higher rank has opened it, and one
  // between threads once either has. What is sent before is queued. A link that cannot be made
  // within the timeout is reported to FrameSink::lost on the rank that connects.
  Link& open(int peer);
  Link* find(int peer) const; // null where neither has opened it
  bool is_connected(int peer) const;
  bool shares_memory(int peer) const; // the link to it is, or would be, memory

  // Moves frames on all links; deadlines of handshakes, retries. Whether anything moved.
  bool progress();
  Clock::time_point next_event() const;
  // Shared memory needs it before and after the engine waits. Returns false where there is input,
  // so that it must not wait.
  bool announce_sleep(bool sleeping);
  // Nothing is accepted or connected any more; links stay.
  void stop_listening();
  // Who was turned away and why, since the last call: at most 64 lines. And how many there were in
  // all.
  std::vector<std::string> take_events();
  std::uint64_t refused() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace thinwire
