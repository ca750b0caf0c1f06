#include "record/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace rigwise {

namespace {
struct Head {
  std::int32_t kind, pid, detail, text_bytes;
  std::int64_t number;
  double t_s;
};
constexpr std::size_t kMaxText = 8192;
}  // namespace

Result<ChannelPair> make_channel() {
  std::array<int, 2> fds = {};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return Error{Errc::io, "cannot make a socket pair: " + errno_text(errno)};
  }
  return ChannelPair{Fd(fds[0]), Fd(fds[1])};
}

bool send_message(int channel, const Message& message) {
  if (channel < 0) return false;
  const std::size_t size = std::min(message.text.size(), kMaxText);
  Head head = {static_cast<std::int32_t>(message.kind), message.pid,    message.detail,
               static_cast<std::int32_t>(size),         message.number, message.t_s};
  std::array<iovec, 2> parts = {iovec{&head, sizeof head},
                                iovec{const_cast<char*>(message.text.data()), size}};
  msghdr packet = {};
  packet.msg_iov = parts.data();
  packet.msg_iovlen = size > 0 ? 2 : 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  if (message.descriptor >= 0) {
    packet.msg_control = control.data();
    packet.msg_controllen = control.size();
    cmsghdr* entry = CMSG_FIRSTHDR(&packet);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(entry), &message.descriptor, sizeof(int));
  }
  ssize_t count = 0;
  do {
    count = ::sendmsg(channel, &packet, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  return count >= 0;
}

Received receive_message(int channel) {
  Received received;
  Head head = {};
  std::array<char, kMaxText> text;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<iovec, 2> parts = {iovec{&head, sizeof head}, iovec{text.data(), text.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr packet = {};
  packet.msg_iov = parts.data();
  packet.msg_iovlen = parts.size();
  packet.msg_control = control.data();
  packet.msg_controllen = control.size();
  ssize_t count = 0;
  do {
    count = ::recvmsg(channel, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    received.closed = errno != EAGAIN && errno != EWOULDBLOCK;
    return received;
  }
  if (static_cast<std::size_t>(count) < sizeof head) {  // end of file
    received.closed = true;
    return received;
  }
  Message message;
  message.kind = static_cast<MessageKind>(head.kind);
  message.pid = head.pid;
  message.detail = head.detail;
  message.number = head.number;
  message.t_s = head.t_s;
  const auto got = static_cast<std::size_t>(count) - sizeof head;
  message.text.assign(text.data(), std::min(got, static_cast<std::size_t>(head.text_bytes)));
  for (cmsghdr* entry = CMSG_FIRSTHDR(&packet); entry != nullptr;
       entry = CMSG_NXTHDR(&packet, entry)) {
    if (entry->cmsg_level == SOL_SOCKET && entry->cmsg_type == SCM_RIGHTS) {
      std::memcpy(&message.descriptor, CMSG_DATA(entry), sizeof(int));
    }
  }
  received.message = std::move(message);
  return received;
}

namespace {
/// sun_path holds 108 bytes, run directories may lie deeper: the folder's descriptor stands in.
struct Address {
  Fd folder;
  sockaddr_un name = {};
};

Result<Address> address_in(const std::filesystem::path& folder, std::string_view name) {
  Address address;
  address.folder = Fd(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!address.folder.valid()) {
    return Error{Errc::not_found, folder.string() + ": cannot open: " + errno_text(errno)};
  }
  const std::string path =
      "/proc/self/fd/" + std::to_string(address.folder.get()) + "/" + std::string(name);
  address.name.sun_family = AF_UNIX;
  std::memcpy(address.name.sun_path, path.c_str(),
              std::min(path.size() + 1, sizeof address.name.sun_path - 1));
  return address;
}
}  // namespace

Result<Fd> listen_in(const std::filesystem::path& folder, std::string_view name) {
  RW_TRY(const Address address, address_in(folder, name));
  Fd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid() ||
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address.name),
             sizeof address.name) != 0 ||
      ::chmod(address.name.sun_path, 0600) != 0 || ::listen(listener.get(), 4) != 0) {
    return Error{Errc::io, (folder / name).string() + ": no socket: " + errno_text(errno)};
  }
  return listener;
}

Result<Fd> connect_in(const std::filesystem::path& folder, std::string_view name) {
  RW_TRY(const Address address, address_in(folder, name));
  Fd client(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!client.valid()) return Error{Errc::io, "cannot make a socket: " + errno_text(errno)};
  if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address.name),
                sizeof address.name) != 0) {
    const bool nobody = errno == ENOENT || errno == ECONNREFUSED;
    return Error{nobody ? Errc::not_found : Errc::io,
                 (folder / name).string() + ": " + errno_text(errno)};
  }
  return client;
}

Fd accept_own(int listener) {
  Fd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!client.valid()) return client;
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      (peer.uid != 0 && peer.uid != ::geteuid())) {
    client.reset();
  }
  return client;
}

}  // namespace rigwise
