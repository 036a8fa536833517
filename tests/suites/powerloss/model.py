# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mount should hold after each step of a run, and what a crash may show.

The run (work.py) writes a journal outside of the filesystem that loses power:
one line for each step before it is done, one with what came of it afterwards.
Steps that make something durable are acknowledged by a mark. check.py replays
the journal up to the last mark A; the next step that would have been
acknowledged is U. Then a crash may show

  head, names	as after A or as after U
  the tree	as after some step J of A..U, each file's contents as of a step
		that is not after J nor before its last acknowledged fsync;
		or in the middle of a write, at the ends of pages, where the
		kernel makes several requests of it

Paths are relative to the mount. An object has a number (mid) of ours; several
names of one file have one mid. noise/ and db/ are judged apart: another thread
writes the first all the time, SQLite the second.
"""
import errno
import hashlib
import json
import os
import stat

SMALL_DISK = 64 << 20
APART = ("noise", "db", ".txn", ".txn.new", "lost+found")


def disk_is_small():
	"""The plain files may find no room then, beside the store."""
	sv = os.statvfs(os.environ["PL_DIR"])
	return sv.f_blocks * sv.f_frsize < SMALL_DISK


def digest(data):
	return hashlib.blake2b(data, digest_size=12).hexdigest()


def read_file(path):
	with open(path, "rb", buffering=0) as f:
		return f.read()


def look(path, st):
	"""(kind, mode, xattr, target or digest) of one object."""
	if stat.S_ISLNK(st.st_mode):
		return ["l", 0, None, os.readlink(path)]
	try:
		x = os.getxattr(path, "user.t").decode()
	except OSError as e:
		if e.errno not in (errno.ENODATA, errno.ENOTSUP):
			raise
		x = None
	if stat.S_ISDIR(st.st_mode):
		return ["d", st.st_mode & 0o7777, x, None]
	return ["f", st.st_mode & 0o7777, x, digest(read_file(path))]


def scan(top, rel=""):
	"""{path: (inode, look)} of a tree, without what is judged apart."""
	out = {}
	for name in sorted(os.listdir(os.path.join(top, rel))):
		if not rel and name in APART:
			continue
		path = os.path.join(rel, name)
		full = os.path.join(top, path)
		st = os.lstat(full)
		out[path] = (st.st_ino, look(full, st))
		if stat.S_ISDIR(st.st_mode):
			out.update(scan(top, path))
	return out


def scan_db(top):
	"""{name: digest} of SQLite's files; -shm is no data."""
	folder = os.path.join(top, "db")
	if not os.path.isdir(folder):
		return {}
	return {n: digest(read_file(os.path.join(folder, n)))
		for n in sorted(os.listdir(folder)) if not n.endswith("-shm")}


def state_of(tree, db, count, new_mid):
	"""A state in the model's words; the mids are new."""
	mids, s = {}, {"ns": {}, "attr": {}, "content": {}, "db": db,
		       "count": count, "noise": [[0, 0], [1 << 60, 1 << 60]]}
	for path, (ino, (kind, mode, x, data)) in tree.items():
		if ino not in mids:
			mids[ino] = new_mid()
		mid = mids[ino]
		s["ns"][path] = [kind, mid]
		s["attr"][mid] = [mode, x, data if kind == "l" else None]
		if kind == "f":
			s["content"][mid] = data
	return s


def difference(ns, attr, allowed, tree):
	"""None, or how the tree differs; allowed(mid): what a file may hold."""
	for path in ns.keys() | tree.keys():
		if path not in tree:
			return f"{path} is missing"
		if path not in ns:
			return f"{path} should not be there"
	inos, mids = {}, {}
	for path, (kind, mid) in ns.items():
		ino, (k, mode, x, data) = tree[path]
		want = attr[mid]
		if k != kind or mode != want[0] or x != want[1]:
			return f"{path}: {k} {mode:o} {x}, want {kind} {want}"
		if inos.setdefault(mid, ino) != ino or \
		   mids.setdefault(ino, mid) != mid:
			return f"{path}: linked otherwise"
		if kind == "l" and data != want[2]:
			return f"{path}: target {data}, want {want[2]}"
		if kind == "f" and data not in allowed(mid):
			return f"{path}: contents {data}, want {allowed(mid)}"
	return None


class Model:
	def __init__(self):
		self.ns, self.attr, self.ver = {}, {}, {}
		self.floor, self.floor_all = {}, 0
		self.head, self.commits, self.names = 0, {}, {}
		self.keep, self.db, self.count = 10, {}, 0
		self.dropped = set()  # commits that may be gone
		self.noise = [0, 0]

	def state(self):
		"""What is there now, as a state that never changes."""
		used = {str(m) for _, m in self.ns.values()}
		return {"ns": dict(self.ns),
			"attr": {m: list(a) for m, a in self.attr.items()
				 if m in used},
			"content": {m: v[-1][1] for m, v in self.ver.items()
				    if m in used},
			"db": dict(self.db), "count": self.count,
			"noise": [[0, 0], [1 << 60, 1 << 60]]}

	def replace(self, k, s):
		self.ns = dict(s["ns"])
		self.attr = {str(m): list(a) for m, a in s["attr"].items()}
		self.ver = {str(m): [(k, h)] for m, h in s["content"].items()}
		self.floor = {}
		self.db, self.count = dict(s["db"]), s["count"]

	def named(self, what):
		"""A state by its name in the journal: a number or a name."""
		if isinstance(what, int):
			return self.commits[what]
		return self.names[what]

	def apply_tree(self, e):
		for path in e.get("del", ()):
			del self.ns[path]
		self.ns.update(e.get("set", {}))
		for mid, a in e.get("attr", {}).items():
			self.attr[mid] = a
		if "ver" in e:
			for h in e["ver"][1:]:
				self.ver.setdefault(e["ver"][0], []).append(
					(e["k"], h))

	def apply_history(self, e):
		if "commit" in e and e["commit"] != self.head:
			s = self.named(e["of"]) if "of" in e else self.state()
			s = dict(s)
			if "of" not in e:
				s["noise"] = e.get("noise", s["noise"])
			self.head = e["commit"]
			self.commits[self.head] = s
		if "name" in e:
			s = self.named(e["of"]) if "of" in e else self.state()
			s = dict(s)
			if "of" not in e:
				s["noise"] = e.get("noise", s["noise"])
			self.names[e["name"]] = s
		if "unname" in e:
			del self.names[e["unname"]]
		if "keep" in e:
			self.keep = e["keep"]
		self.dropped.update(sorted(self.commits)[:-self.keep])

	def kept(self):
		"""Commits that must be there, tagged or not."""
		return sorted(set(self.commits) - self.dropped)

	def apply(self, e, acked):
		"""acked: the step is done, and what it made durable counts."""
		if acked and e.get("failed"):
			return
		self.apply_tree(e)
		if "count" in e:
			self.count = e["count"]
			self.db = e["db"]
		if "replace" in e:
			self.replace(e["k"], e["replace"])
		self.apply_history(e)
		if acked and e.get("sync") == "all":
			self.floor_all = e["k"]
		elif acked and "sync" in e:
			self.floor[e["sync"]] = e["k"]

	def allowed(self, mid):
		low = max(self.floor_all, self.floor.get(str(mid), 0))
		out = set()
		for k, h in self.ver.get(str(mid), ()):
			if k <= low:
				out = set()
			out.add(h)
		return out

	def differs(self, tree):
		attr = {m: self.attr[str(m)] for _, m in self.ns.values()}
		return difference(self.ns, attr, self.allowed, tree)


def state_differs(s, top):
	"""A commit or a snapshot must be exactly what it was."""
	attr = {m: s["attr"][str(m)] for _, m in s["ns"].values()}
	why = difference(s["ns"], attr, lambda m: {s["content"][str(m)]},
			 scan(top))
	if not why and s["db"] != scan_db(top):
		why = f"db is {scan_db(top)}, want {s['db']}"
	return why or noise_differs(top, s["noise"][0], s["noise"][1])


def noise_text(gen):
	size = (700, 3000, 40000, 300000)[gen % 4]
	data = hashlib.shake_128(b"noise %d" % gen).digest(size)
	return b"%012d" % gen + data


def noise_lines(top):
	try:
		text = read_file(os.path.join(top, "noise/log"))
	except FileNotFoundError:
		return 0
	lines = text.decode().split("\n")
	if lines.pop() or lines != [str(i + 1) for i in range(len(lines))]:
		raise AssertionError(f"noise/log is torn: {text[-60:]!r}")
	return len(lines)


def noise_gen(top):
	try:
		data = read_file(os.path.join(top, "noise/cur"))
	except FileNotFoundError:
		return 0
	gen = int(data[:12] or b"-1")
	if data != noise_text(gen):
		raise AssertionError(f"noise/cur is torn: {len(data)} {gen}")
	return gen


def noise_differs(top, low, high):
	try:
		got = [noise_gen(top), noise_lines(top)]
	except AssertionError as e:
		return str(e)
	if low[0] <= got[0] <= high[0] and low[1] <= got[1] <= high[1]:
		return None
	return f"noise is at {got}, want {low} to {high}"


def load(path):
	"""The journal as a list of steps, k ascending."""
	steps = {}
	with open(path) as f:
		for line in f:
			e = json.loads(line)
			steps.setdefault(e["k"], {}).update(e)
	return [steps[k] for k in sorted(steps)]


def load_marks(paths):
	"""The last acknowledged step, and what noise may not fall below."""
	last, noise = -1, [0, 0]
	for path in paths:
		if not path or not os.path.exists(path):
			continue
		with open(path) as f:
			for line in f:
				w = line.split()
				if w[0] == "A":
					last = max(last, int(w[1]))
				elif w[0] == "N":
					noise = [int(w[1]), int(w[2])]
	return last, noise


def replay(steps, acked):
	"""The model after the last acknowledged step, and the steps after it up
	to the next one that would have been acknowledged."""
	m = Model()
	i = 0
	while i < len(steps) and steps[i]["k"] <= acked:
		m.apply(steps[i], True)
		i += 1
	rest = []
	while i < len(steps):
		rest.append(steps[i])
		if steps[i].get("ack"):
			break
		i += 1
	return m, rest


def working_candidates(steps, acked):
	"""The models that the tree may be like, oldest first."""
	m, rest = replay(steps, acked)
	yield m
	for e in rest:
		m.apply(e, False)
		yield m


def working_differs(steps, acked, top, noise, count):
	"""None, or why the tree is none that it may be after a crash. count:
	rows that SQLite finds."""
	tree, why, counts = scan(top), [], set()
	ok = False
	for m in working_candidates(steps, acked):
		counts.add(m.count)
		d = m.differs(tree)
		ok = ok or not d
		if d:
			why.append(d)
	if not ok:
		return f"acknowledged {acked}; " + "; ".join(why[:1] + why[-3:])
	if count not in counts:
		return f"acknowledged {acked}; {count} rows, want {counts}"
	return noise_differs(top, noise, [1 << 60] * 2)
