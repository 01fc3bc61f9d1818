// Every THINWIRE_* variable the native code reads, with its meaning and default.
#pragma once

#include <string>

namespace thinwire {

struct Env {
  // THINWIRE_FORCE_TARGET: the CPU target to start with (scalar, avx2, avx512, neon). Default:
  // empty, the best one.
  std::string force_target;
  // THINWIRE_IFACE: network interfaces of the links, separated by commas. Default: empty, whatever
  // routes to the peer.
  std::string interface;
  // THINWIRE_PORTS: first-last, the ports links may listen on. Default: empty, any.
  std::string ports;
  // THINWIRE_SOCKETS: TCP connections to each peer. Default: empty, one.
  std::string sockets;
  // THINWIRE_SECRET: what a rank must know to join. Default: empty, nothing.
  std::string secret;
  // THINWIRE_SITE: where this rank is, for the hierarchical schedule. Default: empty, its host.
  std::string site;
  // THINWIRE_STORE_PASSPHRASE: opens encrypted stores on the command line. Default: empty, none.
  std::string store_passphrase;
  // THINWIRE_STORE_KEY_FILE: a file with the key of encrypted stores, for the command line.
  // Default: empty, none.
  std::string store_key_file;

  static Env read();       // as they are now
  static const Env& get(); // as they were at first use
};

} // namespace thinwire
