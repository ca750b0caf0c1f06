#include "host/variables.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace rigwise {

namespace {
constexpr std::size_t kMaxVariables = 4096;
constexpr std::size_t kMaxValueBytes = 1024;
constexpr std::size_t kShortestSecret = 6;  // "1" or "yes" under a secret's name hides nothing

bool is_word(char c) {
  return is_letter(c) || is_digit(c) || c == '_' || c == '-';
}

/// Replaces words that begin like a token of a known issuer.
std::string mask_tokens(std::string text) {
  static constexpr std::array<std::string_view, 13> kShapes = {
      "hf_",    "sk-",   "ghp_",  "gho_", "ghs_", "ghu_", "github_pat_",
      "glpat-", "xoxb-", "xoxp-", "AKIA", "eyJ",  "ya29."};
  for (const auto shape : kShapes) {
    std::size_t at = 0;
    while ((at = text.find(shape, at)) != std::string::npos) {
      std::size_t end = at + shape.size();
      while (end < text.size() && (is_word(text[end]) || text[end] == '.')) ++end;
      const bool starts_word = at == 0 || !is_word(text[at - 1]);
      if (starts_word && end - at >= shape.size() + 12) text.replace(at, end - at, "***");
      at += 1;
    }
  }
  return text;
}

/// scheme://user:password@host → scheme://***@host
std::string mask_urls(std::string text) {
  std::size_t at = 0;
  while ((at = text.find("://", at)) != std::string::npos) {
    const std::size_t begin = at + 3;
    const std::size_t end = text.find_first_of("/ \t'\"", begin);
    const auto sign = text.rfind('@', end == std::string::npos ? end : end - 1);
    if (sign != std::string::npos && sign >= begin) text.replace(begin, sign - begin, "***");
    at = begin;
  }
  return text;
}
}  // namespace

bool names_a_secret(std::string_view name) {
  std::string upper;
  for (const char c : name) upper += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::size_t at = 0;
  while ((at = upper.find("TOKENIZER", at)) != std::string::npos) upper.erase(at, 9);
  static constexpr std::array<std::string_view, 9> kWords = {
      "TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "AUTH", "COOKIE"};
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return upper.find(word) != std::string::npos; });
}

bool may_record_value(std::string_view name) {
  if (names_a_secret(name)) return false;
  static constexpr std::array<std::string_view, 22> kPrefixes = {
      "NCCL_",         "TORCH_",   "TORCHELASTIC_", "PYTORCH_", "TRANSFORMERS_", "ACCELERATE_",
      "DEEPSPEED_",    "FSDP_",    "KMP_",          "MKL_",     "GOMP_",         "GLOO_",
      "UCX_",          "ROCR_",    "HSA_",          "TRITON_",  "XLA_",          "RCCL_",
      "BITSANDBYTES_", "UNSLOTH_", "HF_DATASETS_",  "OMP_"};
  static constexpr std::array<std::string_view, 41> kNames = {"CUDA_VISIBLE_DEVICES",
                                                              "CUDA_DEVICE_ORDER",
                                                              "CUDA_LAUNCH_BLOCKING",
                                                              "CUDA_HOME",
                                                              "CUDA_PATH",
                                                              "CUDA_DEVICE_MAX_CONNECTIONS",
                                                              "CUDA_MODULE_LOADING",
                                                              "CUBLAS_WORKSPACE_CONFIG",
                                                              "HIP_VISIBLE_DEVICES",
                                                              "GPU_DEVICE_ORDINAL",
                                                              "ZE_AFFINITY_MASK",
                                                              "ONEAPI_DEVICE_SELECTOR",
                                                              "NVIDIA_VISIBLE_DEVICES",
                                                              "NVIDIA_TF32_OVERRIDE",
                                                              "OPENBLAS_NUM_THREADS",
                                                              "NUMEXPR_NUM_THREADS",
                                                              "TOKENIZERS_PARALLELISM",
                                                              "HF_HOME",
                                                              "HF_HUB_CACHE",
                                                              "HF_HUB_OFFLINE",
                                                              "HF_HUB_DISABLE_XET",
                                                              "HF_HUB_ENABLE_HF_TRANSFER",
                                                              "MASTER_ADDR",
                                                              "MASTER_PORT",
                                                              "WORLD_SIZE",
                                                              "RANK",
                                                              "LOCAL_RANK",
                                                              "LOCAL_WORLD_SIZE",
                                                              "NODE_RANK",
                                                              "GROUP_RANK",
                                                              "SLURM_JOB_ID",
                                                              "SLURM_JOB_NUM_NODES",
                                                              "SLURM_NNODES",
                                                              "SLURM_NTASKS",
                                                              "SLURM_PROCID",
                                                              "SLURM_GPUS_ON_NODE",
                                                              "PYTHONHASHSEED",
                                                              "PYTHONUNBUFFERED",
                                                              "VIRTUAL_ENV",
                                                              "CONDA_PREFIX",
                                                              "CONDA_DEFAULT_ENV"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::string mask_value(std::string_view value, const std::vector<std::string>& secrets) {
  std::string text(value);
  for (const auto& secret : secrets) {
    std::size_t at = 0;
    while ((at = text.find(secret, at)) != std::string::npos) {
      text.replace(at, secret.size(), "***");
      at += 3;
    }
  }
  return mask_tokens(mask_urls(std::move(text)));
}

void sort_variables(const Variables& env, std::map<std::string, std::string>& values,
                    std::vector<std::string>& names) {
  std::vector<std::string> secrets;
  for (const auto& [name, value] : env) {
    if (names_a_secret(name) && value.size() >= kShortestSecret) secrets.push_back(value);
  }
  // A secret that holds another is hidden as a whole.
  std::sort(secrets.begin(), secrets.end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  for (const auto& [name, value] : env) {
    if (values.size() + names.size() >= kMaxVariables) break;
    const std::string clean = clean_text(mask_value(name, secrets), 256);
    if (may_record_value(name))
      values[clean] = clean_text(mask_value(value, secrets), kMaxValueBytes);
    else
      names.push_back(clean);
  }
}

}  // namespace rigwise
