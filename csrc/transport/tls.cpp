#include "transport/tls.hpp"

#include "core/error.hpp"
#include "hash/blake3.hpp"
#include "transport/openssl.hpp"
#include "transport/openssl_socket.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>

namespace thinwire {

struct TlsContext::State {
  explicit State(std::uint64_t bytes_per_key)
      : context(openssl::functions().SSL_CTX_new(openssl::functions().TLS_method())),
        bytes_per_key(bytes_per_key) {
    if (!context)
      throw TransportError("TLS: " + openssl::take_error());
  }
  ~State() { openssl::functions().SSL_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  openssl::Context* const context;
  const std::uint64_t bytes_per_key;
  bool has_key = false;
  Blake3Digest key{}; // pre-shared
};

namespace {

using openssl::functions;

constexpr std::size_t kRecordBytes = 16384, kReadBufferBytes = 4 * kRecordBytes;
constexpr char kCipher[] = "TLS_AES_128_GCM_SHA256";
constexpr char kIdentity[] = "thinwire"; // of the pre-shared key

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Blake3Digest pre_shared_key(const std::string& secret) {
  return blake3_keyed(blake3(bytes_of(secret)), bytes_of("thinwire TLS 1.3 pre-shared key"));
}

unsigned copy_key(openssl::Ssl* ssl, unsigned char* key, unsigned room) {
  const void* data = functions().SSL_get_ex_data(ssl, openssl::kAppData);
  const Blake3Digest& ours = static_cast<const TlsContext::State*>(data)->key;
  if (room < ours.size())
    return 0;
  std::memcpy(key, ours.data(), ours.size());
  return static_cast<unsigned>(ours.size());
}

unsigned key_of_client(openssl::Ssl* ssl, const char*, char* identity, unsigned identity_room,
                       unsigned char* key, unsigned room) {
  if (identity_room < sizeof kIdentity)
    return 0;
  std::memcpy(identity, kIdentity, sizeof kIdentity);
  return copy_key(ssl, key, room);
}

unsigned key_of_server(openssl::Ssl* ssl, const char* identity, unsigned char* key, unsigned room) {
  return std::strcmp(identity, kIdentity) == 0 ? copy_key(ssl, key, room) : 0;
}

// OpenSSL would ask at the terminal for the password of a private key, and training would stand.
int no_password(char*, int, int, void*) { return -1; }

void set_common(openssl::Context* context) {
  const auto& ssl = functions();
  const auto set = [&](int what, long value) { ssl.SSL_CTX_ctrl(context, what, value, nullptr); };
  set(openssl::kControlLeastVersion, openssl::kTls13);
  set(openssl::kControlMostVersion, openssl::kTls13);
  set(openssl::kControlMode, openssl::kPartialWrite | openssl::kMovingBuffer);
  set(openssl::kControlReadAhead, 1);
  set(openssl::kControlSessionCache, 0);
  ssl.SSL_CTX_set_default_read_buffer_len(context, kReadBufferBytes);
  ssl.SSL_CTX_set_num_tickets(context, 0);
  ssl.SSL_CTX_set_ciphersuites(context, kCipher);
  // In both modes. With a pre-shared key nobody shows a certificate, and one that is shown all the
  // same must not be taken for the proof. Names are not compared: ranks have none, and which rank a
  // peer is follows from the handshake after this one.
  ssl.SSL_CTX_set_verify(context, openssl::kVerifyBoth, nullptr);
}

void check_file(bool usable, const char* what, const std::string& path) {
  if (!usable)
    throw InvalidArgument(std::string("the ") + what + " '" + path +
                          "' cannot be used for TLS: " + openssl::take_error());
}

void use_files(openssl::Context* context, const TlsOptions& options) {
  const auto& ssl = functions();
  if (options.certificate.empty() || options.key.empty() || options.authority.empty())
    throw InvalidArgument("TLS with certificates needs three PEM files: this rank's certificate, "
                          "its key, and the authority that signs every rank's");
  ssl.ERR_clear_error();
  check_file(ssl.SSL_CTX_use_certificate_chain_file(context, options.certificate.c_str()) == 1,
             "certificate", options.certificate);
  ssl.SSL_CTX_set_default_passwd_cb(context, no_password);
  check_file(ssl.SSL_CTX_use_PrivateKey_file(context, options.key.c_str(), openssl::kFilePem) == 1,
             "private key", options.key);
  check_file(ssl.SSL_CTX_load_verify_locations(context, options.authority.c_str(), nullptr) == 1,
             "authority", options.authority);
}

void use_secret(TlsContext::State& state, const std::string& secret) {
  if (secret.empty())
    throw InvalidArgument("TLS needs something to tell members from strangers: pass secret= (or "
                          "set THINWIRE_SECRET), or the files of a certificate, its key and its "
                          "authority");
  state.has_key = true;
  state.key = pre_shared_key(secret);
  functions().SSL_CTX_set_psk_client_callback(state.context, key_of_client);
  functions().SSL_CTX_set_psk_server_callback(state.context, key_of_server);
}

class TlsStream final : public Stream {
public:
  TlsStream(int fd, std::shared_ptr<const TlsContext::State> state, bool server)
      : state_(std::move(state)), socket_{fd}, ssl_(functions().SSL_new(state_->context)) {
    if (!ssl_)
      throw TransportError("TLS: " + openssl::take_error());
    openssl::Bio* bio = openssl::make_bio(socket_);
    functions().SSL_set_bio(ssl_, bio, bio);
    functions().SSL_set_ex_data(ssl_, openssl::kAppData,
                                const_cast<TlsContext::State*>(state_.get()));
    if (server)
      accept();
    else
      functions().SSL_set_connect_state(ssl_);
  }
  ~TlsStream() override { functions().SSL_free(ssl_); }

  Result write(std::span<const iovec> parts) override;
  Result read(std::span<const iovec> parts) override;
  // An end that came right after the last bytes counts too: the socket does not show it any more.
  bool has_buffered() const override {
    return (may_have_more_ && functions().SSL_has_pending(ssl_) == 1) ||
           read_wants_ == openssl::kZeroReturn || !failure_.empty();
  }
  bool read_wants_write() const override { return read_wants_ == openssl::kWantWrite; }
  // A `read` may have finished the handshake meanwhile, and after it a write waits for no input.
  bool write_wants_read() const override {
    return write_wants_ == openssl::kWantRead && !handshaken_;
  }
  void shut_down() override;

private:
  // OpenSSL takes a pre-shared key for a session of old. A server that verifies its peers must name
  // the sessions it takes, and a client must not.
  void accept() {
    functions().SSL_set_session_id_context(ssl_, reinterpret_cast<const unsigned char*>(kIdentity),
                                           sizeof kIdentity - 1);
    functions().SSL_set_accept_state(ssl_);
  }
  int why(int result);
  std::string describe_failure() const;
  void update_key(std::size_t written);
  std::size_t stage(std::span<const iovec> parts, std::size_t skipped);
  Result result(std::size_t moved, int error) const;

  std::shared_ptr<const TlsContext::State> state_;
  openssl::Socket socket_;
  openssl::Ssl* ssl_;
  int read_wants_ = 0, write_wants_ = 0;
  bool handshaken_ = false;     // OpenSSL forgets it when it fails or changes keys
  bool may_have_more_ = false;  // the last `read` did not say that there is no more
  std::uint64_t encrypted_ = 0; // with the present key
  std::size_t staged_ = 0;      // of record_, and OpenSSL may have encrypted it
  std::array<std::byte, kRecordBytes> record_;
  std::string failure_; // nothing works any more
};

// Why a call did not succeed: an SSL_ERROR. Takes OpenSSL's errors.
int TlsStream::why(int result) {
  const int error = functions().SSL_get_error(ssl_, result);
  if (error == openssl::kWantRead || error == openssl::kWantWrite || error == openssl::kZeroReturn)
    handshaken_ = handshaken_ || functions().SSL_is_init_finished(ssl_) == 1;
  else
    failure_ = describe_failure();
  return error;
}

std::string TlsStream::describe_failure() const {
  std::string reason = openssl::take_error();
  if (socket_.ended)
    reason = "the peer closed the connection without a goodbye";
  else if (reason.empty())
    reason = std::generic_category().message(socket_.error);
  if (handshaken_)
    return "TLS: " + reason;
  if (const long verified = functions().SSL_get_verify_result(ssl_);
      verified > openssl::kUnspecified)
    reason += std::string(", ") + functions().X509_verify_cert_error_string(verified);
  if (state_->has_key)
    reason += " (do all ranks have the same secret, and TLS switched on?)";
  return "the TLS handshake failed: " + reason;
}

Stream::Result TlsStream::result(std::size_t moved, int error) const {
  if (moved > 0)
    return {State::moved, moved}; // a failure is told by the next call
  if (!failure_.empty())
    throw TransportError(failure_);
  return {error == openssl::kZeroReturn ? State::ended : State::would_block};
}

// Fills the record with what follows the first `skipped` bytes.
std::size_t TlsStream::stage(std::span<const iovec> parts, std::size_t skipped) {
  std::size_t filled = 0;
  for (const iovec& part : parts) {
    const std::size_t passed = std::min(skipped, part.iov_len);
    const std::size_t bytes = std::min(part.iov_len - passed, record_.size() - filled);
    std::copy_n(static_cast<const std::byte*>(part.iov_base) + passed, bytes,
                record_.data() + filled);
    skipped -= passed;
    filled += bytes;
  }
  return filled;
}

// A whole record has left, so that nothing stands in a new key's way.
void TlsStream::update_key(std::size_t written) {
  encrypted_ += written;
  if (encrypted_ < state_->bytes_per_key)
    return;
  functions().SSL_key_update(ssl_, openssl::kKeyUpdateNotRequested);
  encrypted_ = 0;
}

Stream::Result TlsStream::write(std::span<const iovec> parts) {
  std::size_t moved = 0;
  write_wants_ = 0;
  may_have_more_ = may_have_more_ || !handshaken_; // which reads ahead
  while (failure_.empty()) {
    if (staged_ == 0)
      staged_ = stage(parts, moved);
    if (staged_ == 0)
      break;
    functions().ERR_clear_error();
    std::size_t written = 0;
    const int done = functions().SSL_write_ex(ssl_, record_.data(), staged_, &written);
    if (done != 1) {
      write_wants_ = why(done);
      break;
    }
    handshaken_ = true;
    staged_ = 0; // a part of it that was not written is staged again
    moved += written;
    update_key(written);
  }
  return result(moved, write_wants_);
}

Stream::Result TlsStream::read(std::span<const iovec> parts) {
  std::size_t moved = 0;
  read_wants_ = 0;
  for (const iovec& part : parts) {
    for (std::size_t filled = 0; filled < part.iov_len && failure_.empty() && read_wants_ == 0;) {
      functions().ERR_clear_error();
      std::size_t bytes = 0;
      const int done = functions().SSL_read_ex(
          ssl_, static_cast<std::byte*>(part.iov_base) + filled, part.iov_len - filled, &bytes);
      if (done == 1)
        handshaken_ = true;
      else
        read_wants_ = why(done);
      filled += bytes;
      moved += bytes;
    }
  }
  may_have_more_ = moved > 0 && read_wants_ == 0;
  return result(moved, read_wants_);
}

void TlsStream::shut_down() {
  if (!failure_.empty() || !handshaken_)
    return;
  functions().ERR_clear_error();
  functions().SSL_shutdown(ssl_);
  functions().ERR_clear_error();
}

} // namespace

TlsContext::TlsContext(const TlsOptions& options, const std::string& secret,
                       std::uint64_t bytes_per_key) {
  auto state = std::make_shared<State>(bytes_per_key);
  set_common(state->context);
  if (options.certificate.empty() && options.key.empty() && options.authority.empty())
    use_secret(*state, secret);
  else
    use_files(state->context, options);
  state_ = std::move(state);
}

std::unique_ptr<Stream> tls_stream(int fd, const TlsContext& context, bool server) {
  return std::make_unique<TlsStream>(fd, context.state(), server);
}

} // namespace thinwire
