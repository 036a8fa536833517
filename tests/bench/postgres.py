# SPDX-License-Identifier: GPL-2.0-or-later
"""A PostgreSQL server with its data on a target, and pgbench on it. The server
runs as an ordinary user, so this wants root."""
import glob
import os
import re
import shutil
import subprocess

from targets import call, wait_for

AS_USER = ["setpriv", "--reuid", "nobody", "--regid", "nogroup",
           "--clear-groups"]


def folder():
    """Of the programs; None when they are not there."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    return os.path.dirname(found[-1]) if found else None


def why_not():
    if not folder():
        return "PostgreSQL is not installed (tools/deps.sh --long)"
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "PostgreSQL wants root and setpriv, to run as another user"
    return None


class Server:
    def __init__(self, target, scale):
        self.bin = folder()
        data = target.dir + "/pg"
        # The path of a socket is short.
        self.socket = call("mktemp", "-d", "/tmp/pg.XXXXXX").strip()
        os.mkdir(data)
        for d in (data, self.socket):
            shutil.chown(d, "nobody", "nogroup")
        call(*AS_USER, self.bin + "/initdb", "-D", data, "-U", "postgres",
             "--no-sync", cwd="/")
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [*AS_USER, self.bin + "/postgres", "-D", data, "-k", self.socket,
             "-c", "listen_addresses="], cwd="/", stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        wait_for("PostgreSQL", lambda: not subprocess.call(
            [self.bin + "/pg_isready", "-q", "-h", self.socket]))
        self.pgbench("-i", "-q", "-s", scale)

    def pgbench(self, *args):
        return call(*AS_USER, self.bin + "/pgbench", "-h", self.socket, "-U",
                    "postgres", *map(str, args), "postgres", cwd="/")

    def seconds_each(self, clients, seconds):
        text = self.pgbench("-n", "-c", clients, "-j", 2, "-T", seconds)
        return 1 / float(re.search(r"^tps = ([0-9.]+)", text, re.M).group(1))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.socket)
