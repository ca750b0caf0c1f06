// Trains a tokenizer: make_tokenizer TEXT_FILE VOCAB_SIZE FOLDER
#include <cstdio>
#include <cstdlib>

#include "base/files.h"
#include "engine/text/bpe_training.h"

int main(int argc, char** argv) {
  using namespace rigwise;
  if (argc != 4) return 2;
  const auto text = read_file(argv[1]);
  if (!text) return 1;
  const auto made = engine::train_tokenizer(*text, std::atoi(argv[2]));
  if (!made || !engine::write_tokenizer(*made, argv[3])) return 1;
  std::printf("%d tokens\n", made->vocab_size);
  return 0;
}
