# SPDX-License-Identifier: GPL-2.0-or-later
"""db.py FILE WAL|DELETE COUNT: transactions of one row with synchronous=FULL,
each timed. COUNT 0: "ready 0" is said, then until standard input ends."""
import select
import sqlite3
import sys
import time


def main():
    path, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode=" + mode)
    db.execute("pragma synchronous=full")
    db.execute("create table if not exists t (k integer primary key, v blob)")
    took = []
    if not count:
        print("ready 0", flush=True)
    while not took or (len(took) < count if count else
                       not select.select([sys.stdin], [], [], 0)[0]):
        start = time.monotonic_ns()
        db.execute("insert into t (v) values (?)", (bytes(100),))
        took.append(time.monotonic_ns() - start)
    db.close()
    print("seconds %.9f" % (sum(took) / 1e9))
    took.sort()
    print("count %d" % len(took))
    print("sync_p50 %.9f" % (took[len(took) // 2] / 1e9))
    print("sync_p99 %.9f" % (took[len(took) * 99 // 100] / 1e9))


main()
