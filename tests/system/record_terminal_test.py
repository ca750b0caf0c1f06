"""On a terminal: keys, signals, job control, sizes and hang-ups reach the command as they would without rigwise."""
import glob
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
import unittest

from record_harness import (BINARY, DRIVER, LIMIT_S, PYTHON, RecordTest, Terminal, is_alive, set_size, wait_for)

# Counts SIGINT; says so one second after the first, or when told by SIGTERM.
COUNTER = r"""
import os, signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGCONT, signal.SIGWINCH):
    signal.signal(number, lambda n, f: seen.append(signal.Signals(n).name))
log = open(sys.argv[1], 'a', buffering=1)
print('ready', flush=True)
end = time.monotonic() + 30
while not seen and time.monotonic() < end: time.sleep(.02)
until = time.monotonic() + 1
while time.monotonic() < until: time.sleep(.05)
log.write(' '.join(sorted(seen)) + '\n')
print('seen', ' '.join(sorted(seen)), flush=True)
"""

LOOK = r"""
import os, sys, fcntl, termios, struct
def size(fd):
    try: return os.get_terminal_size(fd)[:]
    except OSError: return None
print([os.isatty(fd) for fd in range(3)], [size(fd) for fd in range(3)], os.path.exists('/dev/tty') and bool(os.open('/dev/tty', os.O_RDWR)))
sys.stderr.write('to stderr\n')
"""


class TerminalTest(RecordTest):
    def terminal(self, argv, **more):
        terminal = Terminal(argv, **more)
        self.addCleanup(terminal.end)
        return terminal

    def script(self, text, name):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def counter(self):
        self.counts = os.path.join(self.folder, "counts")
        return [PYTHON, "-S", self.script(COUNTER, "counter.py"), self.counts]

    def counted(self):
        with open(wait_for(lambda: os.path.exists(self.counts) and os.path.getsize(self.counts) and self.counts)) as text:
            return text.read().split()

    def shell(self, **more):
        """An interactive shell with job control."""
        bash = self.terminal(["bash", "--norc", "--noprofile", "-i"], env={"PS1": "prompt> ", "TERM": "dumb", "HISTFILE": ""}, **more)
        bash.expect(b"prompt> ")
        return bash

    def line(self, command):
        return " ".join(shlex.quote(word) for word in self.words(command, extra=("--interval", "0.2")))

    def forget_run(self):
        # The ending is written before the digests; the reserve goes last.
        wait_for(lambda: self.show()["state"] == "finished" and not glob.glob(os.path.join(self.runs, "*", "reserve")))
        shutil.rmtree(self.runs)

    # ---- what the command sees

    def test_everything_on_the_terminal(self):
        look = [PYTHON, "-S", self.script(LOOK, "look.py")]
        plain = self.terminal(look)
        plain.wait()
        recorded = self.terminal(self.words(look))
        self.assertEqual(recorded.wait(), 0)
        self.assertEqual(recorded.shown, plain.shown)
        self.assertIn(b"[True, True, True] [(100, 30), (100, 30), (100, 30)] True", recorded.shown)
        self.assertEqual(self.log("out"), recorded.shown)
        self.assertEqual(os.listdir(os.path.join(self.the_run(), "log")).count("err.log"), 0)

    def test_part_of_it_redirected(self):
        look = " ".join([PYTHON, "-S", self.script(LOOK, "look.py")])
        for number, where in enumerate(("2>{}", ">{}", "</dev/null", "2>&1 | cat", "2>{} | cat", ">{} 2>&1")):
            seen = []
            for recorded in (False, True):
                file = os.path.join(self.folder, f"file{number}{recorded}")
                runs = os.path.join(self.folder, f"runs{number}")
                command = " ".join(self.words([look], runs=runs)) if recorded else look
                terminal = self.terminal(["sh", "-c", command + " " + where.format(file) + "; exit 0"])
                terminal.wait()
                written = b""
                if os.path.exists(file):
                    with open(file, "rb") as text:
                        written = text.read()
                seen.append((terminal.shown, written))
            self.assertEqual(seen[1], seen[0], where)

    def test_modes_are_restored(self):
        shell = self.shell()
        before = termios.tcgetattr(shell.fd)
        shell.type(self.line(["sh", "-c", "stty raw -echo; sleep 0.3; kill -9 $$"]).encode() + b"; echo status $?\n")
        shell.expect(b"status 137")
        shell.expect(b"prompt> ")
        self.assertEqual(termios.tcgetattr(shell.fd), before)

    def test_modes_are_restored_when_the_front_is_killed(self):
        terminal = self.terminal(["sh", "-c", "\"$@\"; sleep 60", "sh", *self.words(["sleep", "3"])])
        wait_for(lambda: glob.glob(os.path.join(self.runs, "*", "run.json")))
        front = int(subprocess.run(["pgrep", "-P", str(terminal.pid)], capture_output=True).stdout.split()[0])
        wait_for(lambda: not termios.tcgetattr(terminal.fd)[3] & termios.ICANON)
        os.kill(front, signal.SIGKILL)
        wait_for(lambda: termios.tcgetattr(terminal.fd)[3] & termios.ICANON)

    def test_keys_and_echo(self):
        terminal = self.terminal(self.words(["sh", "-c", "read line; echo got $line; stty -echo; read other; stty echo; echo other $other; cat >/dev/null; echo end"]))
        wait_for(lambda: not termios.tcgetattr(terminal.fd)[3] & termios.ICANON)
        terminal.type(b"abc\x7fd\r")
        terminal.expect(b"got abd")
        time.sleep(0.2)
        terminal.type(b"hidden\r")
        self.assertNotIn(b"hidden\r", terminal.expect(b"other hidden"))
        terminal.type(b"more\r\x04")
        terminal.expect(b"end")
        self.assertEqual(terminal.wait(), 0)

    def test_window_size(self):
        program = ("import os,signal,time\n"
                   "signal.signal(signal.SIGWINCH, lambda *a: print('size', *os.get_terminal_size(1), flush=True))\n"
                   "print('ready', flush=True)\nfor i in range(100): time.sleep(.05)")
        terminal = self.terminal(self.words([PYTHON, "-S", "-c", program]))
        terminal.expect(b"ready")
        set_size(terminal.fd, 11, 222)
        terminal.expect(b"size 222 11")

    def test_window_size_of_stderr_alone(self):
        program = ("import os,signal,sys,time\n"
                   "signal.signal(signal.SIGWINCH, lambda *a: print('size', *os.get_terminal_size(2), file=sys.stderr, flush=True))\n"
                   "print('ready', file=sys.stderr, flush=True)\nfor i in range(100): time.sleep(.05)")
        terminal = self.terminal(["sh", "-c", '"$@" | cat', "sh", *self.words([PYTHON, "-S", "-c", program])])
        terminal.expect(b"ready")
        set_size(terminal.fd, 12, 123)
        terminal.expect(b"size 123 12")

    # ---- signals

    def test_one_interrupt_on_the_terminal(self):
        terminal = self.terminal(self.words(self.counter()))
        terminal.expect(b"ready")
        terminal.type(b"\x03")
        terminal.expect(b"seen SIGINT\r")
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(self.counted(), ["SIGINT"])

    def test_one_interrupt_in_a_pipeline(self):
        for tail in ("| tee -i tee.log", "> file.log", "2>&1 | tee -i tee.log", "2>file.log"):
            if os.path.exists(os.path.join(self.folder, "counts")):
                os.remove(os.path.join(self.folder, "counts"))
            shell = self.shell()
            shell.type(f"cd {self.folder}; rm -f *.log\n".encode())
            shell.type(self.line(self.counter()).encode() + b" " + tail.encode() + b"\n")
            wait_for(lambda: any(b"ready" in open(f, "rb").read() for f in glob.glob(self.runs + "/*/log/out.log")))
            time.sleep(0.3)
            shell.type(b"\x03")
            self.assertEqual(self.counted(), ["SIGINT"], tail)
            shell.end()
            self.forget_run()

    def test_interrupt_kills(self):
        shell = self.shell()
        shell.type(self.line(["sleep", "60"]).encode() + b"; echo status $?\n")
        run_dir = self.wait_for_run()
        wait_for(lambda: not termios.tcgetattr(shell.fd)[3] & termios.ICANON)
        time.sleep(0.2)
        shell.type(b"\x03")
        shell.expect(b"status 130")
        self.assertEqual(self.show(run_dir)["signal"], signal.SIGINT)

    def signals_sent(self, send, **more):
        command = self.counter()
        front = self.start_in_session(command, stdout=subprocess.PIPE, **more)
        self.assertEqual(front.stdout.readline(), b"ready\n")
        send(front.pid)
        counted = self.counted()
        front.wait(LIMIT_S)
        front.stdout.close()
        os.remove(self.counts)
        self.forget_run()
        return counted

    def test_one_signal_without_a_terminal(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGCONT):
            self.assertEqual(self.signals_sent(lambda pid: os.kill(pid, number)), [number.name])
            self.assertEqual(self.signals_sent(lambda pid: os.killpg(pid, number)), [number.name])

    def test_one_signal_by_kill_on_a_terminal(self):
        for piped in (False, True):
            shell = self.shell()
            tail = " | cat &" if piped else " &"
            shell.type(self.line(self.counter()).encode() + tail.encode() + b"\n")
            wait_for(lambda: any(b"ready" in open(f, "rb").read() for f in glob.glob(self.runs + "/*/log/out.log")))
            shell.type(b"kill -USR1 %1\n")  # to the whole job
            self.assertEqual(self.counted(), ["SIGUSR1"], piped)
            os.remove(self.counts)
            shell.end()
            self.forget_run()

    # ---- job control

    def stop_and_go(self, tail):
        shell = self.shell()
        program = "import time\nprint('ready',flush=True)\nlast=time.monotonic()\nfor i in range(400):\n time.sleep(.02)\n now=time.monotonic()\n if now-last>.8: print('was stopped',flush=True); break\n last=now"
        shell.type(self.line([PYTHON, "-S", "-c", program]).encode() + tail + b"; echo status $?\n")
        shell.expect(b"ready")
        time.sleep(0.3)
        shell.type(b"\x1a")
        shell.expect(b"Stopped")
        shell.expect(b"prompt> ")
        shell.type(b"echo the shell $((40 + 2))\n")
        shell.expect(b"the shell 42")
        time.sleep(1)
        shell.type(b"fg\n")
        shell.expect(b"was stopped")
        shell.expect(b"prompt> ")
        self.assertEqual(self.show()["exit_status"], 0)

    def test_stop_and_go_on(self):
        self.stop_and_go(b"")

    def test_stop_and_go_on_in_a_pipeline(self):
        self.stop_and_go(b" | cat")

    def test_in_the_background(self):
        shell = self.shell()
        shell.type(self.line(["sh", "-c", "sleep 0.5; echo from behind; exit 3"]).encode() + b" &\n")
        shell.expect(b"from behind")
        shell.type(b"wait %1; echo status $?\n")
        shell.expect(b"status 3")

    def test_brought_to_the_foreground(self):
        shell = self.shell()
        shell.type(self.line(["sh", "-c", "read line; echo got $line"]).encode() + b" &\n")
        self.wait_for_run()
        time.sleep(0.3)
        shell.type(b"fg\n")
        wait_for(lambda: not termios.tcgetattr(shell.fd)[3] & termios.ICANON and not termios.tcgetattr(shell.fd)[1] & termios.OPOST)
        shell.type(b"hello\r")
        shell.expect(b"got hello")

    # ---- hang-up, detach, attach

    def test_hang_up_detaches(self):
        shell = self.shell()
        proof = os.path.join(self.folder, "proof")
        shell.type(self.line(["sh", "-c", f"for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done; echo ended > {proof}"]).encode() + b"\n")
        shell.expect(b"line 2")
        shell.end()
        wait_for(lambda: os.path.exists(proof))
        wait_for(lambda: self.show()["state"] == "finished")
        self.assertEqual(self.show()["exit_status"], 0)
        self.assertEqual(self.log("out"), b"".join(b"line %d\r\n" % i for i in range(1, 9)))

    def attach(self, run_dir):
        return self.terminal([DRIVER, "attach", run_dir])

    @unittest.skipIf(BINARY == DRIVER, "the whole program is needed")
    def test_what_failed_unseen_is_kept(self):
        for number, word in enumerate(("--detach", "--quiet", "--json")):
            runs = os.path.join(self.folder, str(number))
            subprocess.run([BINARY, "run", "--runs", runs, word, "--", PYTHON, "-S", "-c", "open('/nowhere/rows')"], stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=LIMIT_S)
            kept = os.path.join(self.the_run(runs), "triage.json")
            wait_for(lambda: os.path.exists(kept))
            with open(kept) as file:
                self.assertIn("No such file", json.load(file)["first_meaningful"]["text"], word)

    def test_detach_and_attach(self):
        deep = os.path.join(self.folder, "d" * 100, "e" * 100)  # longer than a socket's path may be
        program = ("import os,signal,sys,time\nprint('terminal', os.isatty(0), os.isatty(1), os.isatty(2), flush=True)\n"
                   "line = input('name? ')\nprint('hello', line, *os.get_terminal_size(1), flush=True)\nline = input('more? ')\nsys.exit(5)")
        began = time.monotonic()
        done = subprocess.run(self.words([PYTHON, "-S", "-c", program], runs=deep, extra=("--detach",)), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(time.monotonic() - began, LIMIT_S)
        run_dir = self.the_run(deep)
        wait_for(lambda: os.path.exists(os.path.join(run_dir, "log", "out.log")) and b"name?" in self.log("out", run_dir))
        first = self.attach(run_dir)
        first.expect(b"terminal True True True")  # shown from the log
        first.expect(b"name? ")
        second = self.attach(run_dir)
        self.assertEqual(second.wait(), 11)
        self.assertIn(b"attached", second.shown)
        first.type(b"x\x1cd")  # leaves
        self.assertEqual(first.wait(), 0)
        third = self.attach(run_dir)
        third.expect(b"name? ")
        time.sleep(0.2)
        third.type(b"yz\r")
        third.expect(b"hello xyz 100 30")
        third.type(b"\r")
        self.assertEqual(third.wait(), 5)
        wait_for(lambda: self.show(run_dir)["state"] == "finished")
        self.assertEqual(self.show(run_dir)["exit_status"], 5)
        gone = self.attach(run_dir)
        self.assertEqual(gone.wait(), 11)

    def test_detached_survives_the_session(self):
        proof = os.path.join(self.folder, "proof")
        shell = self.shell()
        words = self.words(["sh", "-c", f"sleep 1; echo $$ > {proof}"], extra=("--detach",))
        shell.type(" ".join(shlex.quote(w) for w in words).encode() + b"; echo status $?\n")
        shell.expect(b"status 0")
        shell.end()
        wait_for(lambda: os.path.exists(proof))
        wait_for(lambda: self.show()["state"] == "finished")

    def test_detached_command_not_found(self):
        done = subprocess.run(self.words(["no-such-program-here"], extra=("--detach",)), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 127)
        self.assertIn(b"not found", done.stderr)

    def test_attach_after_hang_up(self):
        shell = self.shell()
        shell.type(self.line(["sh", "-c", "echo begin; read line; echo got $line; exit 4"]).encode() + b"\n")
        shell.expect(b"begin")
        run_dir = self.wait_for_run()
        early = self.attach(run_dir)
        self.assertEqual(early.wait(), 11)  # its own terminal is still there
        shell.end()
        def joined():
            visitor = self.attach(run_dir)
            try:
                visitor.expect(b"begin", 2)
                return visitor
            except AssertionError:
                visitor.end()
                return None
        visitor = wait_for(joined)
        time.sleep(0.3)
        visitor.type(b"me\r")
        visitor.expect(b"got me")
        self.assertEqual(visitor.wait(), 4)


if __name__ == "__main__":
    if not os.path.exists(DRIVER):
        print("skipped: no record_driver in", DRIVER)
        sys.exit(0)
    unittest.main(verbosity=2)
