// Training data as windows, for comparison with Hugging Face's own preparation.
//
//   read_data TOKENIZER_FOLDER DATA_FILE concat|documents|none SEQ
//
// A line of JSON a window: {"ids": …, "targets": …, "positions": …, "segments": …}.
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "base/json.h"
#include "engine/data/windows.h"

int main(int argc, char** argv) {
  using namespace rigwise;
  if (argc != 5) return 2;
  auto tokenizer = engine::Tokenizer::read(argv[1]);
  const auto pack = engine::pack_of(argv[3]);
  if (!tokenizer || !pack) return 2;
  auto documents = engine::read_documents(argv[2], *tokenizer);
  if (!documents) {
    std::fprintf(stderr, "%s\n", documents.error().message.c_str());
    return 1;
  }
  const auto windows =
      engine::Windows::make(std::make_shared<const engine::Documents>(std::move(*documents)), *pack,
                            std::atoll(argv[4]), tokenizer->pad().value_or(0));
  if (!windows) return 1;
  for (std::size_t i = 0; i < windows->size(); ++i) {
    const auto window = windows->window(i);
    const Json line = {{"ids", window.ids},
                       {"targets", window.targets},
                       {"positions", window.positions},
                       {"segments", window.segments}};
    std::cout << line.dump() << '\n';
  }
  return 0;
}
