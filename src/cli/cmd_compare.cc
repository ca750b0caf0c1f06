#include <unistd.h>

#include "cli/evidence.h"
#include "cli/verbs.h"

namespace rigwise::cli {

int cmd_compare(const CompareArgs& args) {
  CompareOptions options;
  options.factor = args.factor;
  options.floor_percent = args.floor_percent;
  options.practical_percent = args.practical_percent.value_or(options.practical_percent);
  const auto input = gather(args, {args.a, args.b}, args.lab, options, false);
  if (!input) return fail_run(input.error());
  const Comparison& comparison = *input->comparison;
  const int printed = print(args.json ? comparison_json(comparison)
                                      : comparison_text(comparison, style_of(STDOUT_FILENO)));
  if (printed != kOk) return printed;
  return comparison.verdict == Verdict::not_comparable ? kPartial : kOk;
}

}  // namespace rigwise::cli
