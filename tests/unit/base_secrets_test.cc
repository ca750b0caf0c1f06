#include <gtest/gtest.h>

#include <string>

#include "base/secrets.h"

namespace rigwise {
namespace {

// Made up for these tests; none was ever issued.
const std::string kHf = "hf_AbCdEfGhIjKlMnOpQrStUvWx12345678";
const std::string kHex = "0123456789abcdef0123456789abcdef01234567";

/// Masked as expected, and a second time changes nothing.
void expect_masked(const std::string& text, const std::string& expected) {
  const std::string once = mask_secrets(text);
  EXPECT_EQ(once, expected) << text;
  EXPECT_EQ(mask_secrets(once), once) << text;
}

TEST(MaskSecrets, TokenShapes) {
  for (const std::string& token :
       {kHf, std::string("sk-proj-abcdefgh12345678ABCD"),
        std::string("ghp_0123456789abcdefghijABCD"),
        std::string("github_pat_11AAAAAAA0abcdefghijkl"), std::string("AKIAIOSFODNN7EXAMPLE"),
        std::string("xoxb-123456789012-abcdef"), std::string("glpat-abcdefgh12345678ijkl"),
        std::string("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N")})
    expect_masked("x=" + token + " end", "x=*** end");
  expect_masked("hf_trainer_integration_of_everything", "hf_trainer_integration_of_everything");
  expect_masked("task-1234567890abcdefgh", "task-1234567890abcdefgh");
}

TEST(MaskSecrets, HexKeysOnlyBesideTheirWords) {
  expect_masked("wandb login " + kHex, "wandb login ***");
  expect_masked("commit " + kHex, "commit " + kHex);
}

TEST(MaskSecrets, Urls) {
  expect_masked("https://ana:pa55@host.example/x.git", "https://ana:***@host.example/x.git");
  expect_masked("ssh://git@host.example/x.git", "ssh://git@host.example/x.git");
  expect_masked("ssh://ana@host.example/x", "ssh://ana@host.example/x");
  expect_masked("https://x/y?token=abc&n=1", "https://x/y?token=***&n=1");
  // A user alone over http is a token, however short; git's own user name is none.
  expect_masked("https://tok3n@host.example/x.git", "https://***@host.example/x.git");
  expect_masked("git+https://abc@host.example/x", "git+https://***@host.example/x");
  expect_masked("https://git@host.example/x.git", "https://git@host.example/x.git");
  // The token in the user's place beside a password that says nothing.
  expect_masked("https://" + kHex + ":x-oauth-basic@host.example/x", "https://***@host.example/x");
  expect_masked("https://abc123:@host.example/x", "https://***@host.example/x");
  expect_masked("postgres://ana:pa55@db/x", "postgres://ana:***@db/x");
  // No authority: a path and a query may hold '@'.
  expect_masked("https://host.example/a@b", "https://host.example/a@b");
  expect_masked("https://host.example?mail=a@b", "https://host.example?mail=a@b");
  expect_masked("https://host/f?sv=1&sig=abcdefgh1234567890%2B&se=2",
                "https://host/f?sv=1&sig=***&se=2");
}

TEST(MaskSecrets, Headers) {
  expect_masked("Authorization: Bearer x", "Authorization: Bearer ***");
  expect_masked("authorization: Basic YTpi and more", "authorization: Basic *** and more");
  expect_masked("curl -H \"Authorization: Bearer x\" https://h/x",
                "curl -H \"Authorization: Bearer ***\" https://h/x");
  expect_masked("curl -H 'Proxy-Authorization: token abc' h",
                "curl -H 'Proxy-Authorization: token ***' h");
  expect_masked("{\"Authorization\": \"Bearer x.y\", \"n\": 1}",
                "{\"Authorization\": \"Bearer ***\", \"n\": 1}");
  expect_masked("Authorization: abcdef", "Authorization: ***");
  expect_masked("Authorization: Digest username=\"a\", response=\"b\"\nnext",
                "Authorization: Digest ***\nnext");
  expect_masked("--authorization abc next", "--authorization *** next");
  expect_masked("X-Api-Key: abc", "X-Api-Key: ***");
  expect_masked("Cookie: a=b; c=d", "Cookie: ***");
  expect_masked("sent bearer abcdefgh12345678 to it", "sent bearer *** to it");
  expect_masked("the bearer of bad news", "the bearer of bad news");
}

TEST(MaskSecrets, NamedValues) {
  expect_masked("{\"api_key\": \"abc\", \"num_tokens\": \"4.2e+05\"}",
                "{\"api_key\": \"***\", \"num_tokens\": \"4.2e+05\"}");
  expect_masked("HF_TOKEN=abcdefgh python t.py --token xyz --n 1",
                "HF_TOKEN=*** python t.py --token *** --n 1");
  expect_masked("--text_key content --pad_token <pad> --use_auth true",
                "--text_key content --pad_token <pad> --use_auth true");
}

TEST(MaskSecrets, AnyBytesCutAnywhere) {
  const std::string text =
      "a://b:c@d Authorization: Bearer x Cookie:=\"' --token \xff\xfe ://@ :// Authorization";
  for (std::size_t from = 0; from <= text.size(); ++from) {
    for (std::size_t size = 0; from + size <= text.size(); ++size) {
      const std::string once = mask_secrets(text.substr(from, size));
      ASSERT_EQ(mask_secrets(once), once) << text.substr(from, size);
    }
  }
}

TEST(Suspicions, OfVariables) {
  for (const auto* name : {"HF_TOKEN", "WANDB_API_KEY", "PGPASSWORD", "DB_PWD", "SMTP_PASS",
                           "AWS_SECRET_ACCESS_KEY", "MYTOKEN", "NPM_AUTH", "GitHubToken", "GH_PAT"})
    EXPECT_EQ(suspicion_of_variable(name), Suspicion::yes) << name;
  for (const auto* name : {"MY_KEY", "PARTITION_KEY", "SSHKEY"})
    EXPECT_EQ(suspicion_of_variable(name), Suspicion::by_value) << name;
  for (const auto* name :
       {"TOKENIZERS_PARALLELISM", "GIT_AUTHOR_NAME", "PWD", "OLDPWD", "PATH", "SSH_AUTH_SOCK",
        "MAX_TOKENS", "PAD_TOKEN", "KEYBOARD", "HF_TOKEN_PATH", "COMPASS", "PGPASSFILE"})
    EXPECT_EQ(suspicion_of_variable(name), Suspicion::none) << name;
}

}  // namespace
}  // namespace rigwise
