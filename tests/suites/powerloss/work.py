#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The run that loses power; see run-powerloss and model.py.

work.py all|init|resume, with PL_DIR, PL_MARK (from the harness), PLW_STATE (a
folder for the journal), PLW_SEED, PLW_SECONDS, PLW_BIN (where txn is), PLW_OPS
("kill=9 gc=0": other weights of operations).

all: makes a directory, `txn init`, mounts it over itself and uses it; init:
stops after the first mount; resume: what a crash left is mounted (and checked),
then used.
"""
import ctypes
import errno
import hashlib
import json
import mmap
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import model

CHUNK = 256 << 10
DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
SAFE = ("write", "write", "over", "append", "fsync", "commit", "commit",
	"replace", "snapshot", "rename", "sql")
OPS = {"write": 14, "over": 12, "append": 8, "truncate": 3, "replace": 8,
       "rename": 8, "unlink": 6, "mkdir": 3, "rmdir": 2, "link": 3,
       "symlink": 2, "chmod": 2, "xattr": 2, "mmap": 3, "copy": 4, "fsync": 6,
       "fsyncdir": 3, "exchange": 2, "big": 2, "commit": 14, "snapshot": 3,
       "tag": 1, "delete": 3, "abort": 3, "restore": 2, "restorepath": 3,
       "rollback": 2, "undo": 2, "gc": 3, "sql": 8, "remount": 1, "kill": 1,
       "killsoon": 1, "idle": 2}


class Dead(Exception):
	pass


class Run:
	def __init__(self):
		self.D = os.path.join(os.environ["PL_DIR"], "data")
		self.state = os.environ["PLW_STATE"]
		self.bin = os.environ["PLW_BIN"]
		self.rnd = random.Random(int(os.environ.get("PLW_SEED", "1")))
		self.seconds = float(os.environ.get("PLW_SECONDS", "15"))
		self.m = model.Model()
		self.k, self.mids, self.acked = 0, 0, -1
		self.tail = []  # steps since the last acknowledged one
		self.base = None  # the model as of then
		self.blobs = {}
		self.dead = False
		self.gate = threading.Lock()  # held: noise waits
		self.noise = [0, 0]
		self.noise_high = [0, 0]
		self.stop = False
		self.killer = None
		self.db = None
		self.journal = open(os.path.join(self.state, "journal"), "a",
				    buffering=1)
		self.mark = open(os.environ["PL_MARK"], "w", buffering=1)
		self.counts = {}

	def path(self, rel):
		return os.path.join(self.D, rel)

	def new_mid(self):
		self.mids += 1
		return str(self.mids)

	def blob(self, data):
		h = model.digest(data)
		self.blobs[h] = bytes(data)
		return h

	# --- steps ---

	def write_journal(self, e):
		self.journal.write(json.dumps(e) + "\n")

	def step(self, op, call, after=None, ack=False, **effects):
		"""Journal, do, acknowledge. after(result): more effects."""
		self.k += 1
		e = {"k": self.k, "op": op, **effects}
		if ack:
			e["ack"] = 1
		if e.get("sync") or "commit" in e or "name" in e:
			e.setdefault("noise", [list(self.noise), [1 << 60] * 2])
		self.write_journal(e)
		try:
			result = call()
		except OSError as err:
			self.write_journal({"k": self.k, "failed": 1})
			self.tail.append({**e, "failed": 1})
			if self.killer and err.errno in DEAD:
				raise Dead() from err
			raise
		if after:
			more = after(result)
			if more:
				self.write_journal({"k": self.k, **more})
				e.update(more)
		self.m.apply(e, ack)
		if ack:
			self.mark.write(f"A {self.k}\n")
			self.tail = []
			self.acked = self.k
		else:
			self.tail.append(e)
		self.counts[op] = self.counts.get(op, 0) + 1
		return result

	def ctl(self, line):
		fd = os.open(self.path(".txn/ctl"), os.O_RDWR)
		try:
			os.write(fd, line.encode() + b"\n")
			return json.loads(os.read(fd, 65536))
		finally:
			os.close(fd)

	def txn(self, *args, may_say=None):
		p = subprocess.run([self.bin + "/txn", *args],
				   stdout=subprocess.PIPE,
				   stderr=subprocess.STDOUT, cwd="/")
		text = p.stdout.decode()
		if p.returncode and not (may_say and may_say in text):
			raise SystemExit(f"txn {args}: {p.returncode}: {text}")

	def status(self):
		return json.loads(model.read_file(self.path(".txn/status")))

	# --- picking ---

	def files(self):
		return sorted(p for p, (k, _) in self.m.ns.items() if k == "f")

	def dirs(self):
		return [""] + sorted(p for p, (k, _) in self.m.ns.items()
				     if k == "d")

	def a_file(self):
		f = self.files()
		return self.rnd.choice(f) if f else None

	def a_name(self):
		d = self.rnd.choice(self.dirs())
		return os.path.join(d, f"f{self.rnd.randrange(12)}")

	def size(self):
		r = self.rnd.random()
		if r < .3:
			return self.rnd.randrange(1, 900)
		if r < .8:
			return self.rnd.randrange(900, 20000)
		return self.rnd.randrange(20000, 500000)

	def bytes(self, n):
		seed = b"%d" % self.rnd.getrandbits(60)
		return hashlib.shake_128(seed).digest(n)

	def data(self, mid):
		return self.blobs[self.m.ver[mid][-1][1]]

	# --- files ---

	def open(self, path, flags, mode=0o644):
		"""Creating and truncating are steps of their own."""
		full = self.path(path)
		have = self.m.ns.get(path)
		if not have:
			mid = self.new_mid()
			empty = self.blob(b"")
			fd = self.step("create", lambda: os.open(
				full, flags | os.O_CREAT | os.O_EXCL, mode),
				set={path: ["f", mid]},
				attr={mid: [mode, None, None]},
				ver=[mid, empty])
			return fd, mid
		if flags & os.O_TRUNC:
			fd = self.step("trunc", lambda: os.open(full, flags),
				       ver=[have[1], self.blob(b"")])
			return fd, have[1]
		return os.open(full, flags), have[1]

	def pwrite(self, fd, mid, data, off, **kw):
		old, end = self.data(mid), off + len(data)
		old_start = old[:off].ljust(off, b"\0")
		# The kernel may make requests of a page's rest, of whole pages
		# and of the start of the last one.
		parts = {n for n in (-off % 4096, len(data) - end % 4096)
			 if 0 < n < len(data)}
		vers = [self.blob(old_start + data[:n] + old[off + n:])
			for n in sorted(parts | {len(data)})]

		def call():
			n = os.pwrite(fd, data, off)
			if n != len(data):
				raise OSError(errno.EIO, f"{n} of {len(data)}")
		self.step("pwrite", call, ver=[mid] + vers, **kw)

	def fsync(self, fd, mid):
		call = self.rnd.choice((os.fsync, os.fdatasync))
		self.step("fsync", lambda: call(fd), ack=True, sync=mid)

	def fill(self, path, size, sync):
		fd, mid = self.open(path, os.O_RDWR | os.O_TRUNC)
		try:
			data, off = self.bytes(size), 0
			while off < size:
				n = min(CHUNK, size - off)
				self.pwrite(fd, mid, data[off:off + n], off)
				off += n
			if sync:
				self.fsync(fd, mid)
		finally:
			os.close(fd)

	def is_dir(self, path):
		return self.m.ns.get(path, [""])[0] == "d"

	def op_write(self):
		path = self.a_name()
		if self.m.ns.get(path, ["f"])[0] == "f":
			self.fill(path, self.size(), self.rnd.random() < .4)

	def op_big(self):
		path = self.a_name()
		if self.m.ns.get(path, ["f"])[0] == "f":
			self.fill(path, self.rnd.randrange(1 << 20, 3 << 20),
				  self.rnd.random() < .5)

	def op_over(self):
		path = self.a_file()
		if not path:
			return
		fd, mid = self.open(path, os.O_RDWR)
		try:
			for _ in range(self.rnd.randrange(1, 4)):
				end = len(self.data(mid))
				off = self.rnd.randrange(end + 9000)
				n = min(self.size(), 30000)
				self.pwrite(fd, mid, self.bytes(n), off)
			if self.rnd.random() < .4:
				self.fsync(fd, mid)
		finally:
			os.close(fd)

	def op_append(self):
		path = self.a_file()
		if not path:
			return
		flags = self.rnd.choice((0, os.O_DSYNC, os.O_SYNC))
		fd, mid = self.open(path, os.O_WRONLY | os.O_APPEND | flags)
		kw = {"ack": True, "sync": mid} if flags else {}
		try:
			end = len(self.data(mid))
			data = self.bytes(self.rnd.randrange(1, 6000))
			self.pwrite(fd, mid, data, end, **kw)
		finally:
			os.close(fd)

	def op_truncate(self):
		path = self.a_file()
		if not path:
			return
		mid = self.m.ns[path][1]
		old = self.data(mid)
		n = self.rnd.randrange(len(old) + 5000)
		new = old[:n].ljust(n, b"\0")
		self.step("truncate", lambda: os.truncate(self.path(path), n),
			  ver=[mid, self.blob(new)])

	def op_mmap(self):
		path = self.a_file()
		mid = path and self.m.ns[path][1]
		if not path or len(self.data(mid)) < 100:
			return
		old = self.data(mid)
		off = self.rnd.randrange(len(old) - 50)
		off -= max(0, off % 4096 + 40 - 4096)
		data = self.bytes(40)
		new = old[:off] + data + old[off + 40:]
		fd = os.open(self.path(path), os.O_RDWR)

		def change():
			with mmap.mmap(fd, len(old)) as mm:
				mm[off:off + 40] = data
				mm.flush()
		try:
			self.step("mmap", change, ack=True, sync=mid,
				  ver=[mid, self.blob(new[:len(old)])])
		finally:
			os.close(fd)

	def copy(self, sfd, fd, n, off):
		got = os.copy_file_range(sfd, fd, n, off, off)
		if got != n:
			raise OSError(errno.EIO, f"copied {got} of {n}")

	def op_copy(self):
		src, path = self.a_file(), self.a_name()
		if not src or self.m.ns.get(path, ["f"])[0] != "f":
			return
		if self.m.ns.get(path, [0, 0])[1] == self.m.ns[src][1]:
			return
		data = self.data(self.m.ns[src][1])
		fd, mid = self.open(path, os.O_RDWR | os.O_TRUNC)
		sfd = os.open(self.path(src), os.O_RDONLY)
		try:
			off = 0
			while off < len(data):
				n = min(CHUNK, len(data) - off)
				self.step("copy", lambda n=n, off=off:
					  self.copy(sfd, fd, n, off),
					  ver=[mid, self.blob(data[:off + n])])
				off += n
			if self.rnd.random() < .5:
				self.fsync(fd, mid)
		finally:
			os.close(sfd)
			os.close(fd)

	def op_fsync(self):
		path = self.a_file()
		if path:
			fd, mid = self.open(path, os.O_RDONLY)
			try:
				self.fsync(fd, mid)
			finally:
				os.close(fd)

	def sync_dir(self, path):
		fd = os.open(self.path(path), os.O_RDONLY)
		try:
			self.step("fsyncdir", lambda: os.fsync(fd), ack=True,
				  sync="dir")
		finally:
			os.close(fd)

	def op_fsyncdir(self):
		self.sync_dir(self.rnd.choice(self.dirs()))

	def op_replace(self):
		"""What careful programs do."""
		path = self.a_name()
		if self.is_dir(path):
			return
		tmp = path + ".tmp"
		self.fill(tmp, self.size(), True)
		self.rename(tmp, path)
		if self.rnd.random() < .5:
			self.sync_dir(os.path.dirname(path))

	# --- names ---

	def below(self, path):
		return [p for p in self.m.ns if p.startswith(path + "/")]

	def rename(self, a, b):
		gone = [a] + self.below(a)
		new = {b + p[len(a):]: self.m.ns[p] for p in gone}
		self.step("rename",
			  lambda: os.rename(self.path(a), self.path(b)),
			  **{"del": gone, "set": new})

	def op_rename(self):
		a, b = self.a_file(), self.a_name()
		if self.rnd.random() < .2 and len(self.dirs()) > 1:
			a = self.rnd.choice(self.dirs()[1:])
			b = f"{a}r"
			if b in self.m.ns or len(b) > 40:
				return
		if not a or a == b or self.is_dir(b) != self.is_dir(a) and \
		   b in self.m.ns:
			return
		if b in self.m.ns and self.m.ns[a] == self.m.ns[b]:
			return
		self.rename(a, b)

	def op_exchange(self):
		a, b = self.a_file(), self.a_file()
		if not a or self.m.ns[a] == self.m.ns[b]:
			return
		libc = ctypes.CDLL(None, use_errno=True)

		def call():
			if libc.renameat2(-100, self.path(a).encode(), -100,
					  self.path(b).encode(), 2):
				e = ctypes.get_errno()
				raise OSError(e, os.strerror(e))
		self.step("exchange", call,
			  set={a: self.m.ns[b], b: self.m.ns[a]})

	def op_unlink(self):
		names = sorted(p for p, (k, _) in self.m.ns.items()
			       if k in "fl")
		if names:
			p = self.rnd.choice(names)
			self.step("unlink", lambda: os.unlink(self.path(p)),
				  **{"del": [p]})

	def op_mkdir(self):
		d = self.rnd.choice(self.dirs())
		p = os.path.join(d, f"d{self.rnd.randrange(4)}")
		if p in self.m.ns or d.count("/") > 2 or len(p) > 40:
			return
		mid = self.new_mid()
		self.step("mkdir", lambda: os.mkdir(self.path(p), 0o755),
			  set={p: ["d", mid]}, attr={mid: [0o755, None, None]})

	def op_rmdir(self):
		empty = [d for d in self.dirs()[1:] if not self.below(d)]
		if empty:
			p = self.rnd.choice(empty)
			self.step("rmdir", lambda: os.rmdir(self.path(p)),
				  **{"del": [p]})

	def op_link(self):
		a, b = self.a_file(), self.a_name()
		if a and b not in self.m.ns:
			self.step("link", lambda: os.link(self.path(a),
							  self.path(b)),
				  set={b: self.m.ns[a]})

	def op_symlink(self):
		b, mid = self.a_name() + ".lnk", self.new_mid()
		to = f"to/{self.rnd.randrange(1000)}"
		if b not in self.m.ns:
			self.step("symlink",
				  lambda: os.symlink(to, self.path(b)),
				  set={b: ["l", mid]},
				  attr={mid: [0, None, to]})

	def op_chmod(self):
		p = self.a_file()
		if p:
			mid = self.m.ns[p][1]
			a = list(self.m.attr[mid])
			a[0] = self.rnd.choice((0o600, 0o640, 0o755, 0o4711))
			self.step("chmod",
				  lambda: os.chmod(self.path(p), a[0]),
				  attr={mid: a})

	def op_xattr(self):
		p = self.a_file()
		if p:
			mid = self.m.ns[p][1]
			a = list(self.m.attr[mid])
			a[1] = "x" * self.rnd.randrange(1, 3000)
			self.step("xattr", lambda: os.setxattr(
				self.path(p), "user.t", a[1].encode()),
				attr={mid: a})

	# --- history ---

	def op_commit(self):
		def after(r):
			return {"commit": r["head"], "noise":
				[low, list(self.noise_high)]}
		low = list(self.noise)
		self.step("commit", lambda: self.ctl("commit"), after, ack=True,
			  sync="all", commit=self.m.head + 1)

	def op_snapshot(self):
		name = f"s{self.rnd.randrange(5)}"
		low = list(self.noise)
		if name not in self.m.names:
			self.step("snapshot",
				  lambda: self.ctl("snapshot " + name),
				  lambda r: {"noise": [low, list(
					  self.noise_high)]},
				  ack=True, sync="all", name=name)

	def op_tag(self):
		name = f"t{self.rnd.randrange(2)}"
		if name not in self.m.names:
			n = self.rnd.choice(self.m.kept())
			self.step("tag", lambda: self.ctl(f"tag {name} @{n}"),
				  ack=True, name=name, of=n)

	def op_delete(self):
		if self.m.names:
			name = self.rnd.choice(sorted(self.m.names))
			self.step("delete", lambda: self.ctl("delete " + name),
				  ack=True, unname=name)

	def op_gc(self):
		self.step("gc", lambda: self.ctl("gc"), ack=True)

	def a_state(self):
		names = sorted(self.m.names)
		if names and self.rnd.random() < .6:
			n = self.rnd.choice(names)
			return n, n
		n = self.rnd.choice(self.m.kept())
		return n, f"@{n}"

	def read_back(self):
		"""The tree as it is, as a state with new mids."""
		self.db_close()
		tree = model.scan(self.D)
		count = self.db_count()
		for path, (_, (kind, _, _, data)) in tree.items():
			if kind == "f" and data not in self.blobs:
				self.blob(model.read_file(self.path(path)))
		return model.state_of(tree, model.scan_db(self.D), count,
				      self.new_mid)

	def switch(self, op, line, want=None, **effects):
		"""The tree becomes another state; noise starts anew."""
		with self.gate:
			self.db_close()
			self.noise = [0, 0]
			self.mark.write("N 0 0\n")
			self.step(op, lambda: self.ctl(line),
				  lambda r: self.switched(line, want),
				  ack=True, sync="all", **effects)

	def switched(self, line, want):
		why = want and model.state_differs(want, self.D)
		if why:
			raise SystemExit(f"{line}: {why}")
		return {"replace": self.read_back()}

	def op_abort(self):
		self.switch("abort", "abort", self.m.commits[self.m.head])

	def op_restore(self):
		key, name = self.a_state()
		self.switch("restore", "restore " + name, self.m.named(key))

	def op_restorepath(self):
		key, name = self.a_state()
		paths = sorted(self.m.named(key)["ns"])
		if paths:
			p = self.rnd.choice(paths)
			parts = p.split("/")
			for i in range(1, len(parts)):
				up = self.m.ns.get("/".join(parts[:i]), "d")
				if up[0] != "d":
					return
			self.switch("restorepath", f"restore {name} {p}")

	def op_rollback(self):
		key, name = self.a_state()
		self.switch("rollback", "rollback " + name, self.m.named(key),
			    commit=self.m.head + 1, of=key)

	def op_undo(self):
		if self.counts.get("abort"):
			self.switch("undo", "undo")

	def op_idle(self):
		"""Checkpoints and sweeps in the background have their time."""
		time.sleep(self.rnd.random() * .4)

	# --- SQLite ---

	def db_open(self):
		if not self.db:
			self.db = sqlite3.connect(self.path("db/t.db"),
						  isolation_level=None)
			self.db.execute("pragma journal_mode=" + self.db_mode)
			# full would not flush the unlink that commits
			self.db.execute("pragma synchronous=extra")
			self.db.execute("pragma wal_autocheckpoint=20")
			self.db.execute("create table if not exists t("
					"k integer primary key, v blob)")
		return self.db

	def db_close(self):
		if self.db:
			self.db.close()
		self.db = None

	def db_count(self):
		if not os.path.exists(self.path("db/t.db")):
			return 0
		try:
			return self.db_open().execute(
				"select count(*) from t").fetchone()[0]
		finally:
			self.db_close()

	def op_sql(self):
		def call():
			try:
				db = self.db_open()
				db.execute("begin")
				db.execute("insert into t values(?, "
					   "randomblob(1500))", (n,))
				db.execute("update t set v=randomblob(1000) "
					   "where k=?", (n // 2,))
				db.execute("commit")
			except sqlite3.Error as e:
				no = errno.ENOSPC if "full" in str(e) else \
					errno.EIO
				raise OSError(no, str(e)) from e
		n = self.m.count
		# What SQLite writes meanwhile is judged by SQLite.
		self.step("sql", call,
			  lambda r: {"db": model.scan_db(self.D)}, ack=True,
			  count=n + 1, db={})

	# --- noise ---

	def noise_step(self, gen):
		self.noise_high[0] = gen
		p = self.path("noise/")
		fd = os.open(p + "tmp", os.O_CREAT | os.O_WRONLY | os.O_TRUNC,
			     0o644)
		try:
			os.write(fd, model.noise_text(gen))
			os.fsync(fd)
		finally:
			os.close(fd)
		os.rename(p + "tmp", p + "cur")
		n = model.noise_lines(self.D) + 1
		self.noise_high[1] = max(self.noise_high[1], n)
		fd = os.open(p + "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND,
			     0o644)
		try:
			os.write(fd, b"%d\n" % n)
			os.fdatasync(fd)
		finally:
			os.close(fd)
		fd = os.open(p, os.O_RDONLY)
		try:
			os.fsync(fd)
		finally:
			os.close(fd)
		self.noise = [gen, n]
		self.mark.write(f"N {gen} {n}\n")

	def make_noise(self):
		gen = self.noise_high[0]
		while not self.stop:
			with self.gate:
				gen += 1
				try:
					if not self.dead:
						self.noise_step(gen)
				except OSError as e:
					if not self.killer and \
					   e.errno != errno.ENOSPC:
						raise
			time.sleep(.02)

	def noise_thread(self):
		try:
			self.make_noise()
		except BaseException as e:
			print("noise:", repr(e), flush=True)
			os._exit(1)

	# --- the daemon comes and goes ---

	def mount(self):
		self.txn("mount", self.D)

	def umount(self):
		small = model.disk_is_small()
		self.txn("umount", self.D, may_say=small and ", behind")

	def op_remount(self):
		with self.gate:
			self.db_close()
			self.step("umount", self.umount, ack=True, sync="all")
			self.step("mount", self.mount,
				  lambda r: {"replace": self.checked_state()},
				  ack=True, sync="all")
		self.pid = self.status()["pid"]

	def kill(self):
		os.kill(self.pid, signal.SIGKILL)

	def wait_dead(self):
		end = time.time() + 30
		while time.time() < end:
			try:
				with open(f"/proc/{self.pid}/status") as f:
					if "State:\tZ" in f.read():
						return
			except FileNotFoundError:
				return
			time.sleep(.005)
		raise SystemExit("the daemon does not die")

	def op_kill(self):
		self.killer = True
		self.dead = True
		self.kill()
		self.recover()

	def op_killsoon(self):
		"""The daemon dies while something is under way."""
		delay = self.rnd.random() * .06

		def later():
			time.sleep(delay)
			self.dead = True
			self.kill()
		self.killer = threading.Thread(target=later)
		self.killer.start()
		try:
			while True:
				if self.dead:
					os.stat(self.path("."))
					os.listdir(self.D)
				self.op(self.rnd.choice(SAFE))
		except (Dead, OSError) as e:
			if isinstance(e, OSError) and e.errno not in DEAD:
				raise
		self.killer.join()
		self.recover()

	def recover(self):
		with self.gate:
			self.wait_dead()
			try:
				self.db_close()
			except sqlite3.Error:
				self.db = None
			self.step("recover", self.mount,
				  lambda r: self.after_recovery(), ack=True,
				  sync="all")
		self.killer = None
		self.dead = False
		self.pid = self.status()["pid"]

	def after_recovery(self):
		"""What recovery chose, and that it was allowed to."""
		head = self.status()["head"]["number"]
		names = {n for n in os.listdir(self.path(".txn/snapshots"))
			 if not n.startswith("@")}
		last = self.tail[-1] if self.tail else {}
		happened = head == last.get("commit", -1) or \
			last.get("name") in names or \
			("unname" in last and last["unname"] not in names)
		if happened:
			self.m.apply({**last, "failed": 0}, True)
			self.write_journal({"k": last["k"], "failed": 0})
		if head != self.m.head or names != set(self.m.names):
			raise SystemExit(f"recovered @{head} {names}, want "
					 f"@{self.m.head} {set(self.m.names)}")
		return {"replace": self.checked_state()}

	def checked_state(self):
		why = model.working_differs(
			model.load(os.path.join(self.state, "journal")),
			self.acked, self.D, self.noise, self.db_count())
		if why:
			raise SystemExit(f"after a mount: {why}")
		return self.read_back()

	# --- the whole ---

	def make_plain(self):
		os.mkdir(self.D)
		for d in ("noise", "db", "d0", "d0/d1"):
			os.mkdir(self.path(d))
		if os.environ.get("PLW_PLAIN") == "0":
			return
		for i in range(12):
			p = os.path.join(self.rnd.choice(("", "d0", "d0/d1")),
					 f"f{i}")
			with open(self.path(p), "wb") as f:
				f.write(self.bytes(self.size()))
		os.symlink("f0", self.path("d0/l"))
		os.link(self.path(self.first()), self.path("d0/linked"))
		if self.rnd.random() < .5 or os.environ.get("PLW_SYNC"):
			files = [self.path(p) for p, (_, v) in
				 model.scan(self.D).items() if v[0] != "l"]
			subprocess.run(["sync", *files], check=True)
			subprocess.run(["sync", "-f", self.D], check=True)

	def first(self):
		return min(p for p, (_, v) in model.scan(self.D).items()
			   if v[0] == "f")

	def init(self):
		tree = model.scan(self.D)
		plain = {p: v + [os.lstat(self.path(p)).st_mtime_ns]
			 for p, (_, v) in tree.items()}
		s = model.state_of(tree, {}, 0, self.new_mid)
		for p, v in tree.items():
			if v[1][0] == "f":
				self.blob(model.read_file(self.path(p)))
		self.step("init", lambda: self.txn("init", "-q", self.D),
			  ack=True, sync="all", replace=s, plain=plain,
			  commit=1)
		self.step("mount", self.mount,
			  lambda r: {"replace": self.checked_state()},
			  ack=True, sync="all")
		self.pid = self.status()["pid"]

	def op(self, name):
		try:
			getattr(self, "op_" + name)()
		except OSError as e:
			if e.errno != errno.ENOSPC:
				raise
			self.make_space()

	def make_space(self):
		"""There is always room for an abort and for a deletion."""
		self.counts["full"] = self.counts.get("full", 0) + 1
		self.op_abort()
		while self.m.names:
			self.op_delete()
		self.op_gc()

	def use(self):
		keep = self.rnd.choice((2, 3, 5))
		self.step("set", lambda: self.ctl(f"set keep.last {keep}"),
			  ack=True, keep=keep)
		t = threading.Thread(target=self.noise_thread, daemon=True)
		t.start()
		end = time.time() + self.seconds
		ops = dict(OPS)
		for w in os.environ.get("PLW_OPS", "").split():
			ops[w.split("=")[0]] = int(w.split("=")[1])
		names, weights = zip(*ops.items())
		while time.time() < end:
			self.op(self.rnd.choices(names, weights)[0])
		self.stop = True
		t.join()
		with self.gate:
			self.db_close()
			self.umount()

	def resume(self):
		"""After a crash: its journal and marks are in PLW_STATE."""
		path = os.path.join(self.state, "journal")
		steps = model.load(path)
		self.acked, self.noise = model.load_marks(
			[os.path.join(self.state, "marks0")])
		self.m, rest = model.replay(steps, self.acked)
		self.start_journal(steps, rest)
		for e in rest:
			if e.get("ack"):
				self.tail = [e]
			else:
				self.m.apply(e, False)
		self.mids = 1 << 40
		self.noise_high = [1 << 30, 1 << 30]
		self.killer = True
		self.step("recover", self.mount,
			  lambda r: self.after_recovery(), ack=True, sync="all")
		self.killer = None
		self.pid = self.status()["pid"]

	def start_journal(self, steps, rest):
		"""Of the old one, what may have happened; not what came later.
		The last step did not happen unless recovery says so."""
		self.k = rest[-1]["k"] if rest else self.acked
		self.journal.truncate(0)
		for e in steps:
			if e["k"] <= self.k:
				self.write_journal(e)
		if rest and rest[-1].get("ack"):
			self.write_journal({"k": self.k, "failed": 1})


def main():
	os.umask(0)
	run = Run()
	run.db_mode = ("wal", "delete")[run.rnd.randrange(2)]
	if sys.argv[1] == "resume":
		run.resume()
	else:
		run.make_plain()
		run.init()
	if sys.argv[1] == "init":
		run.umount()
	else:
		run.use()
	print("steps", run.k, "head", run.m.head,
	      dict(sorted(run.counts.items())))


main()
