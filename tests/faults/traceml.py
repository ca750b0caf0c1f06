"""TraceML's answer to the same scenario: PyPI's traceml-ai 0.5, by the summary that `traceml run SCRIPT` leaves.

It starts the script itself, through torchrun, so scenarios whose command is one Python script (or torchrun and one) are asked;
faults from outside are planted as they are for rigwise.
"""
import json
import os
import shutil
import subprocess
import threading

import inject
import run as faults

# What its verdict speaks of, as a class of the ledger. RESIDUAL_HEAVY is what its phases leave over: no class of its own.
MEANS = {"INPUT_BOUND": "input", "INPUT_STRAGGLER": "input", "COMPUTE_BOUND": "compute", "COMPUTE_STRAGGLER": "compute",
         "BALANCED": "compute"}


def words_for(scenario, argv, program, logs):
    """The traceml command for a scenario's command, or None where it has no form for it."""
    if scenario.argv[0] == "{python}":
        script, words, ranks = argv[1], argv[2:], []
    elif scenario.argv[0] == "{torchrun}":
        script, words, ranks = argv[4], argv[5:], ["--nproc-per-node", "2"]
    else:
        return None
    return [program, "run", script, "--logs-dir", str(logs), "--run-name", "one", *ranks, "--args", *words]


def ask(scenario, options, name, program):
    """{"status", "diagnosis", …} of its summary; {"skipped"} or {"failed"} with the reason else."""
    folder = options.work / (name + ".traceml")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "truth").mkdir(parents=True)
    injector = scenario.injector() if scenario.injector else inject.Nothing()
    end = threading.Event()
    try:
        if hasattr(injector, "prepare"):
            injector.prepare(folder)
        words = words_for(scenario, faults.command_of(scenario, options, folder, injector), program, folder / "logs")
        if words is None:
            return {"skipped": "not one script"}
        env = dict(os.environ, OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1",
                   RIGWISE_FAULT_TRUTH=str(folder / "truth"), **injector.env())
        with faults.one_at_a_time(), open(folder / "screen.txt", "wb") as screen:
            child = subprocess.Popen(words, stdout=screen, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                                     cwd=folder)
            if options.autogroup is not None:
                threading.Thread(target=faults.favour, args=(child.pid, options.autogroup, end), daemon=True).start()
            ranks = faults.wait_for_ranks(folder / "truth", scenario.ranks, child)
            if ranks:
                injector.began(ranks)
            try:
                child.wait(faults.LIMIT_S)
            except subprocess.TimeoutExpired:
                child.terminate()
                child.wait(30)
                return {"failed": "did not end"}
    finally:
        injector.__exit__()
        end.set()
    return answer(folder)


def answer(folder):
    found = sorted((folder / "logs").glob("**/final_summary.json"))
    if not found:
        lines = (folder / "screen.txt").read_bytes()[-300:].decode(errors="replace").strip().splitlines()
        return {"failed": lines[-1] if lines else "no summary"}
    summary = json.loads(found[0].read_text())
    verdict = summary.get("primary_diagnosis") or {}
    beside = [part["diagnosis"]["kind"] for part in (summary.get("system"), summary.get("process")) if part]
    return {"kind": verdict.get("kind"), "severity": verdict.get("severity"), "summary": verdict.get("summary"),
            "beside": beside}


def report(scored):
    """Its answers beside ours, on the scenarios that it was asked about."""
    asked = [entry for entry in scored if (entry.get("traceml") or {}).get("kind")]
    if not asked:
        return
    print("\nTraceML on the same scenarios (a run of its own each)")
    print(f"  {'scenario':28} {'right':22} {'rigwise':12} TraceML")
    ours = theirs = silent = 0
    for entry in asked:
        kind = entry["traceml"]["kind"]
        said = MEANS.get(kind)
        ours += entry["hit"]
        theirs += said in entry["right"]
        silent += said is None
        print(f"  {entry['scenario']:28} {' or '.join(entry['right'])[:22]:22} {entry['named'] or 'none':12} {kind}"
              f"{' (' + ', '.join(entry['traceml']['beside']) + ')' if entry['traceml']['beside'] else ''}")
    print(f"  right: rigwise {ours}, TraceML {theirs} of {len(asked)}; TraceML named no cause in {silent}")
