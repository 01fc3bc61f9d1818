#include "transport/openssl_socket.hpp"

#include <cerrno>
#include <new>
#include <sys/socket.h>

namespace thinwire::openssl {
namespace {

Socket& socket_of(Bio* bio) { return *static_cast<Socket*>(functions().BIO_get_data(bio)); }

int report(Bio* bio, ssize_t moved, int direction, std::size_t* bytes) {
  functions().BIO_clear_flags(bio, kBioRead | kBioWrite | kBioShouldRetry);
  if (moved > 0) {
    *bytes = static_cast<std::size_t>(moved);
    return 1;
  }
  if (moved == 0)
    socket_of(bio).ended = true;
  else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
    functions().BIO_set_flags(bio, direction | kBioShouldRetry);
  else
    socket_of(bio).error = errno;
  return 0;
}

int write(Bio* bio, const char* data, std::size_t bytes, std::size_t* written) {
  return report(bio, send(socket_of(bio).fd, data, bytes, MSG_NOSIGNAL), kBioWrite, written);
}

int read(Bio* bio, char* data, std::size_t bytes, std::size_t* received) {
  return report(bio, recv(socket_of(bio).fd, data, bytes, 0), kBioRead, received);
}

long control(Bio* bio, int command, long, void*) {
  if (command == kBioControlEof)
    return socket_of(bio).ended ? 1 : 0;
  return command == kBioControlFlush ? 1 : 0;
}

BioMethod* make_method() {
  BioMethod* method = functions().BIO_meth_new(kBioSourceSink, "thinwire socket");
  if (!method)
    throw std::bad_alloc();
  functions().BIO_meth_set_write_ex(method, write);
  functions().BIO_meth_set_read_ex(method, read);
  functions().BIO_meth_set_ctrl(method, control);
  return method;
}

} // namespace

Bio* make_bio(Socket& socket) {
  static BioMethod* const method = make_method();
  Bio* bio = functions().BIO_new(method);
  if (!bio)
    throw std::bad_alloc();
  functions().BIO_set_data(bio, &socket);
  functions().BIO_set_init(bio, 1);
  return bio;
}

} // namespace thinwire::openssl
