/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tool.c - see tool.h. */
#include "tools/tool.h"

#include "fs/home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	TEXT_CHUNK = 64 << 10,
	REACH_MS = 2000, /* for a mount that comes or goes */
	REACH_TICK_MS = 20,
	NOT_HERE = -1 /* no status: a directory without a store */
};

static char *read_fd(int fd);

/* --- messages --- */

int tool_fail(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "txn: ");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return status;
}

int tool_check_message(const char *message)
{
	if (strchr(message, '\n'))
		return tool_fail(EXIT_USAGE, "a message is one line");
	if (strlen(message) > STORE_MESSAGE_MAX)
		return tool_fail(EXIT_USAGE, "a message has at most %d bytes",
				 STORE_MESSAGE_MAX);
	return 0;
}

int tool_status(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -EFSCORRUPTED:
	case -EFSBADCRC:
		return EXIT_DAMAGE;
	case -EBUSY:
	case -EEXIST:
	case -EAGAIN:
	case -ECANCELED:
		return EXIT_REFUSED;
	default:
		return EXIT_FAILURE;
	}
}

/* A mount whose daemon is gone; while it is just going, the second. */
static bool is_dead(int err)
{
	return err == ENOTCONN || err == ECONNABORTED;
}

bool tool_is_dead(const char *path)
{
	struct statfs sf;

	/* Not stat: the kernel may know the answer to that. */
	return statfs(path, &sf) && is_dead(errno);
}

/* The directory that a mount is of; free(). NULL: not known. */
static char *mount_source(const char *mountpoint)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	char *source = NULL;
	struct mntent *e;

	while (f && (e = getmntent(f)))
		if (!strcmp(e->mnt_dir, mountpoint)) {
			free(source); /* the last is on top */
			source = strdup(e->mnt_fsname);
		}
	if (f)
		endmntent(f);
	return source;
}

/* Where a dead mount is that has path, and what to do. */
static int tell_dead(const char *path)
{
	char *top = strdup(path), *slash, *source;

	while (top && (slash = strrchr(top, '/')) && slash != top) {
		*slash = '\0';
		if (tool_is_dead(top))
			continue;
		*slash = '/';
		break;
	}
	path = top ? top : path;
	source = mount_source(path);
	tool_fail(0,
		  "%s: the process that served this mount is gone; txn mount "
		  "%s%s%s mounts it again, txn umount %s leaves the plain "
		  "files",
		  path, source ? source : path,
		  source && strcmp(source, path) ? " " : "",
		  source && strcmp(source, path) ? path : "", path);
	free(source);
	free(top);
	return EXIT_FAILURE;
}

char *tool_realpath(const char *path)
{
	char *s = realpath(path, NULL);

	if (!s && is_dead(errno) && *path == '/')
		tell_dead(path);
	else if (!s)
		tool_fail(0, "%s: %s%s", path, strerror(errno),
			  is_dead(errno) ? ": the process that served this "
					   "mount is gone, or was replaced: "
					   "go to the directory again"
					 : "");
	return s;
}

static int run(char *const argv[], const char *dir, bool alone)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return tool_fail(EXIT_FAILURE, "fork: %s", strerror(errno));
	if (!pid) {
		if (alone)
			(void)setsid();
		if (!dir || !chdir(dir))
			execvp(argv[0], argv);
		_exit(EXIT_NOT_RUN);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return tool_fail(EXIT_FAILURE, "waitpid: %s",
					 strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int tool_run(char *const argv[], const char *dir)
{
	return run(argv, dir, false);
}

int tool_run_alone(char *const argv[])
{
	return run(argv, NULL, true);
}

/* --- places --- */

static char *join(const char *dir, const char *rest)
{
	size_t n = strlen(dir) + strlen(rest) + 2;
	char *s = malloc(n);

	if (s)
		snprintf(s, n, "%s%s%s", dir, strcmp(dir, "/") ? "/" : "",
			 rest);
	return s;
}

/* The store's folder of an unmounted directory. */
static int open_home(const char *dir, int *fd_out, struct store_error *text)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	text->text[0] = '\0';
	if (dirfd < 0)
		return -errno;
	err = home_open(dirfd, dir, fd_out, text);
	close(dirfd);
	return err;
}

int place_open_store(const struct place *p, int *dirfd_out)
{
	struct store_error text;
	int fd, err;

	*dirfd_out = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = *dirfd_out < 0 ? -errno
			     : home_open(*dirfd_out, p->dir, &fd, &text);
	return err ? err : fd;
}

/* A mount's `.txn` has no format. A store's has, and in place of ctl the folder
 * that keeps `echo commit > ctl` from going nowhere, or what that made where
 * somebody removed the folder. */
static bool is_store(const char *dir)
{
	char *format = join(dir, HOME_NAME "/format");
	struct stat st;
	bool is = format && !lstat(format, &st);

	free(format);
	return is;
}

/* Nothing is mounted there. */
static bool is_out_of_reach(const char *mount)
{
	char *ctl = join(mount, HOME_NAME "/ctl");
	struct stat st;
	bool out =
		ctl && (stat(ctl, &st) ? errno == ENOENT : is_store(mount));

	free(ctl);
	return out;
}

/* holder_probe(), after a moment for a mount that is being made or undone. */
static int probe(int fd, struct holder_info *info)
{
	const struct timespec tick = { .tv_nsec = REACH_TICK_MS * 1000000L };
	int err;

	for (int ms = 0;; ms += REACH_TICK_MS) {
		*info = (struct holder_info){ 0 };
		err = holder_probe(fd, info);
		if (err || ms >= REACH_MS)
			return err;
		/* No process: it is just taken, or let go of. */
		if (info->pid && (!*info->mountpoint ||
				  !is_out_of_reach(info->mountpoint)))
			return err;
		nanosleep(&tick, NULL);
	}
}

/* On disk: is it mounted somewhere? */
static int look_at_holder(struct place *p, const char *dir)
{
	struct holder_info info;
	struct store_error text;
	int fd, err;

	err = open_home(dir, &fd, &text);
	if (err)
		return tool_fail(tool_status(err), "%s%s%s",
				 text.text[0] ? text.text : dir,
				 text.text[0] ? "" : ": ",
				 text.text[0] ? "" : strerror(-err));
	err = probe(fd, &info);
	close(fd);
	if (err < 0)
		return tool_fail(EXIT_FAILURE, "%s/.txn/lock: %s", dir,
				 strerror(-err));
	if (err)
		return 0;
	p->pid = info.pid;
	if (!*info.mountpoint)
		return 0;
	if (is_out_of_reach(info.mountpoint))
		return tool_fail(
			EXIT_REFUSED,
			"%s is mounted on %s by process %ld, but not to be "
			"seen there: it is being unmounted, or the mount is "
			"in another namespace",
			dir, info.mountpoint, info.pid);
	p->mount = strdup(info.mountpoint);
	return 0;
}

/* Elsewhere what is written to a file that is called ctl is a command to
 * nobody. */
static bool on_fuse(const char *path)
{
	enum { FUSE_MAGIC = 0x65735546 };
	struct statfs sf;

	return !statfs(path, &sf) && sf.f_type == FUSE_MAGIC;
}

/* NOT_HERE: no store. A link that leads nowhere is one that cannot be used. */
static int place_at(const char *dir, struct place *out)
{
	char *txn = join(dir, HOME_NAME), *ctl = txn ? join(txn, "ctl") : NULL;
	struct stat st;
	int status = NOT_HERE;

	if (!ctl)
		status = tool_fail(EXIT_FAILURE, "%s", strerror(ENOMEM));
	else if (!stat(ctl, &st) && S_ISREG(st.st_mode) && !on_fuse(ctl) &&
		 !is_store(dir))
		status = tool_fail(EXIT_FAILURE,
				   "%s is neither a store nor a mount's: a "
				   "copy of one? remove it",
				   txn);
	else if (!stat(ctl, &st) && S_ISREG(st.st_mode) && on_fuse(ctl)) {
		out->dir = strdup(dir);
		out->mount = strdup(dir);
		status = 0;
	} else if (!lstat(txn, &st) && S_ISLNK(st.st_mode)) {
		out->dir = strdup(dir);
		status = look_at_holder(out, dir);
	} else if (stat(ctl, &st)) {
		if (is_dead(errno))
			status = tell_dead(dir);
		else if (errno != ENOENT && errno != ENOTDIR)
			status = tool_fail(EXIT_FAILURE, "%s: %s", ctl,
					   strerror(errno));
	} else {
		out->dir = strdup(dir);
		status = look_at_holder(out, dir);
	}
	free(ctl);
	free(txn);
	return status;
}

int place_find(const char *start, struct place *out)
{
	char *dir = tool_realpath(start);
	int status;

	*out = (struct place){ 0 };
	if (!dir)
		return EXIT_FAILURE;
	for (;;) {
		char *slash;

		status = place_at(dir, out);
		slash = strrchr(dir, '/');
		if (status != NOT_HERE || !slash || !dir[1])
			break;
		if (slash == dir)
			slash++; /* the root itself */
		*slash = '\0';
	}
	if (status == NOT_HERE)
		status = tool_fail(EXIT_FAILURE,
				   "no store in %s or above; make one with: "
				   "txn init DIR",
				   start);
	free(dir);
	return status;
}

int place_find_dir(const char *dir, struct place *out)
{
	char *whole;
	int status = place_find(dir ? dir : tool_start_dir, out);

	if (status || !dir)
		return status;
	whole = tool_realpath(dir);
	if (!whole)
		status = EXIT_FAILURE;
	else if (strcmp(whole, out->dir) &&
		 (!out->mount || strcmp(whole, out->mount)))
		status = tool_fail(EXIT_FAILURE,
				   "%s has no store and is no mount; it lies "
				   "in %s, which is not touched",
				   whole, out->dir);
	free(whole);
	return status;
}

void place_release(struct place *p)
{
	free(p->dir);
	free(p->mount);
}

char *place_txn(const struct place *p, const char *name)
{
	char *txn = join(p->mount, ".txn"), *s = NULL;

	if (txn)
		s = join(txn, name);
	free(txn);
	return s;
}

/* --- reading a store that is not mounted --- */

static void keep_quiet(struct env *env, enum env_level level, const char *msg)
{
	if (level <= ENV_WARNING)
		fprintf(stderr, "txn: %s\n", msg);
}

static int open_reader(const struct place *p, bool repair, struct reader *r)
{
	struct store_params sp = { .env = &r->env,
				   .read_only = true,
				   .repair = repair,
				   .check_item = fs_check_item };
	struct holder_info info = { 0 };
	struct store_error text = { "" };
	int fd = -1, err;

	*r = (struct reader){ 0 };
	env_init_host(&r->env);
	r->env.log = keep_quiet;
	err = open_home(p->dir, &fd, &text);
	if (!err) {
		err = holder_take(fd, !repair, "", 0, &r->holder, &info);
		if (err == -ENOENT)
			err = 0; /* never mounted */
	}
	if (!err)
		err = dev_host_new(fd, !repair, &r->dev);
	sp.dev = r->dev;
	if (!err)
		err = store_open(&sp, &r->store, &text);
	if (!err) {
		err = fs_open(r->store, NULL, &r->fs);
		if (err)
			fs_open_error(r->store, err, &text);
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		return 0;
	if (err == -EBUSY && !text.text[0])
		tool_fail(0, "%s is in use by process %ld", p->dir, info.pid);
	else
		tool_fail(0, "%s: %s", p->dir,
			  text.text[0] ? text.text : strerror(-err));
	reader_close(r);
	return tool_status(err);
}

int reader_open(const struct place *p, struct reader *r)
{
	return open_reader(p, false, r);
}

int reader_open_repairing(const struct place *p, struct reader *r)
{
	return open_reader(p, true, r);
}

void reader_close(struct reader *r)
{
	if (r->fs)
		(void)fs_close(r->fs); /* read-only: nothing to lose */
	if (r->store)
		(void)store_close(r->store);
	if (r->dev)
		r->dev->ops->release(r->dev);
	holder_release(r->holder);
	*r = (struct reader){ 0 };
}

/* --- ctl --- */

/* The line of JSON at the end of an answer. */
static json_t *answer_json(const char *answer)
{
	const char *line = answer, *p;

	for (p = answer; p && *p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (*p == '{')
			line = p;
	}
	return json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
}

static int explain(const char *line, int err, const char *answer)
{
	json_t *j = answer_json(answer);
	const char *reason = json_string_value(json_object_get(j, "reason"));
	json_int_t is = json_integer_value(json_object_get(j, "errno"));

	/* Other commands ask for differences too. */
	if (reason && !strncmp(line, "diff ", 5))
		tool_fail(0, "%s", reason);
	else
		tool_fail(0, "%.*s: %s", (int)strcspn(line, " "), line,
			  reason ? reason : strerror(err));
	json_decref(j);
	/* To a write the kernel says EIO for damage. */
	return tool_status(is ? -(int)is : -err);
}

int tool_not_mounted(const struct place *p)
{
	return tool_fail(EXIT_FAILURE,
			 "%s is not mounted; mount it with: txn mount %s",
			 p->dir, p->dir);
}

static int open_ctl(const struct place *p, int *fd_out)
{
	char *path;
	int err;

	if (!p->mount)
		return tool_not_mounted(p);
	path = place_txn(p, "ctl");
	*fd_out = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	err = errno;
	free(path);
	if (*fd_out < 0)
		return tool_fail(
			EXIT_FAILURE, "%s/.txn/ctl: %s%s", p->mount,
			strerror(err),
			err == EACCES  ? "; commands are for the directory's "
					 "owner, or whom -o ctl= names"
			: err == EROFS ? "; with -o ro only status, log, ls, "
					 "cat and export are answered: what "
					 "else is wanted asks for an unmounted "
					 "directory, or a mount without it"
				       : "");
	return 0;
}

int ctl_ask(const struct place *p, const char *line, char **answer_out)
{
	size_t len = strlen(line);
	int fd = -1, err = 0, status;
	ssize_t n;
	char *answer;

	/* What follows would be a command of its own. */
	if (strchr(line, '\n'))
		return tool_fail(EXIT_USAGE, "%.*s: not one line",
				 (int)strcspn(line, " "), line);
	status = open_ctl(p, &fd);
	if (status)
		return status;
	n = write(fd, line, len);
	if (n != (ssize_t)len)
		err = n < 0 ? errno : EIO;
	/* The answer lies behind what was written. */
	if (lseek(fd, (off_t)len, SEEK_SET) < 0 && !err)
		err = errno;
	answer = read_fd(fd);
	close(fd);
	if (!answer)
		return tool_fail(EXIT_FAILURE, "reading the answer: %s",
				 strerror(errno));
	if (err) {
		status = explain(line, err, answer);
		free(answer);
		return status;
	}
	*answer_out = answer;
	return 0;
}

int ctl_command(const struct place *p, const char *line, uint64_t *head_out,
		bool *nothing_out)
{
	char *answer;
	json_t *j;
	int status;

	status = ctl_ask(p, line, &answer);
	if (status)
		return status;
	j = answer_json(answer);
	if (!j)
		status = tool_fail(EXIT_FAILURE, "%.*s: there is no answer",
				   (int)strcspn(line, " "), line);
	*head_out = (uint64_t)json_integer_value(json_object_get(j, "head"));
	*nothing_out = json_is_true(json_object_get(j, "nothing"));
	json_decref(j);
	free(answer);
	return status;
}

/* --- output --- */

static json_t *base64(const char *s)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = strlen(s), n = 0;
	char *out = malloc(len / 3 * 4 + 8);
	json_t *j;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)(unsigned char)s[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t)(unsigned char)s[i + 1] << 8;
		if (i + 2 < len)
			v |= (unsigned char)s[i + 2];
		out[n++] = digits[v >> 18];
		out[n++] = digits[v >> 12 & 63];
		out[n++] = i + 1 < len ? digits[v >> 6 & 63] : '=';
		out[n++] = i + 2 < len ? digits[v & 63] : '=';
	}
	j = json_stringn(out, n);
	free(out);
	return j;
}

json_t *json_path(const char *path, json_t **raw_out)
{
	json_t *j = json_string(path);
	size_t size = 4 * strlen(path) + 3;
	char *quoted;

	*raw_out = NULL;
	if (j)
		return j;
	quoted = malloc(size);
	if (!quoted)
		return NULL;
	(void)fs_quote_path(path, quoted, size);
	j = json_string(quoted);
	free(quoted);
	*raw_out = base64(path);
	return j;
}

const char *shorten(const char *s, char buf[4 * STORE_NAME_MAX])
{
	(void)fs_quote_path(s, buf, 4 * STORE_NAME_MAX);
	return *s ? buf : "\"\"";
}

void print_quoted(const char *s)
{
	size_t size = fs_quote_path(s, NULL, 0) + 1;
	char *buf = malloc(size);

	if (!buf)
		tool_fail(0, "%s", strerror(ENOMEM));
	else
		(void)fs_quote_path(s, buf, size);
	fputs(buf ? buf : "?", stdout);
	free(buf);
}

int json_print(json_t *j)
{
	int err =
		j ? json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER)
		  : -1;

	putchar('\n');
	json_decref(j);
	/* What could not be written main() tells. */
	return err && !ferror(stdout)
		       ? tool_fail(EXIT_FAILURE, "%s", strerror(ENOMEM))
		       : 0;
}

void time_text(int64_t ns, char buf[32])
{
	time_t t = (time_t)(ns / 1000000000) - (ns % 1000000000 < 0);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(buf, 32, "?");
}

static char *read_fd(int fd)
{
	char *buf = NULL;
	size_t len = 0, cap = 0;
	ssize_t n = 1;

	while (n > 0) {
		if (len + TEXT_CHUNK + 1 > cap) {
			char *b;

			cap = (len + TEXT_CHUNK + 1) * 2;
			b = realloc(buf, cap);
			if (!b) {
				free(buf);
				errno = ENOMEM;
				return NULL;
			}
			buf = b;
		}
		n = read(fd, buf + len, TEXT_CHUNK);
		if (n > 0)
			len += (size_t)n;
	}
	if (n < 0) {
		free(buf);
		return NULL;
	}
	buf[len] = '\0';
	return buf;
}

char *read_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *buf = fd < 0 ? NULL : read_fd(fd);

	if (!buf)
		tool_fail(0, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return buf;
}

char **tool_fields(char *line, size_t want, char **fields, char **next_out)
{
	char *s = line;

	*next_out = line + strcspn(line, "\n");
	if (**next_out)
		*(*next_out)++ = '\0';
	for (size_t i = 0; i < want; i++) {
		fields[i] = s;
		s += strcspn(s, "\t");
		if (*s)
			*s++ = '\0';
	}
	return fields;
}

bool tool_tidy_path(char *path)
{
	char *out = path, *in = path;
	size_t len;

	for (const char *s = path; *s; s += len, s += strspn(s, "/")) {
		len = strcspn(s, "/");
		if (len == 2 && !memcmp(s, "..", 2))
			return false;
	}
	for (; *in; in += len, in += strspn(in, "/")) {
		len = strcspn(in, "/");
		if (!len || (len == 1 && *in == '.'))
			continue;
		if (out != path)
			*out++ = '/';
		memmove(out, in, len);
		out += len;
	}
	*out = '\0';
	return true;
}

/* The directory of the commit that is so far back. */
static char *state_back(const struct place *p, uint64_t back)
{
	char rest[64], *path = place_txn(p, "log");
	char *log = path ? read_text(path) : NULL, *line = log;

	free(path);
	path = NULL;
	while (line && *line && back--) {
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	if (line && *line) {
		snprintf(rest, sizeof(rest), "snapshots/%.*s",
			 (int)strcspn(line, "\t"), line);
		path = place_txn(p, rest);
	}
	free(log);
	return path;
}

char *place_state(const struct place *p, const char *name)
{
	char rest[STORE_NAME_MAX + 32], *path = NULL, *end;
	struct stat st;
	uint64_t back;

	if (!strcmp(name, "staged") || !strcmp(name, "working"))
		return strdup(p->mount);
	if (!strcmp(name, "head"))
		return place_txn(p, "head");
	if (!strncmp(name, "head~", 5)) {
		errno = 0;
		back = strtoull(name + 5, &end, 10);
		if (name[5] >= '0' && name[5] <= '9' && !*end && !errno)
			path = state_back(p, back);
	} else if (store_name_is_valid(name + (*name == '@'))) {
		snprintf(rest, sizeof(rest), "snapshots/%s", name);
		path = place_txn(p, rest);
	}
	if (path && lstat(path, &st) && errno == ENOENT) {
		free(path);
		path = NULL;
	}
	return path;
}

bool place_lists_txn(const struct place *p)
{
	DIR *dir = opendir(p->mount);
	const struct dirent *de;
	bool lists = false;

	while (dir && !lists && (de = readdir(dir)))
		lists = !strcmp(de->d_name, ".txn");
	if (dir)
		closedir(dir);
	return lists;
}

bool tool_may_be_state(const char *name)
{
	return *name && strlen(name) <= STORE_NAME_MAX &&
	       !strpbrk(name, " \t\n");
}

int tool_no_state(const char *name)
{
	char shown[4 * STORE_NAME_MAX];

	return tool_fail(EXIT_FAILURE,
			 "there is no state %s; txn log and txn snapshots "
			 "list them",
			 shorten(name, shown));
}
