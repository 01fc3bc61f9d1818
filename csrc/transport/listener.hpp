// Takes in the ranks that connect, and keeps strangers from costing anything: few of them at a
// time, not for long, and no memory but their handshake's.
#pragma once

#include "transport/greeting.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace thinwire {

class Listener {
public:
  struct Terms {
    // As Handshake::Welcome, and whether it came through the Unix socket.
    std::function<std::string(const Hello&, bool is_local)> welcome;
    std::function<Handshake(const Handshake::Welcome&)> handshake;
    StreamMaker stream;
    std::function<void(Channel, const Hello&)> joined;
    // What happened, for a log, and the handshake that failed if there was one.
    std::function<void(std::string, const Handshake*)> refused;
    std::vector<std::string> local_hosts; // accepted at no others; empty: at all
    Clock::duration patience;             // for one handshake
  };

  Listener(Poller& poller, Terms terms);
  ~Listener();

  void listen(Descriptor socket); // at one more socket

  bool progress();
  Clock::time_point next_event() const;

private:
  class Door;
  struct Guest {
    std::unique_ptr<Greeting> greeting;
    Clock::time_point deadline;
  };

  void admit(Descriptor socket);
  bool may_enter(int socket) const;
  bool is_full() const;
  bool see_to(Guest& guest, Clock::time_point now);
  void refuse(const Guest& guest, const std::string& what);
  void open_or_shut_doors(Clock::time_point now);

  Poller& poller_;
  Terms terms_;
  std::vector<std::unique_ptr<Door>> doors_;
  std::vector<Guest> guests_;
  Clock::time_point shut_until_{}; // after the system ran out of descriptors
};

} // namespace thinwire
