// Stands between links and the engine, so that the engine hears of losses at a moment when it may
// destroy links.
#pragma once

#include "transport/link.hpp"

#include <string>
#include <utility>
#include <vector>

namespace thinwire {

class Losses final : public FrameSink {
public:
  explicit Losses(FrameSink& sink) : sink_(sink) {}

  std::byte* place(int peer, const FrameHeader& header) override {
    return sink_.place(peer, header);
  }
  void receive(Received frame) override { sink_.receive(std::move(frame)); }
  void lost(int peer, const std::string& reason) override { waiting_.emplace_back(peer, reason); }

  bool empty() const { return waiting_.empty(); }
  std::vector<std::pair<int, std::string>> take() { return std::exchange(waiting_, {}); }

private:
  FrameSink& sink_;
  std::vector<std::pair<int, std::string>> waiting_;
};

} // namespace thinwire
