// Profile gate: may this command be given what makes PyTorch ask for windows? Decided from words
// and files alone, in a few milliseconds, before the command starts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rigwise {

struct ProfileGate {
  bool open = false;
  std::string why = {};  // shut, where there is something to say: "torch 2.4.1 is older than 2.7"
};

/// Shut where the command's Python or its PyTorch cannot be told from files, where that PyTorch is
/// not known to be sound, where the user has set any of KINETO_* himself, where a script forks by
/// itself, and where he profiles the run himself: then nothing of ours may stand in his way, nor be
/// silent beside him.
/// `environment`: "NAME=value".
ProfileGate profile_gate(const std::vector<std::string>& argv, const std::string& cwd,
                         const std::vector<std::string>& environment);

/// Does this Python or shell source use PyTorch's profiler?
bool source_profiles(std::string_view source);
/// Does it fork by itself? A child that was forked after `import torch` and ends by exit() then
/// waits for libkineto's thread, which it does not have (torch 2.13; multiprocessing's children end
/// by os._exit and do not wait).
bool source_forks(std::string_view source);
/// Does this configuration (YAML, JSON, TOML) switch a profiler on? One that is written down as off
/// ("profiler_steps: 0", "profiler:" with "enabled: false" below) does not.
bool settings_profile(std::string_view settings);

/// On-demand traces of that version neither crash nor fail to start: 2.7 and later 2.x.
/// (pytorch/kineto's daemon initialises there; 2.1 to 2.6: dynolog issues 279, 286.)
bool torch_is_sound(std::string_view version);

}  // namespace rigwise
