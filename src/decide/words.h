// Words: what a person's own sentences say about things that no sensor sees. Matching is
// conservative: a clause counts only when subject and verb stand in it together and nothing in it
// negates them; [context] in lab.toml says the same without guessing. The rules are listed in
// docs/ledger.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rigwise/decide.h"

namespace rigwise {

/// `stated` plus what bottleneck and reason say in plain words. Stated facts are never overruled.
LabContext with_words(LabContext stated, const Statement& statement);

/// Lower-case words of a sentence, apostrophes kept ("doesn't"), everything else a separator.
std::vector<std::string> words_of(std::string_view text);

}  // namespace rigwise
