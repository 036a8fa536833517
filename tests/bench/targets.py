# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: places to work in. Each has a name and a kind (plain,
null, txnfs, fuse-overlayfs, overlay), is made in a folder of its own and
removed."""
import json
import os
import re
import shutil
import subprocess
import time

DEADLINE = 60  # seconds until a mount has to be there, or gone


def call(*argv, **kw):
    """Run a command; what it says is shown when it fails."""
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, check=False, **kw)
    if p.returncode:
        raise RuntimeError("%s: status %d: %s" % (
            " ".join(argv), p.returncode, p.stdout.strip()))
    return p.stdout


def wait_for(what, cond):
    end = time.monotonic() + DEADLINE
    while not cond():
        if time.monotonic() > end:
            raise RuntimeError("waited %d s for %s" % (DEADLINE, what))
        time.sleep(0.01)


class Target:
    """A plain directory, and what the others have in common."""
    kind = "plain"

    def __init__(self, name, bench):
        self.name = name
        self.bench = bench  # folder of the measuring programs
        self.pid = None  # of the daemon
        self.folder = self.dir = None
        self.ends = []

    def start(self, folder, fill=None):
        """fill(DIR): what is in it from the beginning."""
        self.folder = folder
        os.makedirs(folder)
        self.prepare(fill)

    def prepare(self, fill):
        self.dir = self.sub("data")
        if fill:
            fill(self.dir)

    def sub(self, name):
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        return path

    def at_stop(self, fn):
        """What uses it has to end before."""
        self.ends.append(fn)

    def stop(self):
        while self.ends:
            self.ends.pop()()
        folder, self.folder = self.folder, None
        self.unmount()
        shutil.rmtree(folder)

    def unmount(self):
        pass

    def commit(self):
        """Make what was written permanent, the way that there is here."""
        call("sync", "-f", self.dir)

    def drop(self):
        """Nothing of it is in a page cache afterwards."""
        self.commit()
        call(os.path.join(self.bench, "data"), "drop", self.dir)
        for d in self.backing():
            call(os.path.join(self.bench, "data"), "drop", d)

    def backing(self):
        """Folders on the host that have the data."""
        return []

    def store_folder(self):
        return self.dir

    def cpu_ns(self):
        if not self.pid:
            return 0
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def reads(self):
        """read(2) and its kin that the daemon has made: of messages, and of
        its own files."""
        if not self.pid:
            return 0
        with open("/proc/%d/io" % self.pid, encoding="ascii") as f:
            return int(re.search(r"syscr: (\d+)", f.read()).group(1))

    def memory(self):
        with open("/proc/%d/status" % self.pid, encoding="utf-8") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) << 10


class Daemon(Target):
    """One whose daemon we start in the foreground."""
    process = None

    def serve(self, *argv):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        self.pid = self.process.pid
        wait_for("a mount by " + argv[0], lambda: os.path.ismount(self.dir)
                 or self.process.poll() is not None)
        if self.process.poll() is not None:
            with open(os.path.join(self.folder, "log"), encoding="utf-8") as f:
                raise RuntimeError("%s: %s" % (argv[0], f.read().strip()))

    def unmount(self):
        if not self.process:
            return
        call("fusermount3", "-u", self.dir)
        self.process.wait(DEADLINE)
        self.process = None


class Null(Daemon):
    kind = "null"

    def __init__(self, name, bench, program, options=""):
        super().__init__(name, bench)
        self.argv = [program, "-f"] + (["-o", options] if options else [])

    def prepare(self, fill):
        self.dir = self.sub("mount")
        self.serve(*self.argv, self.dir)


class CopyBack:
    """Overlays: a commit copies the upper directory to the lower one. For that
    nobody may use the mount; removed names are not among the works."""

    def prepare(self, fill):
        self.dir = self.sub("mount")
        self.attach()

    def options(self):
        return "lowerdir=%s,upperdir=%s,workdir=%s" % (
            self.sub("lower"), self.sub("upper"), self.sub("work"))

    def commit(self):
        upper, lower = self.sub("upper"), self.sub("lower")
        self.unmount()
        # fuse-overlayfs marks new directories with files of these names
        call("find", upper, "-name", ".wh..*opq", "-delete")
        if call("find", upper, "-type", "c"):
            raise RuntimeError("whiteouts cannot be copied back")
        call("cp", "-a", upper + "/.", lower)
        call("sync", "-f", lower)
        shutil.rmtree(upper)
        shutil.rmtree(self.sub("work"))
        self.attach()

    def backing(self):
        return [self.sub("lower"), self.sub("upper")]


class FuseOverlay(CopyBack, Daemon):
    kind = "fuse-overlayfs"

    def attach(self):
        self.serve("fuse-overlayfs", "-f", "-o", self.options(), self.dir)


class KernelOverlay(CopyBack, Target):
    kind = "overlay"

    def attach(self):
        call("mount", "-t", "overlay", "overlay", "-o", self.options(),
             self.dir)

    def unmount(self):
        call("umount", self.dir)


class Txnfs(Target):
    kind = "txnfs"

    def __init__(self, name, bench, build, options):
        super().__init__(name, bench)
        self.env = dict(os.environ,
                        PATH=build + ":" + os.environ.get("PATH", ""))
        self.options = options

    def txn(self, *argv):
        return call("txn", *argv, env=self.env)

    def prepare(self, fill):
        self.sub("data")
        if fill:
            fill(self.sub("data"))
        self.txn("init", "--quiet", self.sub("data"))
        self.attach()

    # Beside its directory, not over it: the store can be seen then.
    def attach(self):
        self.dir = self.sub("mount")
        self.txn("mount", self.sub("data"), self.dir,
                 *(["-o", self.options] if self.options else []))
        with open(self.dir + "/.txn/status", encoding="utf-8") as f:
            self.pid = json.load(f)["pid"]

    def unmount(self):
        if self.pid:
            self.pid = None
            self.txn("umount", self.dir)

    def commit(self):
        with open(self.dir + "/.txn/ctl", "w", encoding="utf-8") as f:
            f.write("commit")

    def backing(self):
        return [self.store_folder()]

    def store_folder(self):
        return os.path.join(self.folder, "data", ".txn")


def txnfs_variants(build, label, bench):
    """One for each way to open files and each transport that it knows."""
    out = [Txnfs("txnfs" + label, bench, build, "")]
    text = call(build + "/txnfs", "--help")
    for option in re.findall(r"^  ((?:open|transport)=[a-z_-]+)", text, re.M):
        out.append(Txnfs("txnfs%s,%s" % (label, option), bench, build, option))
    return out


def null_variants(program, label, bench, variants):
    """One for each transport that these use, or it cannot be compared."""
    out = [Null("null" + label, bench, program)]
    if any(t.options == "transport=io_uring" for t in variants):
        out.append(Null("null%s,transport=io_uring" % label, bench, program,
                        "transport=io_uring"))
    return out


def can_mount_overlay(folder):
    t = KernelOverlay("overlay", None)
    try:
        t.start(os.path.join(folder, "try"))
        t.stop()
        return True
    except (RuntimeError, OSError):
        shutil.rmtree(os.path.join(folder, "try"), ignore_errors=True)
        return False


def find_all(top, builds, folder):
    """The targets that are there, and a line for each that is not."""
    bench = os.path.join(top, builds[0], "bench")
    out, missing = [Target("plain", bench)], []
    for b in builds:
        path = os.path.join(top, b)
        label = b[b.index("libfuse"):].replace("libfuse", "") \
            if "libfuse" in b else ""
        if not os.access(path + "/txnfs", os.X_OK):
            missing.append("%s: txnfs is not built there" % b)
            continue
        variants = txnfs_variants(path, label, bench)
        if os.access(path + "/bench/nullfs", os.X_OK):
            out += null_variants(path + "/bench/nullfs", label, bench,
                                 variants)
        out += variants
    if shutil.which("fuse-overlayfs"):
        out.append(FuseOverlay("fuse-overlayfs", bench))
    else:
        missing.append("fuse-overlayfs is not installed "
                       "(tools/deps.sh --bench)")
    if can_mount_overlay(folder):
        out.append(KernelOverlay("overlay", bench))
    else:
        missing.append("overlay cannot be mounted here")
    return out, missing
