# SPDX-License-Identifier: GPL-2.0-or-later
"""The works and the rows of the table. README.md says what each measures."""
import os
import random
import shutil
import subprocess
import time

import postgres
from targets import call

PLAIN, NULL, TXNFS = "plain", "null", "txnfs"
FUSEOVL, OVL = "fuse-overlayfs", "overlay"
EVERY = (PLAIN, NULL, TXNFS, FUSEOVL, OVL)
NO_NULL = (PLAIN, TXNFS, FUSEOVL, OVL)

MIB = 1 << 20


class Row:
    """A figure of a work: the smaller the better. goals: (limit, kind): as a
    ratio to that of the kind, or (limit,) of the figure itself; fast: those of
    mounts with open=fast, where they are others. flat: must not grow with the
    size, by more than FLAT_LIMIT."""
    FLAT_LIMIT = 2.0

    def __init__(self, key, title, *goals, unit="s", flat=False, fast=None):
        self.key, self.title, self.goals = key, title, goals
        self.unit, self.flat, self.fast = unit, flat, fast

    def goals_of(self, target):
        return self.fast if self.fast and "open=fast" in target else self.goals


class Work:
    """setup(run, target) once, run(run, target, round) in turns with the other
    targets, giving {row key: cost}. sized: on a tree of each size. memory: in
    a tmpfs, where a flush costs nothing. why_not() says why it cannot be."""

    def __init__(self, name, fn, rows, kinds=EVERY, setup=None, sized=False,
                 memory=False, rounds=None, why_not=lambda: None):
        self.name, self.fn, self.rows, self.kinds = name, fn, rows, kinds
        self.setup, self.sized, self.memory = setup, sized, memory
        self.rounds, self.why_not = rounds, why_not


# --- names and small files ---

STAT_FILES, LIST_FILES = 1000, 10000


def setup_small(run, t):
    run.prog("names", "fill", t.dir, STAT_FILES, 2048, 2048)
    t.commit()


def do_stat(run, t, _):
    ops = run.scale(300000)
    return {"stat": run.prog("names", "stat", t.dir, STAT_FILES, ops)
            ["seconds"] / ops}


def do_open(run, t, _):
    ops = run.scale(30000)
    return {"open": run.prog("names", "open", t.dir, STAT_FILES, ops)
            ["seconds"] / ops}


def setup_list(run, t):
    os.mkdir(t.dir + "/many")
    run.prog("names", "create", t.dir + "/many", LIST_FILES, 0, "none")
    t.commit()


def do_list(run, t, _):
    n = run.scale(20)
    return {"readdir": run.prog("names", "list", t.dir + "/many", n)
            ["seconds"] / n}


def do_create(run, t, r):
    d = "%s/create-%d" % (t.dir, r)
    os.mkdir(d)
    n = run.scale(10000)
    sync = {PLAIN: "syncfs", TXNFS: t.dir + "/.txn/ctl"}.get(t.kind, "none")
    if t.kind == PLAIN:
        call("sync", "-f", t.dir)  # what others left is not ours to flush
    out = run.prog("names", "create", d, n, 2048, sync)
    costs = {"create": out["created"], "durable": out["seconds"]}
    if t.kind in (FUSEOVL, OVL):
        start = time.monotonic()
        t.commit()
        costs["durable"] += time.monotonic() - start
    elif t.kind == NULL:
        del costs["durable"]
    if t.kind not in (FUSEOVL, OVL):
        shutil.rmtree(d)
    return costs


def do_trip(pause, spinners):
    def fn(run, t, _):
        ops = run.scale(20000 if not pause else 1000)
        n = os.cpu_count() if spinners else 0
        out = run.prog("names", "trip", t.dir, ops, pause, n)
        return {"trip": out["trip_p50"]}
    return fn


# --- a source tree ---

def make_source(folder, files, env):
    """Names and sizes as in a large C project; the same each time. As an
    archive, and as a repository with a second branch."""
    rng = random.Random(1)
    tree = os.path.join(folder, "tree")
    words = [("%x" % rng.getrandbits(32)).encode() for _ in range(4096)]

    def text(size):
        return b" ".join(rng.choices(words, k=size // 9 + 1))[:size]

    paths = []
    for i in range(files):
        d = "%s/dir%02d/sub%02d" % (tree, i // 400, i // 20 % 20)
        os.makedirs(d, exist_ok=True)
        paths.append("%s/file%05d.c" % (d, i))
        size = min(int(rng.lognormvariate(8.3, 1.3)), 1 << 18)
        with open(paths[-1], "wb") as f:
            f.write(text(size))
    call("tar", "-cf", folder + "/tree.tar", "-C", folder, "tree")

    def git(*argv):
        call("git", "-C", tree, "-c", "user.name=bench", "-c",
             "user.email=bench@localhost", "-c", "gc.auto=0", *argv, env=env)
    git("init", "-q", "-b", "one")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("checkout", "-q", "-b", "two")
    for p in rng.sample(paths, files // 4):
        with open(p, "ab") as f:
            f.write(text(500))
    git("commit", "-q", "-a", "-m", "two")
    git("checkout", "-q", "one")
    git("gc", "-q")


def do_source(run, t, r):
    src = run.shared("source", lambda d: make_source(
        d, run.scale(5000), run.env))
    d = "%s/source-%d" % (t.dir, r)
    os.mkdir(d)
    repo = d + "/clone"
    git = ["git", "-C", repo]
    costs = {
        "untar": run.command("tar", "-xf", src + "/tree.tar", "-C", d),
        "clone": run.command("git", "clone", "-q", "--no-hardlinks",
                             src + "/tree", repo),
    }
    # What was written in the second of the index is read by the first status
    # after it: a faster clone would make a slower status.
    time.sleep(1)
    call(*git, "status", "--porcelain", env=run.env)
    costs |= {
        "status": run.command(*git, "status", "--porcelain"),
        "checkout": run.command(*git, "checkout", "-q", "origin/two"),
    }
    costs["rm"] = run.command("rm", "-rf", d)
    return costs


# --- contents of large files ---

def do_write(chunk):
    def fn(run, t, _):
        size = run.bytes_of(1024)
        f = t.dir + "/large"
        out = run.prog("data", "write", f, size, chunk)
        os.unlink(f)
        return {"write": out["written"], "durable": out["seconds"]}
    return fn


def setup_large(run, t):
    run.prog("data", "write", t.dir + "/large", run.bytes_of(1024), MIB)
    t.commit()


def do_read(run, t, _):
    t.drop()
    f = t.dir + "/large"
    return {"cold": run.prog("data", "read", f, MIB)["seconds"],
            "warm": run.prog("data", "read", f, MIB)["seconds"]}


def do_read_random(run, t, _):
    t.drop()
    ops = run.scale(5000)
    out = run.prog("data", "read-random", t.dir + "/large", ops)
    return {"random": out["seconds"] / ops}


def do_overwrite(run, t, r):
    ops = run.scale(1000)
    out = run.prog("data", "overwrite", t.dir + "/large", ops, r)
    return {"overwrite": out["seconds"] / ops}


# --- databases ---

def do_sqlite(mode):
    def fn(run, t, r):
        n = run.scale(500)
        f = "%s/%s-%d.db" % (t.dir, mode, r)
        return {"sqlite": run.script("db.py", f, mode, n)["seconds"] / n}
    return fn


def do_beside_copy(run, t, r):
    db = subprocess.Popen(  # pylint: disable=consider-using-with
        run.script_argv("db.py", "%s/beside-%d.db" % (t.dir, r), "WAL", 0),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        db.stdout.readline()  # ready
        run.prog("data", "write", t.dir + "/copy", run.bytes_of(1024), MIB)
    finally:
        out, _ = db.communicate()
    if db.returncode:
        raise RuntimeError("db.py: status %d" % db.returncode)
    os.unlink(t.dir + "/copy")
    return {"p99": run.figures(out)["sync_p99"]}


def setup_pgbench(run, t):
    server = postgres.Server(t, max(run.scale(10), 1))
    t.at_stop(server.stop)
    t.server = server


def do_pgbench(run, t, _):
    return {"pgbench": t.server.seconds_each(4, max(run.scale(10), 1))}


# --- commands ---

CHANGES = 10000


def do_command(command, before="-", changes=1, rounds=50, device="same"):
    """Beyond the device: less what the host takes for as many bytes."""
    def fn(run, t, _):
        out = run.prog("switch", "command", t.dir, command, before, changes,
                       run.scale(rounds), run.host_file(), device)
        return {"took": out["command_p50"],
                "ratio": out["command_p50"] / out["device_p50"],
                "beyond": out["command_p50"] - out["device_p50"]}
    return fn


def setup_changes(run, t):
    run.prog("names", "fill", t.dir, run.scale(CHANGES), 2048, 2048)
    t.commit()


def do_commit_many(run, t, r):
    run.prog("switch", "change", t.dir, run.scale(CHANGES), r + 1)
    start = time.monotonic()
    t.commit()
    return {"took": time.monotonic() - start}


def do_many(command):
    def fn(run, t, r):
        n = run.scale(CHANGES)
        out = do_command(command, changes=n, rounds=3)(run, t, r)
        return dict(out, each=out["beyond"] / n)
    return fn


def do_stall(command):
    def fn(run, t, _):
        out = run.prog("switch", "stall", t.dir, command, run.scale(CHANGES),
                       run.scale(5))
        return {"stall": out["stall_max"], "quiet": out["quiet_max"]}
    return fn


def do_snapshot(staged):
    def fn(run, t, r):
        out = do_command("snapshot s%d-%d-@" % (staged, r), "-", staged,
                         1 if staged > 1 else 20)(run, t, r)
        run.prog("switch", "once", t.dir, "abort")
        return out
    return fn


def do_rollback(run, t, r):
    name = "r%d-" % r
    return do_command("rollback %s@" % name, "snapshot " + name, 1,
                      20)(run, t, r)


def do_restore(run, t, r):
    name = "p%d" % r
    run.prog("switch", "once", t.dir, "snapshot " + name)
    out = do_command("restore %s d00000/f0000000" % name, "-", 1,
                     20)(run, t, r)
    run.prog("switch", "once", t.dir, "abort")
    return out


def do_diff(run, t, r):
    a, b = "a%d" % r, "b%d" % r
    run.prog("switch", "once", t.dir, "snapshot " + a)
    run.prog("switch", "change", t.dir, 100, r + 5)
    run.prog("switch", "once", t.dir, "snapshot " + b)
    took = min(run.command("txn", "-C", t.dir, "diff", a, b, env=t.env)
               for _ in range(5))
    run.prog("switch", "once", t.dir, "abort")
    return {"diff": took}


def do_mount(run, t, _):
    t.commit()
    t.unmount()
    start = time.monotonic()
    t.attach()
    took = time.monotonic() - start
    fresh = t.memory()
    run.command("find", t.dir, "-type", "f", "-size", "0", timed=False)
    return {"mount": took, "memory": fresh / MIB, "walked": t.memory() / MIB}


# --- whole directories ---

def do_adopt(run, t, r):
    files, size = run.adopt
    src = run.shared("adopt", lambda d: run.prog(
        "names", "fill", d, files, size, size))
    d = "%s/adopt-%d" % (t.folder, r)
    call("sync", "-f", src)
    if t.kind == PLAIN:
        took = run.command("cp", "-a", src, d)
        costs = {"adopt": took,
                 "durable": took + run.command("sync", "-f", d)}
        shutil.rmtree(d)
    else:
        took = run.command("txn", "init", "--quiet", src, env=t.env)
        costs = {"adopt": took, "durable": took}
        shutil.rmtree(src + "/.txn")
    return costs


def used_bytes(path):
    return int(call("du", "-s", "--block-size=1", path).split()[0])


def do_space_small(run, t, r):
    d = "%s/small-%d" % (t.dir, r)
    os.mkdir(d)
    data = run.prog("names", "fill", d, run.scale(100000), 1, 16384)["bytes"]
    t.commit()
    if t.kind == TXNFS:
        run.prog("switch", "once", t.dir, "gc")  # it is at rest then
    return {"small": used_bytes(t.store_folder()) / data}


SCATTER_FILES, SCATTER_BYTES = 100, MIB


def setup_scatter(run, t):
    run.prog("names", "fill", t.dir, SCATTER_FILES, SCATTER_BYTES,
             SCATTER_BYTES)
    t.commit()


def do_scatter(run, t, _):
    run.prog("switch", "scatter", t.dir, SCATTER_FILES, SCATTER_BYTES, 10,
             run.scale(1000))
    with open(t.dir + "/.txn/ctl", "w", encoding="utf-8") as f:
        f.write("sync\ngc")
    return {"scattered": used_bytes(t.store_folder()) /
            (SCATTER_FILES * SCATTER_BYTES)}


WORKS = [
    Work("stat", do_stat, [Row("stat", "stat, warm", (1 / 0.9, PLAIN))],
         setup=setup_small),
    Work("open", do_open, [
        Row("open", "open, read, close, warm", (1.1, NULL),
            fast=[(1.1, PLAIN)])],
         setup=setup_small),
    Work("readdir", do_list, [
        Row("readdir", "readdir of 10,000, warm", (2.0, PLAIN))],
         setup=setup_list),
    Work("trip-busy", do_trip(0, False), [
        Row("trip", "round trip, one after the other", (1.1, NULL))]),
    Work("trip-idle", do_trip(1000, False), [
        Row("trip", "round trip, 1 ms apart", (1.1, NULL))]),
    Work("trip-crowded", do_trip(1000, True), [
        Row("trip", "round trip, 1 ms apart, all cores busy", (1.1, NULL))]),
    Work("create", do_create, [
        Row("create", "create 10,000 files of 2 KiB", (1.3, NULL)),
        Row("durable", "the same, made durable", (1.0, PLAIN))]),
    Work("source", do_source, [
        Row(k, title, (2.0, PLAIN), (0.5, FUSEOVL)) for k, title in (
            ("untar", "untar a source tree"), ("clone", "git clone"),
            ("status", "git status"), ("checkout", "git checkout"),
            ("rm", "rm -rf"))]),
    Work("write-1m", do_write(MIB), [
        Row("write", "write 1 MiB at a time", (1 / 0.8, PLAIN)),
        Row("durable", "write 1 MiB at a time, fsync", (1 / 0.8, PLAIN))]),
    Work("write-64k", do_write(65536), [
        Row("write", "write 64 KiB at a time", (1 / 0.6, PLAIN)),
        Row("durable", "write 64 KiB at a time, fsync", (1 / 0.6, PLAIN))]),
    Work("write-4k", do_write(4096), [
        Row("write", "write 4 KiB at a time", (1 / 0.9, NULL))]),
    Work("read", do_read, [
        Row("cold", "sequential read, cold", (1 / 0.8, PLAIN)),
        Row("warm", "sequential read, warm", (1.0, PLAIN))],
         setup=setup_large),
    Work("read-random", do_read_random, [
        Row("random", "random 4 KiB read, cold", (1 / 0.7, PLAIN))],
         setup=setup_large),
    Work("overwrite", do_overwrite, [
        Row("overwrite", "random 4 KiB overwrite, fdatasync each",
            (1.0, PLAIN))], setup=setup_large, kinds=NO_NULL),
    Work("sqlite-wal", do_sqlite("WAL"), [
        Row("sqlite", "SQLite 1-row transaction, FULL, WAL", (1.0, PLAIN))]),
    Work("sqlite-delete", do_sqlite("DELETE"), [
        Row("sqlite", "SQLite 1-row transaction, FULL, DELETE",
            (1.0, PLAIN))]),
    Work("beside-copy", do_beside_copy, [
        Row("p99", "SQLite commit p99 beside a 1 GiB copy", (2.0, PLAIN))],
         kinds=(PLAIN, TXNFS)),
    Work("pgbench", do_pgbench, [
        Row("pgbench", "pgbench, 4 clients, for each transaction",
            (1.0, PLAIN))], kinds=NO_NULL, setup=setup_pgbench,
         why_not=postgres.why_not),
    Work("commit-many", do_commit_many, [
        Row("took", "commit of 10,000 changed files")],
         kinds=(TXNFS, FUSEOVL, OVL), setup=setup_changes),
    Work("commit-many-memory", do_many("commit"), [
        Row("beyond", "the same, beyond the device", (0.050,))],
         kinds=(TXNFS,), setup=setup_changes, memory=True),
    Work("abort-many", do_many("abort"), [
        Row("each", "abort of 10,000 changed files, for each, beyond the "
            "device", (10e-6,))],
         kinds=(TXNFS,), setup=setup_changes, memory=True),
    Work("stall-commit", do_stall("commit"), [
        Row("stall", "longest stall of a writer, 10,000 files commit",
            (0.002,)),
        Row("quiet", "the same without a commit")],
         kinds=(TXNFS,), setup=setup_changes, memory=True),
    Work("stall-abort", do_stall("abort"), [
        Row("stall", "longest stall of a reader, 10,000 files abort",
            (0.001,)),
        Row("quiet", "the same without an abort")],
         kinds=(TXNFS,), setup=setup_changes, memory=True),
    Work("adopt", do_adopt, [
        Row("adopt", "init of a directory; plain: cp -a", (1 / 0.8, PLAIN)),
        Row("durable", "the same; plain: with sync", (1 / 0.8, PLAIN))],
         kinds=(PLAIN, TXNFS)),
    Work("space-small", do_space_small, [
        Row("small", "store size / data, 100,000 small files", (1.15,),
            unit="x")], kinds=(PLAIN, TXNFS), rounds=1),
    Work("space-commits", do_scatter, [
        Row("scattered", "store size / data, 1,000 commits of random blocks",
            (1.5,), unit="x")],
         kinds=(TXNFS,), setup=setup_scatter, rounds=1),
    # On one tree of each size:
    Work("commit", do_command("commit", device="16K"), [
        Row("took", "commit of 1 changed file", flat=True),
        Row("ratio", "the same / 16 KiB append and fdatasync", (1.5,),
            unit="x")], kinds=(TXNFS,), sized=True),
    Work("snapshot", do_snapshot(1), [
        Row("beyond", "snapshot, 1 file staged, beyond the device", (0.001,),
            flat=True)], kinds=(TXNFS,), sized=True, memory=True),
    Work("snapshot-staged", do_snapshot(1000), [
        Row("beyond", "snapshot, 1,000 files staged, beyond the device",
            (0.001,), flat=True)], kinds=(TXNFS,), sized=True, memory=True),
    Work("abort", do_command("abort"), [
        Row("beyond", "abort of 1 changed file, beyond the device", (0.001,),
            flat=True)], kinds=(TXNFS,), sized=True, memory=True),
    Work("restore", do_restore, [
        Row("beyond", "restore of 1 path, beyond the device", (0.001,),
            flat=True)], kinds=(TXNFS,), sized=True, memory=True),
    Work("rollback", do_rollback, [
        Row("beyond", "rollback of 1 changed file, beyond the device",
            (0.001,), flat=True)], kinds=(TXNFS,), sized=True, memory=True),
    Work("diff", do_diff, [
        Row("diff", "txn diff of two snapshots, 100 changes", (0.010,),
            flat=True)], kinds=(TXNFS,), sized=True, memory=True),
    Work("mount", do_mount, [
        Row("mount", "mount", (0.5,)),
        Row("memory", "memory of the daemon, just mounted", (64,),
            unit="MiB"),
        Row("walked", "the same, tree walked", (256,), unit="MiB")],
         kinds=(TXNFS,), sized=True, rounds=1),
]
