// The socket that libkineto's clients ask, and its folder.
//
// A client that gets an answer from a socket outside the folder of its KINETO_IPC_SOCKET_DIR ends
// its process (Endpoint.h, getName), so the socket is bound under exactly the name that clients are
// told, and answers come from it alone.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/files.h"
#include "rigwise/kineto.h"

namespace rigwise {

namespace {

constexpr const char* kSocketName = "dynolog";  // that libkineto asks for
constexpr std::string_view kClientName = "dynoconfigclient";
constexpr const char* kConfigName = "kineto.conf";
constexpr const char* kTracesName = "traces";
constexpr const char* kFolderForm = "rigwise-kineto-XXXXXX";
constexpr int kMostAtOnce = 32;
constexpr std::size_t kMostClients = 4096;
constexpr std::size_t kMaxDatagram = 1024;

std::filesystem::path usual_parent() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/' && ::access(runtime, W_OK | X_OK) == 0) return runtime;
  return "/tmp";
}

bool bind_to(int fd, const std::string& path) {
  sockaddr_un name = {};
  if (path.size() + 1 > sizeof name.sun_path) return false;
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  const auto size = static_cast<socklen_t>(sizeof name.sun_family + path.size() + 1);
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&name), size) == 0;
}

/// Folders of ours whose owner was killed together with all who could have cleared up behind it:
/// nobody listens at their socket any more.
void remove_dead_folders(const std::filesystem::path& parent) {
  DIR* entries = ::opendir(parent.c_str());
  if (entries == nullptr) return;
  const std::string_view start(kFolderForm, std::string_view(kFolderForm).find("XXXXXX"));
  while (const dirent* entry = ::readdir(entries)) {
    if (!std::string_view(entry->d_name).starts_with(start)) continue;
    const std::filesystem::path folder = parent / entry->d_name;
    struct stat info = {};
    if (::lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) ||
        info.st_uid != ::geteuid()) {
      continue;
    }
    sockaddr_un name = {};
    const std::string path = folder / kSocketName;
    if (path.size() + 1 > sizeof name.sun_path) continue;
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
    const Fd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 &&
        errno == ECONNREFUSED) {
      remove_kineto_folder(folder);
    }
  }
  ::closedir(entries);
}

/// One datagram with who sent it, by the kernel's word.
struct Received {
  std::array<char, kMaxDatagram> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t size = 0;
  bool whole = false;
  sockaddr_un from = {};
  socklen_t from_size = 0;
  std::optional<ucred> sender = {};
};

bool receive(int fd, Received& received) {
  iovec part = {received.bytes.data(), received.bytes.size()};
  // Room for descriptors that a hostile sender adds would only keep them open: there is none.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control = {};
  msghdr packet = {};
  packet.msg_name = &received.from;
  packet.msg_namelen = sizeof received.from;
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = control.data();
  packet.msg_controllen = control.size();
  ssize_t count = 0;
  do {
    count = ::recvmsg(fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return false;
  received.size = static_cast<std::size_t>(count);
  received.whole = (packet.msg_flags & MSG_TRUNC) == 0;
  received.from_size = packet.msg_namelen;
  for (cmsghdr* entry = CMSG_FIRSTHDR(&packet); entry != nullptr;
       entry = CMSG_NXTHDR(&packet, entry)) {
    if (entry->cmsg_level != SOL_SOCKET) continue;
    if (entry->cmsg_type == SCM_CREDENTIALS && entry->cmsg_len == CMSG_LEN(sizeof(ucred))) {
      ucred sender = {};
      std::memcpy(&sender, CMSG_DATA(entry), sizeof sender);
      received.sender = sender;
    } else if (entry->cmsg_type == SCM_RIGHTS) {
      for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= entry->cmsg_len; at += sizeof(int)) {
        int descriptor = -1;
        std::memcpy(&descriptor, CMSG_DATA(entry) + (at - CMSG_LEN(0)), sizeof descriptor);
        ::close(descriptor);
      }
    }
  }
  return true;
}

}  // namespace

Result<KinetoDaemon> KinetoDaemon::open(const std::filesystem::path& parent) {
  KinetoDaemon daemon;
  std::string form = ((parent.empty() ? usual_parent() : parent) / kFolderForm).string();
  if (::mkdtemp(form.data()) == nullptr) {  // 0700
    return Error{Errc::io, form + ": cannot be made: " + errno_text(errno)};
  }
  daemon.owner_ = ::getpid();
  daemon.folder_ = form;
  const auto failed = [&](const std::string& what) {
    return Error{Errc::io, form + ": " + what + ": " + errno_text(errno)};
  };
  daemon.folder_fd_ = ::open(form.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (daemon.folder_fd_ < 0) return failed("cannot open");
  daemon.address_ =
      "/proc/" + std::to_string(daemon.owner_) + "/fd/" + std::to_string(daemon.folder_fd_);
  const Fd config(::openat(daemon.folder_fd_, kConfigName,
                           O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  constexpr std::string_view kConfig = "ON_DEMAND_CONFIG_UPDATE_INTERVAL_SECS=1\n";
  if (!config.valid() || write_all(config.get(), kConfig) != kConfig.size()) {
    return failed("cannot write");
  }
  daemon.socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  if (daemon.socket_ < 0 ||
      ::setsockopt(daemon.socket_, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      !bind_to(daemon.socket_, daemon.socket_path())) {
    return failed("no socket");
  }
  return daemon;
}

KinetoDaemon::KinetoDaemon(KinetoDaemon&& other) noexcept
    : owner_(std::exchange(other.owner_, -1)),
      socket_(std::exchange(other.socket_, -1)),
      folder_fd_(std::exchange(other.folder_fd_, -1)),
      folder_(std::move(other.folder_)),
      address_(std::move(other.address_)),
      clients_(std::move(other.clients_)),
      pending_(std::move(other.pending_)),
      refused_(other.refused_) {}

KinetoDaemon::~KinetoDaemon() {
  // First the name, then the socket: a client must find no name that leads nowhere.
  if (owner_ == ::getpid()) {
    remove_kineto_folder(folder_);
    remove_dead_folders(folder_.parent_path());
  }
  if (socket_ >= 0) ::close(socket_);
  if (folder_fd_ >= 0) ::close(folder_fd_);
}

std::vector<std::string> KinetoDaemon::environment() const {
  return {"KINETO_USE_DAEMON=1", "KINETO_IPC_SOCKET_DIR=" + address_,
          "KINETO_CONFIG=" + address_ + "/" + kConfigName, "KINETO_ONDEMAND_TRACE_DIR=" + address_,
          "KINETO_LOG_LEVEL=99"};
}

std::string KinetoDaemon::socket_path() const {
  return address_ + "/" + kSocketName;
}

Status KinetoDaemon::set_trace_folder(const std::filesystem::path& target) {
  if (::symlinkat(target.c_str(), folder_fd_, kTracesName) != 0) {
    return Error{Errc::io, folder_.string() + ": no link: " + errno_text(errno)};
  }
  return Ok{};
}

std::string KinetoDaemon::trace_path(std::string_view name) const {
  return address_ + "/" + kTracesName + "/" + std::string(name);
}

void KinetoDaemon::ask(pid_t pid, std::string configuration, double until_s) {
  pending_[pid] = {std::move(configuration), until_s};
}

std::vector<KinetoNews> KinetoDaemon::serve(double now_s) {
  std::erase_if(pending_, [&](const auto& entry) { return entry.second.until_s < now_s; });
  std::vector<KinetoNews> news;
  for (int i = 0; i < kMostAtOnce && serve_one(now_s, news); ++i) {
  }
  return news;
}

bool KinetoDaemon::serve_one(double now_s, std::vector<KinetoNews>& news) {
  Received received;
  if (!receive(socket_, received)) return false;
  const auto refuse = [&] {
    ++refused_;
    return true;
  };
  if (!received.whole || !received.sender || received.sender->pid <= 0) return refuse();
  const auto& sender = *received.sender;
  if (sender.uid != ::geteuid() && sender.uid != 0) return refuse();
  constexpr auto kPathAt = offsetof(sockaddr_un, sun_path);
  if (received.from_size <= kPathAt) return refuse();
  const std::string_view from(received.from.sun_path, received.from_size - kPathAt);
  if (!from.starts_with(address_ + "/" + std::string(kClientName))) return refuse();
  const auto message = parse_kineto_message({received.bytes.data(), received.size});
  if (!message) return refuse();

  if (clients_.size() >= kMostClients) clients_.clear();
  const auto [client, is_new] = clients_.try_emplace(sender.pid);
  if (is_new) news.push_back({sender.pid, KinetoEvent::appeared});
  std::string configuration;
  if (message->kind == KinetoKind::request) {
    if (message->takes_trace != client->second.takes_trace) {
      client->second.takes_trace = message->takes_trace;
      news.push_back({sender.pid, message->takes_trace ? KinetoEvent::ready : KinetoEvent::busy});
    }
    const auto pending = pending_.find(sender.pid);
    if (pending != pending_.end() && message->takes_trace && now_s <= pending->second.until_s) {
      configuration = std::move(pending->second.configuration);
      pending_.erase(pending);
    }
  }
  const std::string answer = kineto_answer(message->kind, configuration);
  ssize_t sent = 0;
  do {
    sent = ::sendto(socket_, answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&received.from), received.from_size);
  } while (sent < 0 && errno == EINTR);
  if (!configuration.empty() && sent == static_cast<ssize_t>(answer.size())) {
    news.push_back({sender.pid, KinetoEvent::took});
  }
  return true;
}

void remove_kineto_folder(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  ::unlinkat(fd, kSocketName, 0);
  ::unlinkat(fd, kConfigName, 0);
  ::unlinkat(fd, kTracesName, 0);
  DIR* entries = ::fdopendir(fd);
  if (entries == nullptr) {
    ::close(fd);
    return;
  }
  while (const dirent* entry = ::readdir(entries)) {
    if (std::string_view(entry->d_name).starts_with(kClientName)) ::unlinkat(fd, entry->d_name, 0);
  }
  ::closedir(entries);
  ::rmdir(folder.c_str());
}

}  // namespace rigwise
