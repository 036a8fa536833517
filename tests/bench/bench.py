#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measure txnfs beside what it is compared with. tests/bench/README.md says
what each row is; make bench runs this."""
import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import table
from rows import PLAIN, WORKS
from targets import call, find_all

SIZES = {
    # share of the operations; MiB of a "1 GiB" file; adopt; trees
    "small": (0.02, 32, (1000, 16384), [1000, 10000]),
    "normal": (1.0, 256, (10000, 100 << 10), [1000, 10000, 100000]),
    "large": (1.0, 1024, (100000, 100 << 10), [1000, 10000, 100000, 1000000]),
}


def is_tmpfs(path):
    return os.access(path, os.W_OK) and \
        call("stat", "-f", "-c", "%T", path).strip() == "tmpfs"


class Run:
    """One run: its folder, what it found, and how programs are called."""

    def __init__(self, args, top):
        self.args = args
        self.here = os.path.join(top, "tests", "bench")
        self.bench = os.path.join(top, args.builds[0], "bench")
        self.disk = tempfile.mkdtemp(prefix="txnfs-bench.", dir=args.work)
        os.chmod(self.disk, 0o755)
        self.memory = None
        if is_tmpfs(args.memory):
            self.memory = tempfile.mkdtemp(prefix="txnfs-bench.",
                                           dir=args.memory)
        self.folder = self.disk  # of the work under way
        self.share, self.mib, self.adopt, self.trees = SIZES[args.size]
        self.target = None  # whose work is under way
        self.used = None  # client_ns, daemon_ns, reads; of the round
        self.env = dict(os.environ, HOME=self.disk,
                        GIT_CONFIG_NOSYSTEM="1", LC_ALL="C")
        with open(self.disk + "/.gitconfig", "w", encoding="utf-8") as f:
            f.write("[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n")

    def remove(self):
        for d in (self.disk, self.memory):
            if d:
                shutil.rmtree(d, ignore_errors=True)

    def use(self, work):
        self.folder = self.memory if work.memory and self.memory else self.disk

    def scale(self, n):
        return max(int(n * self.share), 1)

    def bytes_of(self, mib):
        return mib * self.mib // 1024 << 20

    def host_file(self):
        """A file on the same filesystem, for what the device takes."""
        return self.folder + "/host"

    def shared(self, name, make):
        path = os.path.join(self.folder, "shared-" + name)
        if not os.path.isdir(path):
            os.makedirs(path)
            make(path)
        return path

    def spawn(self, argv, timed=True, env=None):
        """Wall time, with what the daemon used meanwhile added up."""
        t = self.target
        env = dict(self.env, PATH=env["PATH"]) if env else self.env
        cpu, reads = t.cpu_ns(), t.reads()
        with tempfile.TemporaryFile("w+") as out:
            start = time.monotonic()
            # wait4 tells what this child alone used.
            # pylint: disable-next=consider-using-with
            p = subprocess.Popen([str(a) for a in argv], stdout=out,
                                 stderr=subprocess.STDOUT, env=env, cwd="/")
            _, status, usage = os.wait4(p.pid, 0)
            took = time.monotonic() - start
            p.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            text = out.read()
        if p.returncode:
            raise RuntimeError("%s: status %d: %s" % (
                " ".join(map(str, argv)), p.returncode, text.strip()))
        if timed:
            self.used[0] += int((usage.ru_utime + usage.ru_stime) * 1e9)
            self.used[1] += t.cpu_ns() - cpu
            self.used[2] += t.reads() - reads
        return took, text

    @staticmethod
    def figures(text):
        return {k: float(v) for k, v in
                (line.split() for line in text.splitlines())}

    def prog(self, name, *args):
        return self.figures(self.spawn(
            [os.path.join(self.bench, name), *args])[1])

    def command(self, *argv, timed=True, env=None):
        return self.spawn(argv, timed, env)[0]

    def script_argv(self, name, *args):
        return [sys.executable, os.path.join(self.here, name),
                *map(str, args)]

    def script(self, name, *args):
        return self.figures(self.spawn(self.script_argv(name, *args))[1])


def measure(run, work, targets, size, out):
    """All rounds of a work on targets that are started, in turns. A target
    that fails is told and left out of the rest."""
    rounds = work.rounds or run.args.repeat
    failed = set()
    for r in range(rounds if targets else 0):
        n = r % len(targets)
        for t in targets[n:] + targets[:n]:  # another one first each time
            if t.name in failed:
                continue
            run.target, run.used = t, [0, 0, 0]
            try:
                costs = work.fn(run, t, r)
            except (RuntimeError, OSError) as e:
                failed.add(t.name)
                print("FAILED: %s on %s: %s" % (work.name, t.name, e),
                      flush=True)
                out.append({"work": work.name, "target": t.name,
                            "kind": t.kind, "size": size, "round": r,
                            "error": str(e)})
                continue
            out.append({"work": work.name, "target": t.name, "kind": t.kind,
                        "size": size, "round": r, "costs": costs,
                        "client_s": run.used[0] / 1e9,
                        "daemon_s": run.used[1] / 1e9,
                        "daemon_reads": run.used[2]})


def started(run, works, targets, out, fill=None):
    """Those that could be made ready; the others are told and left out."""
    setup, up = works[0].setup, []
    for t in targets:
        run.target, run.used = t, [0, 0, 0]
        try:
            t.start(os.path.join(run.folder, t.name.replace(",", "-")),
                    fill)
            if setup:
                setup(run, t)
            up.append(t)
        except (RuntimeError, OSError) as e:
            print("FAILED: setting up %s: %s" % (t.name, e), flush=True)
            out.append({"work": works[0].name, "target": t.name,
                        "kind": t.kind, "size": None, "round": 0,
                        "error": str(e)})
    return up


def stop(targets):
    for t in targets:
        if t.folder:
            try:
                t.stop()
            except (RuntimeError, OSError) as e:
                print("FAILED: ending %s: %s" % (t.name, e), flush=True)


def run_works(run, works, targets, out):
    def of(work):
        return [t for t in targets if t.kind in work.kinds]

    for work in (w for w in works if not w.sized):
        run.use(work)
        try:
            up = started(run, [work], of(work), out)
            measure(run, work, up, None, out)
        finally:
            stop(targets)
        table.show_work(work, out)
    run_sized(run, [w for w in works if w.sized and not w.memory], of, out)
    run_sized(run, [w for w in works if w.sized and w.memory], of, out)


def run_sized(run, works, targets_of, out):
    """Works that share a tree of each size."""
    if not works:
        return
    targets = targets_of(works[0])
    run.use(works[0])
    for n in run.trees:
        def fill(d, n=n):
            run.prog("names", "fill", d, n, 512, 512)
        try:
            up = started(run, works, targets, out, fill)
            for work in works:
                measure(run, work, up, n, out)
        finally:
            stop(targets)
    for work in works:
        table.show_work(work, out)


def machine(work):
    """What the figures depend on, without names."""
    def first(path, prefix):
        with open(path, encoding="utf-8") as f:
            return next((s.split(":", 1)[1].strip() for s in f
                         if s.startswith(prefix)), "?")
    return {"cpu": first("/proc/cpuinfo", "model name"),
            "cores": os.cpu_count(),
            "memory": first("/proc/meminfo", "MemTotal"),
            "kernel": platform.release().split("-")[0],
            "filesystem": call("stat", "-f", "-c", "%T", work).strip(),
            "load_before": os.getloadavg()[0]}


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--builds", nargs="+", default=["build"],
                   help="folders of builds, the first with the programs")
    p.add_argument("--rows", default="", help="works, by name; all")
    p.add_argument("--targets", default="", help="names; all that there are")
    p.add_argument("--repeat", type=int, default=5)
    p.add_argument("--size", choices=SIZES, default="normal")
    p.add_argument("--work", default=os.environ.get("TMPDIR", "/tmp"))
    p.add_argument("--memory", default="/dev/shm",
                   help="a tmpfs, for rows without the device")
    p.add_argument("--out", help="folder for result.json and plots")
    p.add_argument("--list", action="store_true")
    return p.parse_args()


def select(args, works, targets):
    rows, names = args.rows.split(), args.targets.split()
    unknown = set(rows) - {w.name for w in works}
    unknown |= set(names) - {t.name for t in targets}
    if unknown:
        sys.exit("bench: there is no " + ", ".join(sorted(unknown)))
    return ([w for w in works if not rows or w.name in rows],
            [t for t in targets if not names or t.name in names
             or t.name == PLAIN])


def main():
    args = arguments()
    top = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    if args.list:
        for w in WORKS:
            print("%-16s %s" % (w.name, "; ".join(r.title for r in w.rows)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run = Run(args, top)
    out, targets = [], []
    try:
        targets, missing = find_all(top, args.builds, run.folder)
        if not run.memory:
            missing.append("%s is no tmpfs: rows beyond the device are "
                           "measured on the disk" % args.memory)
        works, targets = select(args, WORKS, targets)
        about = machine(run.folder)
        about.update(size=args.size, repeat=args.repeat, missing=missing)
        missing += filter(None, (w.why_not() for w in works))
        works = [w for w in works if not w.why_not()]
        for line in missing:
            print("left out: " + line)
        if about["load_before"] > os.cpu_count():
            print("the machine is busy (load %.1f): look at cpu, reads and "
                  "ratios" % about["load_before"])
        run_works(run, works, targets, out)
        about["load_after"] = os.getloadavg()[0]
    finally:
        stop(targets)
        run.remove()
    folder = args.out or os.path.join(top, args.builds[0], "bench")
    table.finish(works, out, about, folder)
    return 1 if any("error" in o for o in out) else 0


if __name__ == "__main__":
    sys.exit(main())
