// The inside of Mesh: what is known of each peer, and how far its link has come.
#pragma once

#include "transport/dialer.hpp"
#include "transport/inproc.hpp"
#include "transport/interfaces.hpp"
#include "transport/link_slot.hpp"
#include "transport/listener.hpp"
#include "transport/losses.hpp"
#include "transport/mesh.hpp"
#include "transport/shm_handover.hpp"
#include "transport/tls.hpp"

#include <optional>

namespace thinwire {

struct Mesh::State {
  struct Peer {
    int rank = 0;
    LinkKind kind = LinkKind::tcp;
    std::uint64_t token = 0;
    std::vector<Endpoint> endpoints; // where it listens
    bool has_joined = false;         // all its sockets came in, on the rank that accepts
    bool is_lost = false;            // and was reported

    std::unique_ptr<LinkSlot> slot;                        // once one of the two has opened it
    std::unique_ptr<Dialer> dialer;                        // while connecting
    std::vector<Channel> channels;                         // that have come in, by stripe
    std::unique_ptr<ShmHandover> handover;                 // shm
    std::unique_ptr<InprocSide> inproc;                    // inproc, from set_peers() on
    ShmLink* shm = nullptr;                                // the slot's link, where it is one
    Clock::time_point deadline = Clock::time_point::max(); // to be connected
  };

  State(int rank, int ranks, const NetworkOptions& options, Poller& poller, const Waker& waker,
        BlockPool& pool, FrameSink& sink);

  void set_peers(std::uint64_t group, std::vector<PeerAddress> addresses,
                 std::vector<LinkKind> kinds);
  Link& open(int peer); // throws InvalidArgument where there is none
  bool progress();
  Clock::time_point next_event() const;
  void stop_listening();

  const int rank, ranks;
  const NetworkOptions options;
  PeerAddress address;
  std::vector<Peer> peers; // by rank, from set_peers() on
  std::vector<std::string> events;
  std::uint64_t refused = 0;

private:
  Peer& at(int peer);
  bool connects(const Peer& peer) const { return rank > peer.rank; }
  Hello hello_to(const Peer& peer, std::size_t stripe) const;
  std::string welcome(const Hello& hello, bool is_local) const;
  std::unique_ptr<InprocSide> make_inproc(const Peer& peer);
  void start_listening();
  void close_doors();
  void join(Channel channel, const Hello& hello);
  LinkSlot& add_slot(Peer& peer);
  void note_refusal(const std::string& what, const Handshake* handshake);
  bool have_all_joined() const;

  std::vector<Route> routes(const Peer& peer, std::size_t stripe) const;
  void dial(Peer& peer);
  void advance(Peer& peer, bool& moved);
  void advance_dialer(Peer& peer);
  template <class Step> void attempt(const Peer& peer, Step step);
  void establish(Peer& peer);
  void establish_tcp(Peer& peer);
  void connect_shm(Peer& peer, std::unique_ptr<ShmLink> link);
  bool has_hung_up(const Peer& peer) const;
  void report_losses();
  StreamMaker stream_maker() const;

  Poller& poller_;
  const Waker& waker_;
  BlockPool& pool_;
  FrameSink& sink_;
  Losses losses_;
  std::uint64_t group_ = 0;
  std::unique_ptr<TlsContext> tls_;
  std::vector<Interface> interfaces_;
  Descriptor tcp_socket_, unix_socket_; // listening; the listener's from set_peers() on
  std::optional<Listener> listener_;
  bool is_closed_ = false; // stop_listening() was called
};

} // namespace thinwire
