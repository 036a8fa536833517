#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges one crash of a run of work.py; see run-powerloss and model.py.

With PL_DIR, PL_MARKS (from the harness), PLW_STATE and PLW_BIN. Exit status 0:
every promise is kept, and the store goes on working.
"""
import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

import model

D = os.path.join(os.environ["PL_DIR"], "data")
STATE = os.environ["PLW_STATE"]
TXN = os.environ["PLW_BIN"] + "/txn"


class Bad(Exception):
	pass


def expect(ok, *what):
	if not ok:
		raise Bad(" ".join(str(w) for w in what))


def txn(*args):
	p = subprocess.run([TXN, *args], stdout=subprocess.PIPE,
			   stderr=subprocess.STDOUT, cwd="/")
	return p.returncode, p.stdout.decode(errors="replace")


def umount():
	"""False: on a small disk there was no room for the plain files."""
	rc, text = txn("umount", D)
	behind = rc == 1 and ", behind" in text and model.disk_is_small()
	expect(rc == 0 or behind, "txn umount: status", rc, text)
	return not behind


def must(*args):
	rc, text = txn(*args)
	expect(rc == 0, "txn", *args, "status", rc, text)
	return text


def ctl(line):
	fd = os.open(D + "/.txn/ctl", os.O_RDWR)
	try:
		os.write(fd, line.encode() + b"\n")
		return json.loads(os.read(fd, 65536))
	finally:
		os.close(fd)


def read_head():
	return json.loads(model.read_file(D + "/.txn/status"))["head"]["number"]


def daemons():
	"""Of this store, should it be left behind by a check that failed."""
	for pid in os.listdir("/proc"):
		if not pid.isdigit():
			continue
		try:
			line = model.read_file(f"/proc/{pid}/cmdline")
		except OSError:
			continue
		if line.split(b"\0")[:2] == [b"txnfs", D.encode()]:
			yield int(pid)


def end_daemon():
	txn("umount", D)
	for pid in daemons():
		os.kill(pid, signal.SIGKILL)
		subprocess.run(["umount", "-l", D], stderr=subprocess.DEVNULL)


# --- the plain files and init ---

def check_plain(steps):
	want = next((e["plain"] for e in steps if "plain" in e), None)
	have = {p: v + [os.lstat(os.path.join(D, p)).st_mtime_ns]
		for p, (_, v) in model.scan(D).items()}
	for p in want.keys() | have.keys():
		expect(want.get(p) == have.get(p), "plain file", p,
		       have.get(p), "was", want.get(p))


def check_before_init(steps):
	"""init was not acknowledged: there is a whole store or none."""
	if not os.path.isdir(D):
		return -1
	init = next((e["k"] for e in steps if e["op"] == "init"), -1)
	if os.path.lexists(D + "/.txn"):
		return init
	rc, text = txn("mount", D)
	expect(rc == 1 and "has no store" in text, "mount without a store:", rc,
	       text)
	before = model.scan(D)
	must("init", "-q", D)
	expect(before == model.scan(D), "init changed plain files")
	must("mount", D)
	expect({p: v for p, (_, v) in before.items()} ==
	       {p: v for p, (_, v) in model.scan(D).items()},
	       "init read something else")
	live_on()
	return -1


# --- the mount ---

def check_history(old, new):
	"""old, new: the models before and after what was under way."""
	head = read_head()
	expect(head in (old.head, new.head), "head is", head, "want", old.head,
	       "or", new.head)
	m = new if head == new.head and head != old.head else old
	to = os.readlink(D + "/.txn/head")
	expect(to == f"snapshots/@{head}", "head leads to", to)
	listed = set(os.listdir(D + "/.txn/snapshots"))
	names = {n for n in listed if not n.startswith("@")}
	expect(names in (set(old.names), set(new.names)), "names are", names,
	       "want", set(old.names), "or", set(new.names))
	for n in names:
		states = [x.names[n] for x in (old, new) if n in x.names]
		why = [model.state_differs(s, f"{D}/.txn/snapshots/{n}/")
		       for s in states]
		expect(None in why, "snapshot", n, why)
	numbers = {int(n[1:]) for n in listed
		   if n[0] == "@" and n[1:].isdigit()}
	expect(head in numbers, "head is not among the snapshots", numbers)
	kept = (set(old.kept()) & set(new.kept())) | {head}
	expect(kept <= numbers, "commits", kept - numbers, "are gone")
	for n in numbers:
		why = model.state_differs(m.commits[n],
					  f"{D}/.txn/snapshots/@{n}/")
		expect(not why, f"@{n}", why)


def count_rows():
	"""In a copy: SQLite needs space to open what a crash left, and the host
	may be full."""
	if not os.path.exists(D + "/db/t.db"):
		return 0
	with tempfile.TemporaryDirectory() as to:
		for n in model.scan_db(D):
			shutil.copy(f"{D}/db/{n}", to)
		db = sqlite3.connect(to + "/t.db", isolation_level=None)
		try:
			r = db.execute("pragma integrity_check").fetchone()[0]
			expect(r == "ok", "sqlite:", r)
			return db.execute("select count(*) "
					  "from t").fetchone()[0]
		except sqlite3.OperationalError as e:
			expect("no such table" in str(e), "sqlite:", e)
			return 0
		finally:
			db.close()


def verify():
	text = must("-C", D, "verify")
	expect(" 0 damaged" in text, text)


def write_after():
	with open(D + "/after-crash", "wb") as f:
		f.write(b"a" * 5000)
		f.flush()
		os.fsync(f.fileno())


def make_space():
	"""There is always room for this. What aborts replaced is kept too, so
	that one abort more lets go of an older state."""
	ctl("abort")
	for n in os.listdir(D + "/.txn/snapshots"):
		if not n.startswith("@"):
			ctl("delete " + n)
	ctl("set keep.last 1")
	ctl("set keep.discarded 0")
	ctl("gc")


def on_host(look):
	"""Without an attribute that is too large for a block of the host."""
	kind, mode, x, data = look
	return kind, mode, x if len(str(x)) < 900 else None, data


def live_on():
	"""Work goes on after recovery."""
	head = read_head()
	try:
		write_after()
	except OSError as e:
		if e.errno != errno.ENOSPC:
			raise
		make_space()
		write_after()
	expect(ctl("commit after the crash")["head"] == head + 1, "no commit")
	ctl("gc")
	umount()
	must("mount", D)
	expect(read_head() == head + 1, "the commit after the crash is gone")
	data = model.read_file(D + "/.txn/head/after-crash")
	expect(data == b"a" * 5000, "the file after the crash is wrong")
	verify()
	# The plain files follow, whatever the crash had left half done.
	shown = {p: on_host(v) for p, (_, v) in model.scan(D).items()}
	if not umount():
		return
	plain = {p: on_host(v) for p, (_, v) in model.scan(D).items()}
	for p in shown.keys() | plain.keys():
		expect(shown.get(p) == plain.get(p), "plain file", p,
		       plain.get(p), "want", shown.get(p))


def save_image(steps_path):
	"""For a second run on what this crash left: PLW_SAVE names a folder."""
	to = os.environ.get("PLW_SAVE")
	if not to or os.path.exists(to + "/img"):
		return
	subprocess.run(["sync", "-f", os.environ["PL_DIR"]], check=True)
	os.makedirs(to, exist_ok=True)
	subprocess.run(["cp", "--sparse=always", os.environ["PLW_IMAGE"],
			to + "/img"], check=True)
	shutil.copy(steps_path, to + "/journal")
	with open(to + "/marks0", "wb") as f:
		for path in (STATE + "/marks0", os.environ["PL_MARKS"]):
			if os.path.exists(path):
				f.write(model.read_file(path))


def check():
	path = STATE + "/journal"
	steps = model.load(path)
	acked, noise = model.load_marks([STATE + "/marks0",
					 os.environ["PL_MARKS"]])
	init = next(e["k"] for e in steps if e["op"] == "init")
	if acked < init:
		acked = check_before_init(steps)
		if acked < 0:
			return
	elif not os.path.exists(STATE + "/marks0"):
		save_image(path)
	# Later commits let them change.
	if acked <= init:
		check_plain(steps)
	must("mount", D)
	new, rest = model.replay(steps, acked)
	for e in rest:
		new.apply(e, False)
	check_history(model.replay(steps, acked)[0], new)
	verify()
	why = model.working_differs(steps, acked, D, noise, count_rows())
	expect(not why, "the tree:", why)
	live_on()


try:
	check()
except (Bad, OSError, AssertionError) as e:
	print(type(e).__name__, e)
	sys.exit(1)
finally:
	end_daemon()
