// OpenSSL, opened at run time: building thinwire needs nothing of it, and only TLS does. What is
// declared here is part of its stable interface since 3.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace thinwire::openssl {

struct Method;
struct Context; // SSL_CTX
struct Ssl;
struct Store;
struct Bio;
struct BioMethod;

using PskClient = unsigned (*)(Ssl*, const char* hint, char* identity, unsigned identity_bytes,
                               unsigned char* key, unsigned key_bytes);
using PskServer = unsigned (*)(Ssl*, const char* identity, unsigned char* key, unsigned key_bytes);
using Password = int (*)(char* buffer, int size, int writing, void* data);
using Verify = int (*)(int, Store*);
using BioWrite = int (*)(Bio*, const char* data, std::size_t bytes, std::size_t* written);
using BioRead = int (*)(Bio*, char* data, std::size_t bytes, std::size_t* received);
using BioControl = long (*)(Bio*, int command, long number, void* pointer);

// Every function that is used: result, name, parameters.
#define THINWIRE_OPENSSL_FUNCTIONS(F)                                                              \
  F(unsigned long, OpenSSL_version_num, ())                                                        \
  F(unsigned long, ERR_get_error, ())                                                              \
  F(void, ERR_clear_error, ())                                                                     \
  F(const char*, ERR_reason_error_string, (unsigned long))                                         \
  F(const char*, X509_verify_cert_error_string, (long))                                            \
  F(BioMethod*, BIO_meth_new, (int, const char*))                                                  \
  F(int, BIO_meth_set_write_ex, (BioMethod*, BioWrite))                                            \
  F(int, BIO_meth_set_read_ex, (BioMethod*, BioRead))                                              \
  F(int, BIO_meth_set_ctrl, (BioMethod*, BioControl))                                              \
  F(Bio*, BIO_new, (const BioMethod*))                                                             \
  F(void, BIO_set_data, (Bio*, void*))                                                             \
  F(void*, BIO_get_data, (Bio*))                                                                   \
  F(void, BIO_set_init, (Bio*, int))                                                               \
  F(void, BIO_set_flags, (Bio*, int))                                                              \
  F(void, BIO_clear_flags, (Bio*, int))                                                            \
  F(const Method*, TLS_method, ())                                                                 \
  F(Context*, SSL_CTX_new, (const Method*))                                                        \
  F(void, SSL_CTX_free, (Context*))                                                                \
  F(long, SSL_CTX_ctrl, (Context*, int, long, void*))                                              \
  F(int, SSL_CTX_set_num_tickets, (Context*, std::size_t))                                         \
  F(int, SSL_CTX_set_ciphersuites, (Context*, const char*))                                        \
  F(void, SSL_CTX_set_verify, (Context*, int, Verify))                                             \
  F(void, SSL_CTX_set_default_read_buffer_len, (Context*, std::size_t))                            \
  F(void, SSL_CTX_set_default_passwd_cb, (Context*, Password))                                     \
  F(void, SSL_CTX_set_psk_client_callback, (Context*, PskClient))                                  \
  F(void, SSL_CTX_set_psk_server_callback, (Context*, PskServer))                                  \
  F(int, SSL_CTX_use_certificate_chain_file, (Context*, const char*))                              \
  F(int, SSL_CTX_use_PrivateKey_file, (Context*, const char*, int))                                \
  F(int, SSL_CTX_load_verify_locations, (Context*, const char*, const char*))                      \
  F(Ssl*, SSL_new, (Context*))                                                                     \
  F(void, SSL_free, (Ssl*))                                                                        \
  F(int, SSL_set_ex_data, (Ssl*, int, void*))                                                      \
  F(void*, SSL_get_ex_data, (const Ssl*, int))                                                     \
  F(int, SSL_set_session_id_context, (Ssl*, const unsigned char*, unsigned))                       \
  F(void, SSL_set_bio, (Ssl*, Bio*, Bio*))                                                         \
  F(void, SSL_set_accept_state, (Ssl*))                                                            \
  F(void, SSL_set_connect_state, (Ssl*))                                                           \
  F(int, SSL_read_ex, (Ssl*, void*, std::size_t, std::size_t*))                                    \
  F(int, SSL_write_ex, (Ssl*, const void*, std::size_t, std::size_t*))                             \
  F(int, SSL_get_error, (const Ssl*, int))                                                         \
  F(int, SSL_has_pending, (const Ssl*))                                                            \
  F(int, SSL_is_init_finished, (const Ssl*))                                                       \
  F(int, SSL_key_update, (Ssl*, int))                                                              \
  F(int, SSL_shutdown, (Ssl*))                                                                     \
  F(long, SSL_get_verify_result, (const Ssl*))

struct Functions {
#define THINWIRE_FIELD(result, name, parameters) result(*name) parameters = nullptr;
  THINWIRE_OPENSSL_FUNCTIONS(THINWIRE_FIELD)
#undef THINWIRE_FIELD
};

// Of the library that was found at the first call. Throws NotBuilt where there is none.
const Functions& functions();

// The oldest error that OpenSSL has noted in this thread, and forgets them all. Empty: there is
// none.
std::string take_error();

// Constants, by their names in OpenSSL's headers.
inline constexpr int kFilePem = 1;                  // SSL_FILETYPE_PEM
inline constexpr int kVerifyBoth = 1 | 2;           // VERIFY_PEER, FAIL_IF_NO_PEER_CERT
inline constexpr int kControlMode = 33;             // SSL_CTRL_MODE
inline constexpr int kControlReadAhead = 41;        // SSL_CTRL_SET_READ_AHEAD
inline constexpr int kControlSessionCache = 44;     // SSL_CTRL_SET_SESS_CACHE_MODE
inline constexpr int kControlLeastVersion = 123;    // SSL_CTRL_SET_MIN_PROTO_VERSION
inline constexpr int kControlMostVersion = 124;     // SSL_CTRL_SET_MAX_PROTO_VERSION
inline constexpr long kTls13 = 0x0304;              // TLS1_3_VERSION
inline constexpr long kPartialWrite = 1;            // SSL_MODE_ENABLE_PARTIAL_WRITE
inline constexpr long kMovingBuffer = 2;            // SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
inline constexpr int kKeyUpdateNotRequested = 0;    // SSL_KEY_UPDATE_NOT_REQUESTED
inline constexpr int kAppData = 0;                  // the index of SSL_set_app_data
inline constexpr int kWantRead = 2, kWantWrite = 3; // SSL_ERROR_WANT_READ, _WANT_WRITE
inline constexpr int kZeroReturn = 6;               // SSL_ERROR_ZERO_RETURN
inline constexpr long kUnspecified = 1;             // X509_V_ERR_UNSPECIFIED: nothing was verified
inline constexpr int kBioSourceSink = 0x0400;       // BIO_TYPE_SOURCE_SINK
inline constexpr int kBioRead = 1, kBioWrite = 2;   // BIO_FLAGS_READ, _WRITE
inline constexpr int kBioShouldRetry = 8;           // BIO_FLAGS_SHOULD_RETRY
inline constexpr int kBioControlEof = 2;            // BIO_CTRL_EOF
inline constexpr int kBioControlFlush = 11;         // BIO_CTRL_FLUSH

} // namespace thinwire::openssl
