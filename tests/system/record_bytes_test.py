"""The command's bytes, status and surroundings are the same with and without rigwise."""
import os
import signal
import subprocess
import sys
import unittest

from record_harness import DRIVER, LIMIT_S, PYTHON, RecordTest, wait_for

FAST = """
import os
block = bytes((i * 7 + i // 251) % 256 for i in range(65536))
left = int({size})
while left:
    left -= os.write({fd}, block[:left])
"""

# What a program can see of its surroundings, apart from process numbers.
SURROUNDINGS = r"""
import os, resource, signal, sys
for key in sorted(os.environb): sys.stdout.buffer.write(key + b"=" + os.environb[key] + b"\0")
print()
print(sys.argv, os.getcwd(), oct(os.umask(0o22)), os.nice(0), os.sched_getaffinity(0))
fds = []
for fd in sorted(int(f) for f in os.listdir("/proc/self/fd")):
    try: fds.append((fd, os.readlink(f"/proc/self/fd/{fd}") if fd > 2 else ""))
    except OSError: pass
print([f for f in fds if not f[1].startswith("/proc/")])
for line in open("/proc/self/status"):
    if line.startswith(("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "CapEff", "NoNewPrivs", "Umask", "Cpus_allowed:")): print(line, end="")
for name in sorted(n for n in dir(resource) if n.startswith("RLIMIT_")): print(name, resource.getrlimit(getattr(resource, name)))
print(open("/proc/self/oom_score_adj").read(), os.sched_getscheduler(0), [os.isatty(i) for i in range(3)])
"""


class Bytes(RecordTest):
    def same(self, command, **more):
        plain = self.run_plain(command)
        recorded = self.run_recorded(command, **more)
        self.assertEqual(recorded.returncode, plain.returncode if plain.returncode >= 0 else 128 - plain.returncode)
        self.assertTrue(recorded.stdout == plain.stdout, "stdout differs")
        self.assertTrue(recorded.stderr == plain.stderr, f"stderr differs: {recorded.stderr[:500]!r}")
        shown = self.show()
        self.assertEqual((shown["state"], shown["lost_log_bytes"]), ("finished", 0))
        self.assertTrue(self.log("out") == plain.stdout, "log/out.log differs")
        self.assertTrue(self.log("err") == plain.stderr, "log/err.log differs")

    def test_stdout_only(self):
        self.same(["sh", "-c", "for i in 1 2 3; do echo line $i; done"])

    def test_stderr_only(self):
        self.same(["sh", "-c", "echo one >&2; printf 'no newline' >&2"])

    def test_both_binary_and_invalid_utf8(self):
        program = "import sys\nfor f in (sys.stdout, sys.stderr):\n f.buffer.write(bytes(range(256))*300 + b'\\xff\\xfe\\r\\n\\x1b[31m\\0')"
        self.same([PYTHON, "-c", program])

    def test_no_output(self):
        self.same(["true"])

    def test_dies_at_once(self):
        self.same(["sh", "-c", "kill -9 $$"])

    def test_100_megabytes_fast(self):
        self.same([PYTHON, "-c", FAST.format(size=100e6, fd=1)])

    def test_both_streams_fast(self):
        program = FAST.format(size=2e7, fd=1) + FAST.format(size=2e7, fd=2)
        self.same([PYTHON, "-c", program])

    def test_100_megabytes_without_a_newline(self):
        command = ["sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x"]
        self.same(command)
        self.assertLess(self.show()["peak_rss_bytes"], 24 * 2**20)

    def test_joined_streams_keep_their_order(self):
        program = "import os\nfor i in range(20000): os.write(1 + i % 2, b'%d\\n' % i)"
        recorded = subprocess.run(self.words([PYTHON, "-c", program]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, timeout=LIMIT_S)
        self.assertEqual(recorded.stdout, b"".join(b"%d\n" % i for i in range(20000)))
        self.assertEqual(self.log("out"), recorded.stdout)
        self.assertFalse(os.path.exists(os.path.join(self.the_run(), "log", "err.log")))

    def test_to_files(self):
        out, err = os.path.join(self.folder, "out"), os.path.join(self.folder, "err")
        with open(out, "wb") as o, open(err, "wb") as e:
            o.write(b"before\n")
            o.flush()
            status = subprocess.run(self.words(["sh", "-c", "echo a; echo b >&2"]), stdout=o, stderr=e,
                                    stdin=subprocess.DEVNULL, timeout=LIMIT_S).returncode
        self.assertEqual(status, 0)
        with open(out, "rb") as o, open(err, "rb") as e:
            self.assertEqual((o.read(), e.read()), (b"before\na\n", b"b\n"))

    def test_stdin_passes_through(self):
        recorded = self.run_recorded(["cat"], stdin=None, input=b"some input\n" * 50000)
        self.assertEqual(recorded.stdout, b"some input\n" * 50000)

    def test_output_of_what_the_command_leaves_behind(self):
        # A shell prompt comes back when the command ends; what it left behind still writes to where we wrote.
        recorded = self.start(["sh", "-c", "(sleep 1; echo late) & echo early"], stdout=subprocess.PIPE)
        self.assertEqual(recorded.stdout.readline(), b"early\n")
        self.assertEqual(recorded.wait(LIMIT_S), 0)
        self.assertEqual(recorded.stdout.read(), b"late\n")
        self.assertEqual(self.log("out"), b"early\n")

    def test_reader_that_leaves(self):
        # `yes` meets SIGPIPE, as it would in `yes | head -1`.
        recorded = self.start(["sh", "-c", "trap '' TERM; yes; echo status $? >&2"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        recorded.stdout.readline()
        recorded.stdout.close()
        self.assertIn(b"status", recorded.stderr.read())
        recorded.wait(LIMIT_S)

    def test_sparse_writer_learns_of_the_reader_leaving(self):
        program = "import os,sys,time\nos.write(1,b'a\\n')\nsys.stdin.readline()\ntime.sleep(.3)\ntry: os.write(1,b'b\\n')\nexcept BrokenPipeError: sys.exit(7)"
        recorded = self.start([PYTHON, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        recorded.stdout.readline()
        recorded.stdout.close()
        recorded.stdin.write(b"\n")
        recorded.stdin.close()
        self.assertEqual(recorded.wait(LIMIT_S), 7)


class Status(RecordTest):
    def test_exit_codes(self):
        for status in (0, 1, 3, 77, 255):
            self.assertEqual(self.run_recorded(["sh", "-c", f"exit {status}"], runs=os.path.join(self.folder, str(status))).returncode,
                             status)

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT, signal.SIGPIPE):
            runs = os.path.join(self.folder, str(number))
            self.assertEqual(self.run_recorded(["sh", "-c", f"kill -{number} $$"], runs=runs).returncode, 128 + number)
            shown = self.show(self.the_run(runs))
            self.assertEqual(shown["signal"], number)
            self.assertEqual(shown["reason"], "signal SIG" + signal.Signals(number).name[3:])

    def test_not_found(self):
        recorded = self.run_recorded(["no-such-program-here"])
        self.assertEqual(recorded.returncode, 127)
        self.assertIn(b"no-such-program-here: command not found", recorded.stderr)
        self.assertEqual(self.show()["reason"], "not found")

    def test_not_executable(self):
        path = os.path.join(self.folder, "plain.txt")
        with open(path, "w") as text:
            text.write("nothing\n")
        recorded = self.run_recorded([path])
        self.assertEqual(recorded.returncode, 126)
        self.assertEqual(self.show()["reason"], "not executable")

    def test_script_without_interpreter_line(self):
        path = os.path.join(self.folder, "script")
        with open(path, "w") as text:
            text.write("exit 5\n")
        os.chmod(path, 0o755)
        self.assertEqual(self.run_recorded([path]).returncode, 5)


class Surroundings(RecordTest):
    def compare(self, **more):
        path = os.path.join(self.folder, "look.py")
        with open(path, "w") as text:
            text.write(SURROUNDINGS)
        command = [PYTHON, path, "--token", "x y"]
        plain = subprocess.run(command, capture_output=True, timeout=LIMIT_S, **more)
        recorded = subprocess.run(self.words(command), capture_output=True, timeout=LIMIT_S, **more)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertEqual(recorded.stdout.decode(), plain.stdout.decode())
        self.assertEqual(recorded.stderr, plain.stderr)

    def test_everyday(self):
        self.compare(stdin=subprocess.DEVNULL)

    def test_signals_ignored_and_blocked(self):
        def prepare():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGWINCH})
            os.umask(0o077)
        self.compare(stdin=subprocess.DEVNULL, preexec_fn=prepare)

    def test_inherited_descriptors(self):
        with open(os.path.join(self.folder, "inherited"), "w") as held:
            self.compare(stdin=subprocess.DEVNULL, pass_fds=[held.fileno()])

    def test_closed_descriptors(self):
        for closed in ((0,), (2,), (0, 2)):
            runs = os.path.join(self.folder, "closed" + "".join(map(str, closed)))
            program = "import os\nfor fd in range(3):\n try: os.fstat(fd); print(fd,'open')\n except OSError: print(fd,'closed')"
            close = "exec " + " ".join(f"{fd}>&-" for fd in closed) + '; exec "$@"'
            plain = subprocess.run(["sh", "-c", close, "sh", PYTHON, "-c", program], stdout=subprocess.PIPE, timeout=LIMIT_S)
            recorded = subprocess.run(["sh", "-c", close, "sh", *self.words([PYTHON, "-c", program], runs=runs)],
                                      stdout=subprocess.PIPE, timeout=LIMIT_S)
            self.assertEqual(recorded.stdout, plain.stdout)

    def test_inherited_pipe_closes_with_the_command(self):
        # Whoever waits for the end of a descriptor that the command inherited must not wait for us.
        reader, writer = os.pipe()
        recorded = self.start(["sh", "-c", f"exec {writer}>&-; sleep 3"], pass_fds=[writer])
        os.close(writer)
        self.assertEqual(os.read(reader, 1), b"")
        self.assertIsNone(recorded.poll())
        recorded.wait(LIMIT_S)

    def test_nested(self):
        inner = self.words(["sh", "-c", "echo inner; echo e >&2; exit 4"], name="inner", runs=os.path.join(self.folder, "inner"))
        recorded = self.run_recorded(inner, name="outer")
        self.assertEqual((recorded.returncode, recorded.stdout, recorded.stderr[:2]), (4, b"inner\n", b"e\n"))
        self.assertEqual(self.log("out", self.the_run(os.path.join(self.folder, "inner"))), b"inner\n")
        self.assertEqual(self.log("out"), b"inner\n")

    def test_two_runs_of_one_name_at_once(self):
        first, second = (self.start(["sh", "-c", f"echo {i}"], stdout=subprocess.PIPE) for i in range(2))
        self.assertEqual((first.stdout.read(), second.stdout.read()), (b"0\n", b"1\n"))
        self.assertEqual((first.wait(LIMIT_S), second.wait(LIMIT_S)), (0, 0))
        logs = sorted(self.log("out", os.path.join(self.runs, name)) for name in os.listdir(self.runs))
        self.assertEqual(logs, [b"0\n", b"1\n"])

    def test_titles_and_ancestry(self):
        front = self.start(["sleep", "60"], name="titled")
        recorder, keeper, command = self.family(front.pid)
        from record_harness import title_of
        self.assertEqual(title_of(recorder), "rigwise: recorder titled")
        self.assertEqual(title_of(keeper), "rigwise: keeper titled")
        self.assertEqual(title_of(command), "sleep 60")
        front.send_signal(signal.SIGTERM)
        self.assertEqual(front.wait(LIMIT_S), 128 + signal.SIGTERM)

    def test_pause(self):
        front = self.start(["sleep", "60"], extra=("--interval", "0.1"))
        run_dir = self.wait_for_run()
        wait_for(lambda: os.path.exists(os.path.join(run_dir, "control")))
        for verb in ("pause", "resume"):
            self.assertEqual(subprocess.run([DRIVER, verb, run_dir], timeout=LIMIT_S).returncode, 0)
        front.send_signal(signal.SIGTERM)
        front.wait(LIMIT_S)
        self.assertEqual([e for e in self.show()["events"] if e in ("paused", "resumed")], ["paused", "resumed"])
        self.assertNotEqual(subprocess.run([DRIVER, "pause", run_dir], stderr=subprocess.DEVNULL, timeout=LIMIT_S).returncode, 0)


if __name__ == "__main__":
    if not os.path.exists(DRIVER):
        print("skipped: no record_driver in", DRIVER)
        sys.exit(0)
    unittest.main(verbosity=2)
