#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "record/secrets.h"

namespace rigwise {
namespace {

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

TEST(Secrets, ShellText) {
  const std::vector<std::string> argv = {"bash", "-c",
                                         "HF_TOKEN=abcdefgh python t.py --token xyz --n 1"};
  EXPECT_EQ(Secrets(argv, {}).mask_argv(argv)[2], "HF_TOKEN=*** python t.py --token *** --n 1");
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

TEST(Secrets, ShortValuesReachAsFarAsTheyHideLittle) {
  const std::vector<std::string> env = {
      "DB_PASSWORD=hunter2",  // mixed: a word of its own
      "SMTP_PASS=admin",      // letters: a whole text
      "APP_SECRET=p@ss",      // signs
      "A_TOKEN=1",            // never by value from here on
      "B_TOKEN=abc",
      "C_TOKEN=2000",
      "D_PASSWORD=main",
      "E_TOKEN=true",
      "PARTITION_KEY=production",  // a word behind a mere KEY: a whole text
      "GIT_AUTHOR_NAME=Ana Example",
      "PAD_TOKEN=something-long"};
  const std::vector<std::string> argv = {
      "python",     "train.py",      "hunter2",     "xhunter2",      "pw=hunter2,",
      "admin",      "--user",        "admins",      "--name=admin",  "a p@ss b",
      "1",          "abc",           "--max_steps", "2000",          "main",
      "production", "in production", "Ana Example", "something-long"};
  const Secrets secrets(argv, env);
  EXPECT_EQ(secrets.mask_argv(argv),
            (std::vector<std::string>{"python", "train.py", "***", "xhunter2", "pw=***,", "***",
                                      "--user", "admins", "--name=***", "a *** b", "1", "abc",
                                      "--max_steps", "2000", "main", "***", "in production",
                                      "Ana Example", "something-long"}));
  EXPECT_EQ(secrets.mask("hunter2/hunter2_x/hunter2"), "***/hunter2_x/***");
}

TEST(Secrets, ValuesOfArgvAreKeptHoweverManyTheEnvironmentHas) {
  std::vector<std::string> env;
  for (int i = 0; i < 1000; ++i)
    env.push_back("K" + std::to_string(i) + "_KEY=value-of-key-" + std::to_string(i));
  env.emplace_back("LAST_TOKEN=surely-secret");
  const std::vector<std::string> argv = {"python", "--token", "from-the-flag"};
  const Secrets secrets(argv, env);
  EXPECT_EQ(secrets.values().size(), 256U);
  EXPECT_EQ(secrets.mask("from-the-flag surely-secret"), "*** ***");
  SecretScanner scanner(secrets);
  EXPECT_EQ(scanner.push("from-the-flag surely-secret\n"),
            (std::vector<std::string>{"--token", "LAST_TOKEN"}));
}

TEST(Secrets, StatementsEnvironmentsAndRigs) {
  const Secrets secrets({}, {"HF_TOKEN=very-secret-1"});
  const Statement statement = secrets.mask(
      Statement{.bottleneck = "x very-secret-1", .reason = "https://tok3n@h/", .hash = "abc"});
  EXPECT_EQ(statement.bottleneck, "x ***");
  EXPECT_EQ(statement.reason, "https://***@h/");
  EXPECT_EQ(statement.hash, "abc");
  Environment environment;
  environment.versions["torch"] = "2.0+very-secret-1";
  environment.facts["git_remote"] = "https://a:b@h/x";
  secrets.mask(environment);
  EXPECT_EQ(environment.versions["torch"], "2.0+***");
  EXPECT_EQ(environment.facts["git_remote"], "https://a:***@h/x");
  Rig rig;
  rig.mounts.push_back({.path = "/mnt/very-secret-1", .device = "https://a:b@dav/x"});
  secrets.mask(rig);
  EXPECT_EQ(rig.mounts[0].path, "/mnt/***");
  EXPECT_EQ(rig.mounts[0].device, "https://a:***@dav/x");
}

TEST(SecretScanner, WordsOfTheirOwnOverChunkBorders) {
  const Secrets secrets({}, {"DB_PASSWORD=hunter2"});
  for (const auto& [text, expected] : {std::pair<std::string, bool>{"is hunter2.", true},
                                       {"hunter2 first", true},
                                       {"xhunter2 hunter2x hunter22 ", false},
                                       {"xhunter2 hunter2\n", true}}) {
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      SecretScanner scanner(secrets);
      std::size_t found = scanner.push(std::string_view(text).substr(0, cut)).size();
      found += scanner.push(std::string_view(text).substr(cut)).size();
      EXPECT_EQ(found, expected ? 1U : 0U) << text << " cut at " << cut;
    }
    SecretScanner bytewise(secrets);
    std::size_t found = 0;
    for (const char byte : text) found += bytewise.push({&byte, 1}).size();
    EXPECT_EQ(found, expected ? 1U : 0U) << text;
  }
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
