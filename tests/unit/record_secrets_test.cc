#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "record/secrets.h"

namespace rigwise {
namespace {

// Made up for these tests; none was ever issued.
const std::string kHf = "hf_AbCdEfGhIjKlMnOpQrStUvWx12345678";
const std::string kHex = "0123456789abcdef0123456789abcdef01234567";

TEST(Secrets, ArgvByFlagName) {
  const std::vector<std::string> argv = {
      "python",     "train.py",    "--token",    "s3cretvalue", "--api-key=zzz, yyy",
      "--hf_token", "abc",         "--password", "p w",         "--max_tokens",
      "512",        "--pad_token", "<pad>",      "--tokenizer", "gpt2",
      "--text_key", "content",     "--use_auth", "true"};
  const Secrets secrets(argv, {});
  EXPECT_EQ(secrets.mask_argv(argv),
            (std::vector<std::string>{"python", "train.py", "--token", "***", "--api-key=***",
                                      "--hf_token", "***", "--password", "***", "--max_tokens",
                                      "512", "--pad_token", "<pad>", "--tokenizer", "gpt2",
                                      "--text_key", "content", "--use_auth", "true"}));
  EXPECT_EQ(secrets.mask("again: s3cretvalue!"), "again: ***!");
}

TEST(Secrets, TokenShapes) {
  for (const std::string& token :
       {kHf, std::string("sk-proj-abcdefgh12345678ABCD"),
        std::string("ghp_0123456789abcdefghijABCD"),
        std::string("github_pat_11AAAAAAA0abcdefghijkl"), std::string("AKIAIOSFODNN7EXAMPLE"),
        std::string("xoxb-123456789012-abcdef"), std::string("glpat-abcdefgh12345678ijkl"),
        std::string("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N")})
    EXPECT_EQ(mask_secrets("x=" + token + " end"), "x=*** end") << token;
  EXPECT_EQ(mask_secrets("hf_trainer_integration_of_everything"),
            "hf_trainer_integration_of_everything");
  EXPECT_EQ(mask_secrets("task-1234567890abcdefgh"), "task-1234567890abcdefgh");
}

TEST(Secrets, HexKeysOnlyBesideTheirWords) {
  EXPECT_EQ(mask_secrets("wandb login " + kHex), "wandb login ***");
  EXPECT_EQ(mask_secrets("commit " + kHex), "commit " + kHex);
}

TEST(Secrets, Urls) {
  EXPECT_EQ(mask_secrets("https://ana:pa55@host.example/x.git"),
            "https://ana:***@host.example/x.git");
  EXPECT_EQ(mask_secrets("ssh://git@host.example/x.git"), "ssh://git@host.example/x.git");
  EXPECT_EQ(mask_secrets("https://x/y?token=abc&n=1"), "https://x/y?token=***&n=1");
}

TEST(Secrets, ShellText) {
  const std::vector<std::string> argv = {"bash", "-c",
                                         "HF_TOKEN=abcdefgh python t.py --token xyz --n 1"};
  EXPECT_EQ(Secrets(argv, {}).mask_argv(argv)[2], "HF_TOKEN=*** python t.py --token *** --n 1");
  EXPECT_EQ(mask_secrets("{\"api_key\": \"abc\", \"num_tokens\": \"4.2e+05\"}"),
            "{\"api_key\": \"***\", \"num_tokens\": \"4.2e+05\"}");
}

TEST(Secrets, ValuesOfTheEnvironment) {
  const std::vector<std::string> env = {"HF_TOKEN=very-secret-1",
                                        "PATH=/usr/bin:/bin",
                                        "TOKENIZERS_PARALLELISM=false",
                                        "MY_KEY=short",
                                        "SSH_AUTH_SOCK=/run/user/1000/agent",
                                        "DB_PASSWORD=very-secret-1-longer"};
  const std::vector<std::string> argv = {"python", "t.py", "--note", "xvery-secret-1-longerx",
                                         "very-secret-1"};
  const Secrets secrets(argv, env);
  ASSERT_EQ(secrets.values().size(), 2u);
  EXPECT_EQ(secrets.mask_argv(argv)[3], "x***x");
  EXPECT_EQ(secrets.mask_argv(argv)[4], "***");
  EXPECT_EQ(secrets.mask("/home/very-secret-1/out"), "/home/***/out");
}

TEST(SecretScanner, FindsValuesOverChunkBorders) {
  const Secrets secrets({}, {"HF_TOKEN=very-secret-1", "API_KEY=another-one"});
  const std::string text = std::string(100, 'x') + "very-secret-1" + std::string(50, 'y');
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    SecretScanner scanner(secrets);
    auto found = scanner.push(std::string_view(text).substr(0, cut));
    for (const auto& name : scanner.push(std::string_view(text).substr(cut))) found.push_back(name);
    EXPECT_EQ(found, std::vector<std::string>{"HF_TOKEN"}) << cut;
  }
  SecretScanner bytewise(secrets);
  int times = 0;
  for (const char byte : text + text) times += static_cast<int>(bytewise.push({&byte, 1}).size());
  EXPECT_EQ(times, 1);  // once a stream
  EXPECT_EQ(secret_warning("HF_TOKEN"), "the command printed the value of HF_TOKEN");
}

}  // namespace
}  // namespace rigwise
