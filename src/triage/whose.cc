// Whose failure it is: the rank of the line that was chosen, by what it accuses, who says it, who
// ended, and who is left when all others speak of somebody else.
#include <algorithm>
#include <csignal>

#include "base/text.h"
#include "triage/clues.h"

namespace rigwise::triage_parts {

namespace {

class Whose {
 public:
  explicit Whose(const Seen& seen) : seen_(seen) {}

  [[nodiscard]] std::optional<int> of(const Clue& cause) const {
    auto rank = stated_rank(cause);
    return rank ? rank : rank_of_host(cause.host);
  }

 private:
  /// "worker-1" of a set of pods, where no line names a rank: the set's own number, behind the
  /// master where it has a name of its own.
  [[nodiscard]] std::optional<int> rank_of_host(const std::string& host) const {
    if (!seen_.ranks.empty()) return {};
    const std::size_t dash = host.rfind('-');
    if (dash == std::string::npos) return {};
    const auto number = to_integer(std::string_view(host).substr(dash + 1));
    if (!number || *number < 0 || *number > 65535) return {};
    const std::string stem = host.substr(0, dash + 1);
    const auto of_set = [&](const std::string& other) {
      return other.starts_with(stem) || other.find("master-0") != std::string::npos;
    };
    if (std::count_if(seen_.hosts.begin(), seen_.hosts.end(), of_set) < 2) return {};
    const bool behind = stem.find("master-") == std::string::npos &&
                        std::any_of(seen_.hosts.begin(), seen_.hosts.end(), [](const auto& other) {
                          return other.find("master-0") != std::string::npos;
                        });
    // of machines that happen to have numbers the first is not known
    const bool counted = seen_.hosts.contains(stem + "0") || seen_.hosts.contains(stem + "1");
    if (!behind && !counted) return {};
    return static_cast<int>(*number) + (behind ? 1 : 0);
  }

  /// Says this line that the rank which prints it is the one in trouble, and not a peer?
  static bool of_its_own(const Clue& event) {
    const bool of_many = event.layer == FailureLayer::collective_timeout ||
                         event.layer == FailureLayer::rendezvous_network ||
                         event.layer == FailureLayer::launcher;
    return event.role != Role::lost && (event.role != Role::symptom || !of_many);
  }

  [[nodiscard]] std::optional<int> stated_rank(const Clue& cause) const {
    if (cause.about) return cause.about;
    if (cause.pid) {
      const auto known = seen_.rank_of_pid.find(*cause.pid);
      if (known != seen_.rank_of_pid.end()) return known->second;
    }
    if (cause.named_by) return cause.named_by;
    if (!of_its_own(cause)) return accused(cause);
    if ((cause.role == Role::confirmation || cause.evidence) && !cause.rank) {
      if (const auto owner = rank_of_device(cause)) return owner;
      const std::set<int> complain = complaining(cause);
      if (complain.size() > 1) return {};
      return complain.empty() ? rank_that_ended(cause) : *complain.begin();
    }
    const Speakers who = who_says(cause);
    if (who.ranks.size() == 1 && who.untagged <= 1) return *who.ranks.begin();
    if (who.ranks.empty() && who.untagged > 0 && (who.untagged > 1 || !cause.exception)) {
      // said by nobody, as a GPU's assertions are: the only one whom it stopped
      const std::set<int> complain = complaining(cause);
      const bool several = seen_.ranks.size() > 1 || (!complain.empty() && *complain.begin() > 0);
      if (complain.size() == 1 && several) return *complain.begin();
    }
    // the first of them; what was asked wrongly is nobody's, whoever notices
    if (some_of_all(who.ranks) && cause.layer != FailureLayer::user_config) return cause.rank;
    if (!who.ranks.empty() || who.untagged > 1) return {};
    if (who.quoted.size() == 1) return *who.quoted.begin();
    if (const auto spoken = rank_in(cause.message)) return spoken;
    if (const auto only = rank_of_section(cause)) return only;
    if (const auto device = device_in(cause)) return device;
    if (const auto ended = rank_that_ended(cause)) return ended;
    if (cause.nccl_device && is_first_host(cause.host)) return cause.nccl_device;
    return accused(cause);
  }

  /// The only host, and not one that is numbered behind another: there a device's number is a rank.
  [[nodiscard]] bool is_first_host(std::string_view host) const {
    const std::size_t letters = host.find_last_not_of("0123456789");
    const auto number =
        to_integer(host.substr(letters == std::string_view::npos ? 0 : letters + 1));
    return seen_.hosts.size() <= 1 && (!number || *number == 0);
  }

  /// Several ranks say it, but not all that there are: where all do, it is nobody's.
  [[nodiscard]] bool some_of_all(const std::set<int>& ranks) const {
    return ranks.size() > 1 && std::any_of(seen_.ranks.begin(), seen_.ranks.end(),
                                           [&](int rank) { return !ranks.contains(rank); });
  }

  /// "(GPU 1; 14.76 GiB total capacity": where each rank has a GPU of its own on the only host, the
  /// number of a GPU that is not the first is its rank. The first one says nothing: a rank that
  /// sees only its own calls that GPU 0 too.
  [[nodiscard]] std::optional<int> device_in(const Clue& cause) const {
    if (cause.layer != FailureLayer::gpu_oom || !is_first_host(cause.host)) return {};
    const auto number = number_after(cause.message, "GPU ");
    const auto by_launcher = [](const Clue& clue) {
      return clue.role == Role::teardown || clue.role == Role::ending;
    };
    const bool several = seen_.ranks.size() > 1 || seen_.rank_of_pid.size() > 1 ||
                         std::any_of(seen_.clues.begin(), seen_.clues.end(), by_launcher);
    return number.value_or(0) > 0 && several ? number : std::nullopt;
  }

  struct Speakers {
    std::set<int> ranks = {}, quoted = {};  // quoted: in a launcher's table
    std::size_t untagged = 0;
  };

  /// Who says the same as the cause: in the same words, or in a longer line.
  [[nodiscard]] Speakers who_says(const Clue& cause) const {
    constexpr std::size_t kTelling = 16;
    const std::string like = likeness(words_of(cause));
    Speakers out;
    for (const Clue& clue : seen_.clues) {
      if (clue.role != cause.role || clue.layer != cause.layer || clue.code != cause.code) continue;
      const std::string other = likeness(words_of(clue));
      const bool same = other == like ||
                        (like.size() >= kTelling && other.find(like) != std::string::npos) ||
                        (other.size() >= kTelling && like.find(other) != std::string::npos);
      if (!same) continue;
      if (clue.of_table && clue.rank) {
        out.quoted.insert(*clue.rank);
      } else if (clue.rank) {
        out.ranks.insert(*clue.rank);
      } else {
        ++out.untagged;
      }
    }
    return out;
  }

  /// The only rank that speaks in the part of the logs, or on the host, where the cause stands,
  /// where others speak elsewhere.
  [[nodiscard]] std::optional<int> rank_of_section(const Clue& cause) const {
    const auto only = only_speaker(seen_.speakers, {cause.place.log, cause.place.section});
    return only ? only : only_speaker(seen_.speakers_of_host, cause.host);
  }

  template <class Parts>
  static std::optional<int> only_speaker(const Parts& parts, const typename Parts::key_type& part) {
    const auto own = parts.find(part);
    if (own == parts.end() || own->second.size() != 1) return {};
    const int rank = *own->second.begin();
    const bool others = std::any_of(parts.begin(), parts.end(), [&](const auto& each) {
      return each.first != own->first && !each.second.contains(rank);
    });
    return others ? std::optional(rank) : std::nullopt;
  }

  /// The one process that ended before the launcher ended the others: the only one that it names,
  /// or the only one that a signal ended while its peers came to say that they lost somebody.
  [[nodiscard]] std::optional<int> rank_that_ended(const Clue& cause) const {
    const std::pair section(cause.place.log, cause.place.section);
    std::vector<const Ended*> here, all;
    for (const Ended& each : seen_.ended) {
      const std::pair place(each.place.log, each.place.section);
      const bool whole = each.listed || seen_.closing.contains(place);
      if (!each.rank || !whole || each.code == -15) continue;
      all.push_back(&each);
      if (place == section) here.push_back(&each);
    }
    // a section of its own is another host's, or the machine's
    const bool anywhere = here.empty() && (cause.place.section == 0 || cause.evidence);
    const auto& ended = anywhere ? all : here;
    if (ended.size() == 1) return ended[0]->rank;
    const bool killed = cause.layer == FailureLayer::host_oom;
    if (seen_.nccl && !killed) return {};  // its watchdog aborts the peers too
    std::optional<int> found;
    for (const Ended* each : ended) {
      if (killed ? each->code != -SIGKILL : each->code >= 0) continue;
      if (found) return {};
      found = each->rank;
    }
    return found;
  }

  /// Of a collective that timed out: the one rank that did not come to it, or the one that came
  /// with another operation or size than all others.
  [[nodiscard]] std::optional<int> odd_one_out(const Clue& cause) const {
    if (cause.layer != FailureLayer::collective_timeout || !cause.rank) return {};
    if (seen_.several_groups) return {};
    const auto waited = seen_.collectives.find(*cause.rank);
    if (waited == seen_.collectives.end() || !waited->second.timed_out) return {};
    std::set<int> behind;
    std::map<std::string, std::set<int>> forms;
    for (const auto& [rank, own] : seen_.collectives) {
      if (own.enqueued && *own.enqueued < *waited->second.timed_out) behind.insert(rank);
      if (own.timed_out == waited->second.timed_out) forms[own.form].insert(rank);
    }
    if (behind.size() == 1) return *behind.begin();
    if (forms.size() != 2) return {};
    const auto &one = forms.begin()->second, &other = forms.rbegin()->second;
    if (one.size() == 1 && other.size() > 1) return *one.begin();
    if (other.size() == 1 && one.size() > 1) return *other.begin();
    return {};
  }

  /// Of a failure that nobody says is his: the one rank that is left when all others say that
  /// somebody else has gone or did not come, or that still made data ready while others waited.
  [[nodiscard]] std::optional<int> accused(const Clue& cause) const {
    if (const auto odd = odd_one_out(cause)) return odd;
    std::set<int> left = seen_.ranks;
    for (const Clue& clue : seen_.clues) {
      if (clue.rank && !of_its_own(clue)) left.erase(*clue.rank);
    }
    if (!of_its_own(cause)) {
      for (const Ended& each : seen_.ended) {
        if (each.rank && each.code > 0) left.erase(*each.rank);
      }
    }
    if (seen_.ranks.size() > 1 && left.size() == 1) return *left.begin();
    if (cause.layer != FailureLayer::collective_timeout) return {};
    if (seen_.preparing && cause.rank != seen_.preparing) return seen_.preparing;
    if (seen_.talking && left.contains(*seen_.talking)) return seen_.talking;
    return {};
  }

  /// The ranks that complain of what a line says that is no rank's: a device's or disk's record, a
  /// GPU's assertion.
  [[nodiscard]] std::set<int> complaining(const Clue& record) const {
    std::set<int> complain;
    for (const Clue& event : seen_.clues) {
      if (event.role == Role::confirmation || !event.rank || !of_its_own(event)) continue;
      const bool same =
          event.layer == record.layer || (record.layer == FailureLayer::hardware_fault &&
                                          event.layer == FailureLayer::gpu_runtime);
      if (same) complain.insert(*event.rank);
    }
    return complain;
  }

  /// The rank whose GPU it is, by what NCCL said when it began; on one of several hosts that is
  /// not known.
  [[nodiscard]] std::optional<int> rank_of_device(const Clue& record) const {
    const auto known = record.bus ? seen_.ranks_of_bus.find(*record.bus) : seen_.ranks_of_bus.end();
    if (known == seen_.ranks_of_bus.end() || known->second.size() != 1) return {};
    return *known->second.begin();
  }

  /// "on rank 3": the only rank that a message speaks of.
  static std::optional<int> rank_in(const std::string& message) {
    const std::string small = lower(message);
    std::optional<int> found;
    for (std::size_t at = small.find("rank "); at != std::string::npos;
         at = small.find("rank ", at + 5)) {
      std::size_t end = at + 5;
      while (end < small.size() && end - at < 11 && is_digit(small[end])) ++end;
      const auto value = to_integer(std::string_view(small).substr(at + 5, end - at - 5));
      if (!value) continue;
      if (found && *found != static_cast<int>(*value)) return {};
      found = static_cast<int>(*value);
    }
    return found;
  }

  const Seen& seen_;
};

}  // namespace

std::string_view words_of(const Clue& clue) {
  const std::string_view message = clue.message;
  const std::size_t colon = clue.exception ? message.find(": ") : std::string_view::npos;
  return colon == std::string_view::npos ? message : message.substr(colon + 2);
}

std::optional<int> rank_of_failure(const Clue& cause, const Seen& seen) {
  return Whose(seen).of(cause);
}

}  // namespace rigwise::triage_parts
