#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "engine/files/safetensors.h"
#include "unit/engine_made_files.h"

namespace rigwise::engine {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string why_not(std::string_view header, std::string_view data) {
  const TemporaryFolder folder;
  const auto file = folder.put("x.safetensors", safetensors_bytes(header, data));
  const auto opened = SafetensorsFile::open(file);
  if (opened.ok()) return "";
  EXPECT_EQ(opened.error().code, Errc::malformed);
  EXPECT_NE(opened.error().message.find("x.safetensors"), std::string::npos);
  return opened.error().message.substr(file.string().size() + 2);
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const TemporaryFolder folder;
  const auto file =
      folder.put("x.safetensors",
                 safetensors_bytes(
                     R"({"__metadata__":{"format":"pt"},)"
                     R"("b":{"dtype":"U8","shape":[2,1],"data_offsets":[8,10],"later":{"x":[1]}},)"
                     R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                     R"("none":{"dtype":"BF16","shape":[0,7],"data_offsets":[10,10]},)"
                     R"("scalar":{"dtype":"F16","shape":[],"data_offsets":[10,12]}}   )",
                     "0123456789AB"));
  const auto opened = SafetensorsFile::open(file);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  ASSERT_EQ(opened->tensors().size(), 4u);
  EXPECT_EQ(opened->tensors()[0].name, "a");
  EXPECT_EQ(text_of(opened->find("b")->bytes), "89");
  EXPECT_EQ(opened->find("b")->shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(opened->find("none")->elements(), 0);
  EXPECT_EQ(opened->find("scalar")->elements(), 1);
  EXPECT_EQ(opened->find("c"), nullptr);
  EXPECT_EQ(opened->metadata().at("format"), "pt");
}

TEST(Safetensors, HoldsEveryRuleOfTheFormat) {
  const auto one = [](std::string_view inside) { return R"({"w":{)" + std::string(inside) + "}}"; };
  EXPECT_EQ(why_not(R"({})", ""), "");
  EXPECT_EQ(why_not(R"({"__metadata__":null})", ""), "");
  EXPECT_EQ(why_not(one(R"("dtype":"F99","shape":[1],"data_offsets":[0,1])"), "x"),
            "tensor 'w': unknown dtype 'F99'");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[2],"data_offsets":[0,1])"), "x"),
            "tensor 'w': U8 [2] takes 2 bytes, but data_offsets give it 1");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[1],"data_offsets":[0,2])"), "x"),
            "tensor 'w': data_offsets [0, 2] lie past the end of the file (1 bytes of data)");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), "x"),
            "tensor 'w': data_offsets [1, 0] end first");
  EXPECT_EQ(
      why_not(one(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), "xy"),
      "tensor 'w': data_offsets [1, 2] leave a hole after the tensor before, which ends at 0");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), "xy"),
            "1 bytes at the end belong to no tensor");
  EXPECT_EQ(why_not(R"({"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                    R"("w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                    "xyz"),
            "tensor 'w': data_offsets [1, 3] overlap the tensor before, which ends at 2");
  EXPECT_EQ(why_not(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                    R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                    "x"),
            "two tensors are named 'w'");
  EXPECT_EQ(
      why_not(one(R"("dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0])"), ""),
      "");
  EXPECT_EQ(
      why_not(one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), ""),
      "tensor 'w': shape [4294967296, 4294967296] is larger than any file");
  EXPECT_EQ(why_not(one(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), ""),
            "tensor 'w': shape [2305843009213693952] is larger than any file");
  EXPECT_EQ(why_not(one(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), "x"),
            "tensor 'w': shape [3] ends in the middle of a byte");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), "x"),
            "tensor 'w': shape cannot be a negative number");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), "x"),
            "tensor 'w': shape cannot be a number that is no integer");
  EXPECT_EQ(
      why_not(one(R"("dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,1])"), "x"),
      "tensor 'w': shape cannot be a number that is no integer");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,1])"), "x"),
            "tensor 'w': data_offsets must be [begin, end]");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","data_offsets":[0,1])"), "x"), "tensor 'w': has no shape");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1])"), "x"),
            "tensor 'w': shape twice");
  EXPECT_EQ(why_not(one(R"("dtype":{},"shape":[1],"data_offsets":[0,1])"), "x"),
            "tensor 'w': dtype is not of its kind");
  EXPECT_EQ(why_not(one(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), "x"),
            "tensor 'w': a list where none belongs");
  EXPECT_EQ(why_not(R"({"__metadata__":{"a":1}})", ""), "__metadata__ 'a' cannot be a number");
  EXPECT_EQ(why_not(R"({"w":7})", ""), "tensor 'w': the description cannot be a number");
  EXPECT_EQ(why_not(R"([])", ""), "the header does not begin with '{': not a safetensors file");
  EXPECT_EQ(why_not(R"({"w":)", ""), "byte 6 of the header: not valid JSON");
  EXPECT_NE(why_not(R"({"w":{"x":)" + std::string(100'000, '[') + "}}", ""), "");
}

TEST(Safetensors, SaysWhatAFileIsThatIsNone) {
  const TemporaryFolder folder;
  const auto why = [&](std::string_view bytes) {
    const auto opened = SafetensorsFile::open(folder.put("x", bytes));
    return opened.ok() ? std::string() : opened.error().message;
  };
  EXPECT_NE(why("").find("0 bytes are too few"), std::string::npos);
  EXPECT_NE(why("version https://git-lfs").find("Git LFS pointer"), std::string::npos);
  EXPECT_NE(why("PK\3\4.........").find("zip archive"), std::string::npos);
  EXPECT_NE(why(std::string(16, '\xFF')).find("ask for a header of"), std::string::npos);
  EXPECT_NE(why(std::string("\x40\0\0\0\0\0\0\0{}", 10)).find("cut off inside its header"),
            std::string::npos);
  EXPECT_EQ(SafetensorsFile::open(folder.path() / "nowhere").error().code, Errc::not_found);
  EXPECT_FALSE(SafetensorsFile::open(folder.path()).ok());
}

TEST(Safetensors, CutAtEveryByteIsAnErrorNeverACrash) {
  const auto whole =
      safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "01234567");
  const TemporaryFolder folder;
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(SafetensorsFile::open(folder.put("x", whole.substr(0, length))).ok()) << length;
  EXPECT_TRUE(SafetensorsFile::open(folder.put("x", whole)).ok());
}

TEST(SafetensorsWriter, WritesByteForByteWhatTheReferenceWrites) {
  // expected: safetensors 0.8.0, save({...}, {"format": "pt"}) of tensors of these types and names
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  auto writer = SafetensorsWriter::create(path,
                                          {{"b", Dtype::u8, {2}},
                                           {"a", Dtype::u8, {1, 2}},
                                           {"c", Dtype::bf16, {2}},
                                           {"d", Dtype::i64, {}},
                                           {"e\"\n\xC3\xA9", Dtype::f32, {0}}},
                                          {{"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.error().message;
  ASSERT_TRUE(writer->write("b", bytes_of("bb")).ok());
  ASSERT_TRUE(writer->write("c", bytes_of("cc")).ok());
  ASSERT_TRUE(writer->write("c", bytes_of("CC")).ok());
  ASSERT_TRUE(writer->write("a", bytes_of("aa")).ok());
  EXPECT_EQ(writer->finish().error().message, path.string() + ": tensor 'd' lacks 8 bytes");
  ASSERT_TRUE(writer->write("d", bytes_of("dddddddd")).ok());
  EXPECT_EQ(writer->write("d", bytes_of("x")).error().code, Errc::usage);
  EXPECT_EQ(writer->write("z", bytes_of("x")).error().code, Errc::usage);
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_FALSE(writer->finish().ok());
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"d":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      "\"e\\\"\\n\xC3\xA9\":"
      R"({"dtype":"F32","shape":[0],"data_offsets":[8,8]},)"
      R"("c":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]},)"
      R"("a":{"dtype":"U8","shape":[1,2],"data_offsets":[12,14]},)"
      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[14,16]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(file_bytes(path), safetensors_bytes(padded, "ddddddddccCCaabb"));
  EXPECT_TRUE(SafetensorsFile::open(path).ok());
}

TEST(SafetensorsWriter, ADroppedWriterLeavesTheOldFile) {
  const TemporaryFolder folder;
  const auto path = folder.put("x.safetensors", "old");
  {
    auto writer = SafetensorsWriter::create(path, {{"a", Dtype::u8, {2}}});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->write("a", bytes_of("a")).ok());
  }
  EXPECT_EQ(file_bytes(path), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(SafetensorsWriter, RefusesWhatItCannotWrite) {
  const TemporaryFolder folder;
  const auto code = [&](std::vector<TensorSpec> tensors) {
    return SafetensorsWriter::create(folder.path() / "x", std::move(tensors)).error().code;
  };
  EXPECT_EQ(code({{"a", Dtype::u8, {1}}, {"a", Dtype::u8, {1}}}), Errc::usage);
  EXPECT_EQ(code({{"__metadata__", Dtype::u8, {1}}}), Errc::usage);
  EXPECT_EQ(code({{"a", Dtype::u8, {-1}}}), Errc::usage);
  EXPECT_EQ(code({{"a\xFF", Dtype::u8, {1}}}), Errc::usage);
  EXPECT_EQ(SafetensorsWriter::create(folder.path() / "no" / "x", {}).error().code,
            Errc::not_found);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriter, AFullDiskIsAnErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  const auto path = folder.put("x.safetensors", "old");
  struct rlimit old = {};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const struct rlimit little = {4096, old.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &little);
  {
    const auto writer = SafetensorsWriter::create(path, {{"a", Dtype::u8, {100'000}}});
    EXPECT_FALSE(writer.ok());
    if (!writer.ok()) {
      EXPECT_EQ(writer.error().code, Errc::io);
    }
  }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(file_bytes(path), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(ModelFolder, MergesShards) {
  const TemporaryFolder folder;
  folder.put("s1.safetensors",
             safetensors_bytes(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "b"));
  folder.put("s2.safetensors",
             safetensors_bytes(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                               R"("unlisted":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                               "aAu"));
  folder.put(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":3},"weight_map":{"b":"s1.safetensors","a":"s2.safetensors"}})");
  const auto model = ModelFolder::open(folder.path());
  ASSERT_TRUE(model.ok()) << model.error().message;
  ASSERT_EQ(model->tensors().size(), 2u);
  EXPECT_EQ(model->tensors()[0]->name, "a");
  EXPECT_EQ(text_of(model->find("a")->bytes), "aA");
  EXPECT_EQ(model->file_of(*model->find("a")).path().filename(), "s2.safetensors");
  EXPECT_EQ(model->find("unlisted"), nullptr);
  EXPECT_EQ(model->bytes(), 3u);
}

TEST(ModelFolder, NamesWhatIsWrong) {
  const TemporaryFolder folder;
  const auto why = [&](std::string_view index) {
    folder.put("model.safetensors.index.json", index);
    return ModelFolder::open(folder.path()).error().message;
  };
  folder.put("pytorch_model.bin", "");
  const auto none = ModelFolder::open(folder.path());
  EXPECT_NE(none.error().message.find("holds neither model.safetensors nor"), std::string::npos);
  EXPECT_NE(none.error().hint.find("pytorch_model.bin"), std::string::npos);
  EXPECT_NE(why(R"({"weight_map":{"a":"../s.safetensors"}})").find("no plain file name"),
            std::string::npos);
  EXPECT_NE(why(R"({"weight_map":{"a":"/etc/passwd"}})").find("no plain file name"),
            std::string::npos);
  EXPECT_NE(why(R"({"weight_map":{"a":"s1","b":"s2"}})").find("2 of 2 shards are missing: s1, s2"),
            std::string::npos);
  EXPECT_NE(why(R"({"weight_map":{"a":7}})").find("is no text"), std::string::npos);
  EXPECT_NE(why(R"({"weight_map":[]})").find("has no weight_map"), std::string::npos);
  EXPECT_NE(why("[").find("not valid JSON"), std::string::npos);
  folder.put("s1", safetensors_bytes("{}", ""));
  EXPECT_NE(why(R"({"weight_map":{"a":"s1"}})").find("tensor 'a' is not in s1"), std::string::npos);
  EXPECT_NE(ModelFolder::open(folder.path() / "x").error().message.find("no such folder"),
            std::string::npos);
}

}  // namespace
}  // namespace rigwise::engine
