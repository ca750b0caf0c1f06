#include "record/checkpoint_watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>

#include "base/files.h"
#include "base/text.h"
#include "record/checkpoint_files.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

// IN_OPEN tells when a file that exists already is written anew; IN_MODIFY would wake the recorder
// at every write of a checkpoint of many gigabytes.
constexpr std::uint32_t kMask = IN_CREATE | IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE |
                                IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF |
                                IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK;
constexpr std::uint32_t kParentMask = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;
constexpr int kMaxDepth = 6;                // of folders below an output
constexpr std::size_t kMaxOldFolders = 64;  // folders of an output that were there before
constexpr std::size_t kMaxRoots = 64;
constexpr std::size_t kMaxOpenFiles = 4096;  // a checkpoint
constexpr double kTornPatience_s = 120;      // quiet time before a torn one is told while running
constexpr double kRecheck_s = 10;
constexpr double kDiedInside_s = 5;  // last write this near the end: the writer may have died
constexpr double kHeldUp_s = 3;  // without a look for so long (ticks are shorter), events are old
constexpr double kLead_s = 3;    // settings written before the weights of a plain folder
constexpr double kLongRead_s = 600;  // a file open this long without a close is being read
constexpr double kLag_s = 1;         // events later than the file's own time by this: believe that

/// Folders of a working directory that never hold checkpoints and may be huge.
bool is_foreign_folder(std::string_view name) {
  for (const std::string_view other :
       {".git", ".hg", ".svn", "node_modules", "__pycache__", "venv", ".venv", "env", "wandb",
        "mlruns", ".cache", "site-packages", "tensorboard"})
    if (name == other) return true;
  return false;
}

struct Checkpoint {
  bool folder = false;
  bool weights = false;
  double start_s = 0, last_s = 0;
  double checked_s = -1e9;
  std::set<std::string> open = {};            // files being written, by path
  std::map<std::string, double> opened = {};  // IN_OPEN of a file, not yet known to be a write
  std::set<std::string> by_tree = {};         // of `open`, those known from /proc/PID/fd only
  std::map<std::string, double> staging =
      {};                   // files whose temporary name says nothing, since when
  bool found_late = false;  // by looking, not by its events
  bool renamed = false;     // its last act was a rename: mtimes say nothing
};

struct Watched {
  fs::path path = {};
  fs::path root = {};
  int depth = 0;
  bool parent_only = false;  // waits for a root that does not exist yet
};

}  // namespace

struct CheckpointWatch::State {
  CheckpointWatchOptions options;
  CheckpointWatchCounts counts;
  Fd inotify;
  std::unordered_map<int, Watched> watches;
  std::map<fs::path, int> by_path;
  std::vector<fs::path> roots;          // outputs, there or not
  std::set<fs::path> pending;           // of these: not there yet
  std::map<fs::path, Checkpoint> live;  // not told yet
  struct Told {
    std::set<std::string> names;
    double end_s = 0;
  };
  std::map<fs::path, Told> told;
  std::vector<Event> out;
  double polled_s = 0;  // the call before this one
  bool late = false;    // events of this read may be old: the recorder was held up

  void open();
  void add_root(const fs::path& path, double t_s);
  bool add_watch(const fs::path& path, const fs::path& root, int depth, bool parent_only);
  void add_tree(const fs::path& path, const fs::path& root, int depth, double t_s, bool fresh);
  void try_pending(double t_s);
  void read_events(double t_s);
  void handle(const inotify_event& event, std::string_view name, double t_s,
              std::map<std::uint32_t, fs::path>& moved);
  void file_event(const Watched& where, const fs::path& path, std::uint32_t mask, double t_s);
  void renamed(const fs::path& from, const fs::path& to, const Watched& where, bool folder,
               double t_s);
  void forget_folder(const fs::path& path, double t_s);
  void scan_file(const fs::path& path, const fs::path& root, double t_s, bool fresh);
  void rescan(double t_s);
  Checkpoint& touch(const fs::path& key, bool folder, double t_s);
  void settle(double t_s);
  void tell(const fs::path& path, const Checkpoint& checkpoint, const Inspection& look,
            const std::string& state, const std::string& detail);
  [[nodiscard]] double unix_of(double t_s) const { return t_s + options.unix_at_zero_s; }
  [[nodiscard]] std::string shown(const fs::path& path) const;
  [[nodiscard]] std::string lacks_of_sibling(const fs::path& path, const Inspection& look) const;
};

// ------------------------------------------------------------------------------------------------
// watches

void CheckpointWatch::State::open() {
  inotify.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid()) counts.unavailable = "no inotify: " + errno_text(errno);
}

bool CheckpointWatch::State::add_watch(const fs::path& path, const fs::path& root, int depth,
                                       bool parent_only) {
  if (!inotify.valid()) return false;
  const auto known = by_path.find(path);
  if (known != by_path.end()) {
    Watched& watched = watches[known->second];
    if (!watched.parent_only || parent_only) return true;
  } else if (watches.size() >= options.max_watches) {
    ++counts.refused_watches;
    return false;
  }
  const int wd =
      ::inotify_add_watch(inotify.get(), path.c_str(), parent_only ? kParentMask : kMask);
  if (wd < 0) {
    if (errno != ENOENT && errno != ENOTDIR) ++counts.refused_watches;
    return false;
  }
  const auto other = watches.find(wd);  // the same folder under another name
  if (other != watches.end() && other->second.path != path) by_path.erase(other->second.path);
  watches[wd] = Watched{path, root, depth, parent_only};
  by_path[path] = wd;
  return true;
}

/// Watches a folder and those below. `fresh`: it appeared while we watched, so all in it is new.
void CheckpointWatch::State::add_tree(const fs::path& path, const fs::path& root, int depth,
                                      double t_s, bool fresh) {
  if (!add_watch(path, root, depth, false)) return;
  std::error_code error;
  std::size_t old_folders = 0;
  constexpr std::size_t kMaxEntries = 20000;
  std::size_t entries = 0;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (++entries > kMaxEntries) break;
    struct stat status {};
    if (::lstat(it->path().c_str(), &status) != 0) continue;
    if (S_ISDIR(status.st_mode)) {
      const std::string name = it->path().filename().string();
      if (depth >= kMaxDepth || is_foreign_folder(name)) continue;
      if (!fresh && (depth >= 2 || ++old_folders > kMaxOldFolders)) continue;
      add_tree(it->path(), root, depth + 1, t_s, fresh);
    } else if (S_ISREG(status.st_mode)) {
      scan_file(it->path(), root, t_s, fresh);
    }
  }
  if (error) ++counts.read_errors;
}

void CheckpointWatch::State::add_root(const fs::path& path, double t_s) {
  fs::path root = (path.is_absolute() ? path : fs::path(options.cwd) / path).lexically_normal();
  if (!root.has_filename()) root = root.parent_path();
  if (root.empty() || root == root.root_path() || root.native().size() > 4096) return;
  for (const fs::path& known : roots) {
    if (known == root) return;
    // Below an output that is watched already.
    const auto inside = root.lexically_relative(known);
    if (!inside.empty() && *inside.begin() != ".." && pending.count(known) == 0 &&
        by_path.count(root) != 0)
      return;
  }
  if (roots.size() >= kMaxRoots) {
    ++counts.refused_watches;
    return;
  }
  roots.push_back(root);
  pending.insert(root);
  try_pending(t_s);
}

void CheckpointWatch::State::try_pending(double t_s) {
  for (auto it = pending.begin(); it != pending.end();) {
    struct stat status {};
    // The output itself may be a link that the user made; below it none is followed.
    if (::stat(it->c_str(), &status) == 0) {
      if (S_ISDIR(status.st_mode)) {
        std::error_code error;
        const fs::path real = fs::is_symlink(*it, error) ? fs::canonical(*it, error) : *it;
        if (!error) add_tree(real, real, 0, t_s, false);
      }
      it = pending.erase(it);
      continue;
    }
    fs::path parent = it->parent_path();
    while (parent.has_relative_path() && ::stat(parent.c_str(), &status) != 0)
      parent = parent.parent_path();
    if (parent.has_relative_path() && by_path.count(parent) == 0)
      add_watch(parent, parent, 0, true);
    ++it;
  }
}

// ------------------------------------------------------------------------------------------------
// events

Checkpoint& CheckpointWatch::State::touch(const fs::path& key, bool folder, double t_s) {
  const auto [place, fresh] = live.try_emplace(key);
  Checkpoint& checkpoint = place->second;
  checkpoint.found_late = checkpoint.found_late || late;
  if (fresh) {
    checkpoint.folder = folder;
    checkpoint.start_s = t_s;
  }
  checkpoint.last_s = std::max(checkpoint.last_s, t_s);
  return checkpoint;
}

/// A file found by looking, not by an event: it counts when it was written since the run's start.
void CheckpointWatch::State::scan_file(const fs::path& path, const fs::path& root, double t_s,
                                       bool fresh) {
  const auto belongs = belongs_to(root, path);
  if (!belongs) return;
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return;
  const double written_s = static_cast<double>(status.st_mtim.tv_sec) +
                           1e-9 * static_cast<double>(status.st_mtim.tv_nsec) -
                           options.unix_at_zero_s;
  if (written_s < 0) return;  // of an earlier run
  const auto known = told.find(belongs->checkpoint);
  if (known != told.end() && written_s <= known->second.end_s + kLag_s) return;
  const double seen_s = std::min(written_s, t_s);
  Checkpoint& checkpoint = touch(belongs->checkpoint, belongs->folder, seen_s);
  checkpoint.start_s = std::min(checkpoint.start_s, seen_s);
  checkpoint.weights = checkpoint.weights || belongs->weights;
  if (!belongs->weights && is_staging_name(path.filename().string()) &&
      checkpoint.staging.size() < kMaxOpenFiles)
    checkpoint.staging.try_emplace(path.string(), seen_s);
  checkpoint.found_late = checkpoint.found_late || !fresh;
}

void CheckpointWatch::State::file_event(const Watched& where, const fs::path& path,
                                        std::uint32_t mask, double t_s) {
  const auto belongs = belongs_to(where.root, path);
  if (!belongs) return;
  const std::string name = path.string();
  if ((mask & IN_DELETE) != 0) {
    const auto found = live.find(belongs->checkpoint);
    if (found == live.end()) return;
    found->second.open.erase(name);
    found->second.opened.erase(name);
    found->second.staging.erase(name);
    if (!belongs->folder) live.erase(found);
    return;
  }
  if ((mask & (IN_OPEN | IN_CLOSE_NOWRITE)) != 0) {
    // Reading or writing? The close will tell; the start of a write is its open.
    const auto found = live.find(belongs->checkpoint);
    if ((mask & IN_CLOSE_NOWRITE) != 0) {
      if (found != live.end()) found->second.opened.erase(name);
      return;
    }
    if (!belongs->weights || (found != live.end() && found->second.open.count(name) != 0)) return;
    Checkpoint& checkpoint =
        found != live.end() ? found->second : touch(belongs->checkpoint, belongs->folder, t_s);
    if (checkpoint.opened.size() < kMaxOpenFiles) checkpoint.opened[name] = t_s;
    return;
  }
  if ((mask & IN_CREATE) != 0) {
    // A link appears without being written: a symbolic one is passed over, a hard one is whole.
    struct stat status {};
    const bool there = ::lstat(name.c_str(), &status) == 0;
    if (there && !S_ISREG(status.st_mode)) return;
    if (there && status.st_nlink > 1) mask = IN_CLOSE_WRITE;
  }
  Checkpoint& checkpoint = touch(belongs->checkpoint, belongs->folder, t_s);
  checkpoint.renamed = false;
  const auto opened = checkpoint.opened.find(name);
  if (belongs->weights && !checkpoint.weights) {
    const double began_s = opened != checkpoint.opened.end() ? opened->second : t_s;
    // In a plain folder other things are written all the time: only the last few belong to this
    // save.
    const bool numbered =
        belongs->folder && is_numbered_checkpoint_name(belongs->checkpoint.filename().string());
    if (!belongs->folder)
      checkpoint.start_s = began_s;
    else if (!numbered)
      checkpoint.start_s = std::max(checkpoint.start_s, began_s - kLead_s);
    checkpoint.weights = true;
  }
  if (!belongs->weights && is_staging_name(path.filename().string()) &&
      checkpoint.staging.size() < kMaxOpenFiles)
    checkpoint.staging.try_emplace(name, t_s);
  if ((mask & IN_CREATE) != 0) {
    if (checkpoint.open.size() < kMaxOpenFiles) checkpoint.open.insert(name);
  } else if ((mask & IN_CLOSE_WRITE) != 0) {
    checkpoint.open.erase(name);
    if (opened != checkpoint.opened.end()) checkpoint.opened.erase(opened);
  }
}

void CheckpointWatch::State::renamed(const fs::path& from, const fs::path& to, const Watched& where,
                                     bool folder, double t_s) {
  if (folder) {
    // Watches below follow the folder; so do checkpoints that were being written in it.
    for (auto& [wd, watched] : watches) {
      const auto inside = watched.path.lexically_relative(from);
      if (inside.empty() || *inside.begin() == "..") continue;
      by_path.erase(watched.path);
      watched.path = inside == "." ? to : to / inside;
      by_path[watched.path] = wd;
    }
    std::map<fs::path, Checkpoint> moved;
    for (auto it = live.begin(); it != live.end();) {
      const auto inside = it->first.lexically_relative(from);
      if (inside.empty() || *inside.begin() == "..") {
        ++it;
        continue;
      }
      Checkpoint checkpoint = std::move(it->second);
      std::set<std::string> open;
      for (const auto& name : checkpoint.open) {
        const auto below = fs::path(name).lexically_relative(from);
        open.insert((to / below).string());
      }
      checkpoint.open = std::move(open);
      checkpoint.last_s = t_s;
      checkpoint.renamed = true;
      moved[inside == "." ? to : to / inside] = std::move(checkpoint);
      it = live.erase(it);
    }
    for (auto& [path, checkpoint] : moved) live[path] = std::move(checkpoint);
    if (by_path.count(to) == 0) add_tree(to, where.root, where.depth + 1, t_s, true);
    return;
  }
  const auto before = belongs_to(where.root, from), after = belongs_to(where.root, to);
  double start_s = t_s;
  bool plain = false;  // a folder in which other things are written too
  if (before) {
    const auto found = live.find(before->checkpoint);
    if (found != live.end()) {
      Checkpoint& old = found->second;
      plain = before->folder &&
              !is_numbered_checkpoint_name(before->checkpoint.filename().string()) && !old.weights;
      const auto staged = old.staging.find(from.string());
      const double staged_s = staged != old.staging.end() ? staged->second : old.start_s;
      start_s = plain ? std::max(old.start_s, staged_s - kLead_s) : old.start_s;
      if (plain && after && after->checkpoint == before->checkpoint) old.start_s = start_s;
      if (staged != old.staging.end()) old.staging.erase(staged);
      old.open.erase(from.string());
      if (!before->folder) live.erase(found);
    }
  }
  if (!after) return;
  Checkpoint& checkpoint = touch(after->checkpoint, after->folder, t_s);
  checkpoint.start_s = std::min(checkpoint.start_s, start_s);
  checkpoint.weights = checkpoint.weights || after->weights;
  checkpoint.renamed = true;
}

/// A folder was removed or moved out of sight.
void CheckpointWatch::State::forget_folder(const fs::path& path, double t_s) {
  for (auto it = watches.begin(); it != watches.end();) {
    const auto inside = it->second.path.lexically_relative(path);
    if (inside.empty() || *inside.begin() == "..") {
      ++it;
      continue;
    }
    by_path.erase(it->second.path);
    ::inotify_rm_watch(inotify.get(), it->first);
    it = watches.erase(it);
  }
  for (auto it = live.begin(); it != live.end();) {
    const auto inside = it->first.lexically_relative(path);
    if (inside.empty() || *inside.begin() == "..") {
      ++it;
      continue;
    }
    // Made and removed before it was judged: it cost its time all the same.
    if (it->second.weights && it->second.open.empty()) {
      it->second.last_s = std::min(it->second.last_s, t_s);
      tell(it->first, it->second, Inspection(), "complete", "removed soon after");
    }
    it = live.erase(it);
  }
  told.erase(path);
  for (const fs::path& root : roots)
    if (root == path) pending.insert(root);  // it may come back
}

void CheckpointWatch::State::handle(const inotify_event& event, std::string_view name, double t_s,
                                    std::map<std::uint32_t, fs::path>& moved) {
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    ++counts.overflows;
    rescan(t_s);
    return;
  }
  const auto found = watches.find(event.wd);
  if (found == watches.end()) return;
  if ((event.mask & IN_IGNORED) != 0) {
    const auto place = by_path.find(found->second.path);
    if (place != by_path.end() && place->second == event.wd) by_path.erase(place);
    watches.erase(found);
    return;
  }
  const Watched where = found->second;
  if ((event.mask & IN_DELETE_SELF) != 0) return forget_folder(where.path, t_s);
  if (name.empty() || where.parent_only) return;
  const fs::path path = where.path / name;
  const bool folder = (event.mask & IN_ISDIR) != 0;
  if ((event.mask & IN_MOVED_FROM) != 0) {
    moved[event.cookie] = path;
    return;
  }
  if ((event.mask & IN_MOVED_TO) != 0) {
    const auto from = moved.find(event.cookie);
    if (from != moved.end()) {
      const fs::path origin = from->second;
      moved.erase(from);
      renamed(origin, path, where, folder, t_s);
    } else if (folder) {
      add_tree(path, where.root, where.depth + 1, t_s, true);
    } else {
      file_event(where, path, IN_CLOSE_WRITE, t_s);
    }
    return;
  }
  if (!folder) return file_event(where, path, event.mask, t_s);
  if ((event.mask & IN_CREATE) != 0 && where.depth < kMaxDepth &&
      !is_foreign_folder(path.filename().string())) {
    // A checkpoint starts when its folder is made.
    const auto belongs = belongs_to(where.root, path / "x.pt");
    if (belongs && belongs->folder) touch(belongs->checkpoint, true, t_s);
    add_tree(path, where.root, where.depth + 1, t_s, true);
  }
  if ((event.mask & IN_DELETE) != 0) forget_folder(path, t_s);
}

void CheckpointWatch::State::read_events(double t_s) {
  late = t_s - polled_s > kHeldUp_s;
  polled_s = t_s;
  if (!inotify.valid()) return;
  alignas(inotify_event) std::array<char, 16384> buffer;
  std::map<std::uint32_t, fs::path> moved;
  constexpr int kMaxReads = 256;  // a storm waits for the next call
  for (int i = 0; i < kMaxReads; ++i) {
    const ssize_t got = ::read(inotify.get(), buffer.data(), buffer.size());
    if (got <= 0) break;
    for (std::size_t at = 0; at + sizeof(inotify_event) <= static_cast<std::size_t>(got);) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* text = buffer.data() + at + sizeof event;
      handle(event, std::string_view(text, ::strnlen(text, event.len)), t_s, moved);
      at += sizeof event + event.len;
    }
  }
  late = false;
  // Moved from here to nowhere that we watch.
  for (const auto& [cookie, path] : moved) {
    if (by_path.count(path) != 0) forget_folder(path, t_s);
    live.erase(path);
  }
}

/// Events were lost: look at every watched folder for what was written since the run's start.
void CheckpointWatch::State::rescan(double t_s) {
  std::vector<Watched> all;
  for (const auto& [wd, watched] : watches)
    if (!watched.parent_only) all.push_back(watched);
  for (auto& [path, checkpoint] : live)
    checkpoint.open.clear();  // their closes may be among the lost
  for (const Watched& watched : all) {
    std::error_code error;
    for (fs::directory_iterator it(watched.path, error), end; !error && it != end;
         it.increment(error)) {
      struct stat status {};
      if (::lstat(it->path().c_str(), &status) != 0) continue;
      if (S_ISREG(status.st_mode))
        scan_file(it->path(), watched.root, t_s, false);
      else if (S_ISDIR(status.st_mode) && by_path.count(it->path()) == 0 &&
               watched.depth < kMaxDepth && !is_foreign_folder(it->path().filename().string()))
        add_tree(it->path(), watched.root, watched.depth + 1, t_s, false);
    }
    if (error) ++counts.read_errors;
  }
}

// ------------------------------------------------------------------------------------------------
// judging

std::string CheckpointWatch::State::shown(const fs::path& path) const {
  const auto inside = path.lexically_relative(options.cwd);
  const bool below = !options.cwd.empty() && !inside.empty() && *inside.begin() != "..";
  return clean_text(below && inside != "." ? inside.string() : path.string(), 1024);
}

/// A file that the checkpoint before this one had, under the same kind of name, and this one lacks.
std::string CheckpointWatch::State::lacks_of_sibling(const fs::path& path,
                                                     const Inspection& look) const {
  if (!is_numbered_checkpoint_name(path.filename().string())) return {};
  const Told* before = nullptr;
  for (const auto& [other, record] : told)
    if (other != path && other.parent_path() == path.parent_path() && !record.names.empty() &&
        is_numbered_checkpoint_name(other.filename().string()) &&
        (before == nullptr || record.end_s > before->end_s))
      before = &record;
  if (before == nullptr) return {};
  for (const auto& name : before->names)
    if (look.names.count(name) == 0)
      return clean_text(name, 128) + " is missing, which the one before has";
  return {};
}

void CheckpointWatch::State::tell(const fs::path& path, const Checkpoint& checkpoint,
                                  const Inspection& look, const std::string& state,
                                  const std::string& detail) {
  Event event;
  event.kind = EventKind::checkpoint;
  event.t_s = checkpoint.start_s;
  double end_s = checkpoint.last_s;
  if (look.newest_unix_s && checkpoint.found_late && !checkpoint.renamed) {
    // The events were read late (or the folder was found late): the files know better.
    const double written_s = *look.newest_unix_s - options.unix_at_zero_s;
    if (written_s >= event.t_s && end_s - written_s > kLag_s) end_s = written_s;
  }
  if (look.oldest_unix_s && checkpoint.found_late && told.count(path) == 0) {
    const double born_s = *look.oldest_unix_s - options.unix_at_zero_s;
    if (born_s >= 0 && event.t_s - born_s > kLag_s) event.t_s = born_s;
  }
  event.t_end_s = std::max(event.t_s, end_s);
  event.name = shown(path);
  event.state = state;
  event.step = step_of_checkpoint_name(path.filename().string());
  if (look.exists) {
    event.size_bytes = look.bytes;
    event.files = look.files;
  }
  event.how = "filesystem";
  event.detail = clean_text(detail, 256);
  out.push_back(std::move(event));
  constexpr std::size_t kMaxTold = 1024;
  if (told.size() >= kMaxTold) told.erase(told.begin());
  told[path] = {state == "complete" ? look.names : std::set<std::string>(), checkpoint.last_s};
}

void CheckpointWatch::State::settle(double t_s) {
  for (auto it = live.begin(); it != live.end();) {
    Checkpoint& checkpoint = it->second;
    const double quiet_s = t_s - checkpoint.last_s;
    const bool busy = !checkpoint.open.empty() && checkpoint.weights;
    const bool checked = checkpoint.checked_s > checkpoint.last_s;
    if (busy || quiet_s < options.settle_s ||
        (checked && t_s - checkpoint.checked_s < kRecheck_s)) {
      ++it;
      continue;
    }
    if (!checkpoint.weights) {  // only read, or only logs and settings
      const bool writing = !checkpoint.opened.empty() || !checkpoint.open.empty();
      const bool waits = writing && quiet_s < kLongRead_s;
      it = waits ? std::next(it) : live.erase(it);
      continue;
    }
    checkpoint.checked_s = t_s;
    const Inspection look = inspect_checkpoint(it->first, unix_of(checkpoint.start_s) - kLag_s);
    if (!look.exists) {
      it = live.erase(it);
      continue;
    }
    if (!look.torn.empty() && quiet_s < kTornPatience_s) {
      ++it;  // perhaps more is to come
      continue;
    }
    tell(it->first, checkpoint, look, look.torn.empty() ? "complete" : "torn", look.torn);
    it = live.erase(it);
  }
}

// ------------------------------------------------------------------------------------------------
// the public face

CheckpointWatch::CheckpointWatch(const CheckpointWatchOptions& options)
    : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->open();
  for (const auto& directory : output_directories_of(options.argv, options.cwd))
    state_->add_root(directory, 0);
}
CheckpointWatch::CheckpointWatch(CheckpointWatch&&) noexcept = default;
CheckpointWatch& CheckpointWatch::operator=(CheckpointWatch&&) noexcept = default;
CheckpointWatch::~CheckpointWatch() = default;

int CheckpointWatch::fd() const {
  return state_->inotify.get();
}

std::vector<Event> CheckpointWatch::poll(double t_s) {
  state_->read_events(t_s);
  if (!state_->pending.empty()) state_->try_pending(t_s);
  state_->settle(t_s);
  return std::exchange(state_->out, {});
}

void CheckpointWatch::watch(const fs::path& directory, double t_s) {
  state_->add_root(directory, t_s);
}

void CheckpointWatch::note_log(const LogBatch& batch, double t_s) {
  for (const Event& event : batch.events) {
    if (event.kind != EventKind::checkpoint || event.name.empty()) continue;
    fs::path path = fs::path(event.name).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    const std::string name = path.filename().string();
    // The folder that holds the checkpoints, so that the next one is seen from its start.
    const bool inner = is_numbered_checkpoint_name(name) || is_checkpoint_file(name);
    if (inner) path = path.parent_path();
    if (path.empty()) path = ".";
    state_->add_root(path, t_s);
  }
}

void CheckpointWatch::look_at_tree(const std::vector<int>& pids, double t_s) {
  constexpr std::size_t kMaxDescriptors = 2048;
  std::array<char, 4096> target;
  // What only /proc told is open is open as long as /proc tells it.
  for (auto& [path, checkpoint] : state_->live) {
    for (const auto& name : checkpoint.by_tree) checkpoint.open.erase(name);
    checkpoint.by_tree.clear();
  }
  for (const int pid : pids) {
    const fs::path base = state_->options.proc_root / std::to_string(pid);
    std::error_code error;
    std::size_t seen = 0;
    for (fs::directory_iterator it(base / "fd", error), end; !error && it != end;
         it.increment(error)) {
      if (++seen > kMaxDescriptors) break;
      const ssize_t size = ::readlink(it->path().c_str(), target.data(), target.size());
      if (size <= 1 || target[0] != '/' || size >= static_cast<ssize_t>(target.size())) continue;
      const fs::path file(std::string(target.data(), static_cast<std::size_t>(size)));
      if (!is_checkpoint_file(file.filename().string())) continue;
      const auto info = read_file(base / "fdinfo" / it->path().filename(), 4096);
      if (!info) continue;
      const std::size_t flags = info->find("flags:");
      if (flags == std::string::npos) continue;
      const unsigned long mode = std::strtoul(info->c_str() + flags + 6, nullptr, 8);
      if ((mode & O_ACCMODE) == O_RDONLY) continue;
      fs::path folder = file.parent_path();
      if (is_numbered_checkpoint_name(folder.filename().string())) folder = folder.parent_path();
      state_->add_root(folder, t_s);
      const auto belongs = belongs_to(folder, file);
      if (!belongs || state_->told.count(belongs->checkpoint) != 0) continue;
      Checkpoint& checkpoint = state_->touch(belongs->checkpoint, belongs->folder, t_s);
      checkpoint.weights = true;
      if (checkpoint.open.insert(file.string()).second) {
        checkpoint.by_tree.insert(file.string());
        checkpoint.found_late = true;
      }
    }
  }
}

std::vector<Event> CheckpointWatch::finish(double t_s, bool command_ended) {
  State& state = *state_;
  state.read_events(t_s);
  if (!state.pending.empty()) state.try_pending(t_s);
  for (auto& [path, checkpoint] : state.live) {
    if (!checkpoint.weights && checkpoint.staging.empty()) continue;
    const Inspection look = inspect_checkpoint(path, state.unix_of(checkpoint.start_s) - kLag_s);
    if (!look.exists) continue;
    std::string verdict = "complete", detail = look.torn;
    if (!checkpoint.open.empty()) {
      verdict = command_ended ? "torn" : "open";
      if (detail.empty())
        detail = std::to_string(checkpoint.open.size()) + " file(s) were never closed";
    } else if (!look.torn.empty()) {
      verdict = command_ended ? "torn" : "open";
    } else if (command_ended && t_s - checkpoint.last_s < kDiedInside_s) {
      detail = state.lacks_of_sibling(path, look);
      if (!detail.empty()) verdict = "torn";
    }
    state.tell(path, checkpoint, look, verdict, detail);
  }
  state.live.clear();
  return std::exchange(state.out, {});
}

std::vector<fs::path> CheckpointWatch::outputs() const {
  return state_->roots;
}
const CheckpointWatchCounts& CheckpointWatch::counts() const {
  return state_->counts;
}

}  // namespace rigwise
