// The readers that are peculiar to one thing: each looks at a line of text for it. The general
// mechanisms are bar.h, mapping.h, pairs.h, table.h and block.h.
#pragma once

#include <string_view>

#include "logs/entry.h"
#include "logs/pairs.h"
#include "logs/session.h"

namespace rigwise::logs {

/// "Total train batch size (…) = 8", "trainable params: …": facts.
bool read_banner(Session& session, const Piece& piece, std::string_view text);

/// "Saving model checkpoint to out/checkpoint-200": events.
bool read_checkpoint_line(Session& session, const Piece& piece, std::string_view text);

/// Boosted trees: "[4]\ttrain-rmse:0.57968\tvalid-rmse:0.74490" (XGBoost, LightGBM),
/// "4:\tlearn: 0.57\ttest: 0.61\ttotal: 3ms" (CatBoost).
bool read_boosting(std::string_view text, Entry& entry);

/// A metric told with a save: "val_loss improved from 0.5 to 0.4, saving model to best.keras".
bool read_improvement(std::string_view text, Meanings& meanings, PairReader& pairs, Entry& entry);

/// Sentences that tell the end: "Epoch 0 training took 19.5 seconds", "Overall training speed: 997
/// iterations in 0:11:18".
bool read_ending(std::string_view text, Entry& entry);

}  // namespace rigwise::logs
