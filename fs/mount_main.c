/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount_main.c - the daemon txnfs: options, start, the loop, the end.
 *
 * The process that was called forks before it has threads; the child opens the
 * store, mounts and serves, and tells its parent through a pipe how that went.
 * The parent returns when the mount answers.
 */
#include "fs/mount_internal.h"

#include "fs/busy.h"
#include "fs/mount_ring.h"
#include "fs/plain.h"
#include "fs/slice.h"
#include "fs/version.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

/* Of malloc, which would have eight arenas for each core. What is free in one
 * is not used for the others: with ten that was 150 of 380 MiB, in a tree of a
 * million files. And it would give a buffer of 1 MiB back after each read: the
 * next one's pages, new from the host, were a third of the daemon's work. */
enum {
	ARENA_CORES = 4, /* that share one */
	KEEP_FREE_BYTES = 16 << 20,
	MMAP_BYTES = 8 << 20, /* from here on memory comes from the host */
};

static const char help_text[] =
	"usage: txnfs DIR [MOUNTPOINT] [-o OPTION[,OPTION...]] [-f] [-d]\n"
	"\n"
	"Mount the store of DIR (made by txn init) at MOUNTPOINT, by default "
	"over\n"
	"DIR itself. Returns when the mount answers.\n"
	"\n"
	"  -f              stay in the foreground\n"
	"  -d              the same, and show every request\n"
	"  -h, --help      this text\n"
	"  -V, --version   the version\n"
	"\n"
	"options:\n"
	"  ro                  read-only; nothing is written to the store\n"
	"  at=@N               open a damaged store at commit N, an intact "
	"one, "
	"and\n"
	"                      give up what came later; with ro: show it only\n"
	"  staged=discard      drop staged changes instead of resuming them\n"
	"  ctldir=visible      show .txn in listings\n"
	"  ctl=UID:GID:MODE    owner and mode (octal) of .txn/ctl\n"
	"  force               mount although DIR is in use by processes\n"
	"  offline=WHAT        edits of DIR's own files while unmounted: stage "
	"(the\n"
	"                      default), refuse, ignore\n"
	"  checksum            look for such edits in every byte, not by "
	"times\n"
	"  compare=WHEN        look for them before the mount is up, or beside "
	"it\n"
	"                      (before 0.2 s, then beside)\n"
	"  open=fast           the kernel opens files without a message; .txn "
	"is a link\n"
	"                      to a mount of its own\n";

static const char help_end[] =
	"  and those of FUSE\n"
	"\n"
	"exit status: 0 mounted or, with -f, unmounted; 1 failed, 2 usage, "
	"3 refused,\n"
	"4 damage; with -f: 5 the store had stopped, 6 the mount was lost\n";

static void show_help(void)
{
	char why[512];

	fputs(help_text, stdout);
	if (!ring_check(why, sizeof(why)))
		fputs("  transport=io_uring  requests through io_uring instead "
		      "of /dev/fuse\n"
		      "                      (transport=dev, the default)\n",
		      stdout);
	fputs(help_end, stdout);
}

/* --- telling --- */

/* To standard error for as long as somebody reads it. Other threads are there
 * already when that ends. */
static void log_message(struct env *env, enum env_level level, const char *msg)
{
	static const int levels[] = { LOG_ERR, LOG_WARNING, LOG_NOTICE,
				      LOG_DEBUG };
	const struct mount *m = CONTAINER_OF(env, struct mount, env);

	if (__atomic_load_n(&m->in_background, __ATOMIC_ACQUIRE))
		syslog(levels[level], "%s: %s", m->dir, msg);
	else if (level < ENV_DEBUG)
		fprintf(stderr, "txnfs: %s\n", msg);
}

/* What libfuse says when nobody reads standard error any more. */
__attribute__((format(printf, 2, 0))) static void
libfuse_to_syslog(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsyslog((int)level, fmt, ap); /* the same numbers */
}

int complain(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "txnfs: ");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return status;
}

int status_of(int err)
{
	switch (err) {
	case -EFSCORRUPTED:
	case -EFSBADCRC:
		return EXIT_DAMAGE;
	case -EBUSY:
	case -EEXIST:
		return EXIT_REFUSED;
	default:
		return EXIT_FAILURE;
	}
}

/* --- options --- */

struct arguments {
	char *dir, *mountpoint;
	struct fuse_args fuse; /* what is passed on */
	bool foreground, debug, help, version;
	struct mount_options opt;
	char *ctl, *at, *open;
};

enum { KEY_FOREGROUND = 1, KEY_DEBUG, KEY_HELP, KEY_VERSION };

static const struct fuse_opt option_spec[] = {
	FUSE_OPT_KEY("-f", KEY_FOREGROUND),
	FUSE_OPT_KEY("-d", KEY_DEBUG),
	FUSE_OPT_KEY("-h", KEY_HELP),
	FUSE_OPT_KEY("--help", KEY_HELP),
	FUSE_OPT_KEY("-V", KEY_VERSION),
	FUSE_OPT_KEY("--version", KEY_VERSION),
	{ "staged=discard", offsetof(struct arguments, opt.staged_discard), 1 },
	{ "ctldir=visible", offsetof(struct arguments, opt.ctldir_visible), 1 },
	{ "force", offsetof(struct arguments, opt.force), 1 },
	{ "ctl=%s", offsetof(struct arguments, ctl), 0 },
	{ "offline=%s", offsetof(struct arguments, opt.offline), 0 },
	{ "transport=%s", offsetof(struct arguments, opt.transport), 0 },
	{ "compare=%s", offsetof(struct arguments, opt.compare), 0 },
	{ "checksum", offsetof(struct arguments, opt.checksum), 1 },
	{ "at=%s", offsetof(struct arguments, at), 0 },
	{ "open=%s", offsetof(struct arguments, open), 0 },
	FUSE_OPT_KEY("ro", FUSE_OPT_KEY_KEEP),
	FUSE_OPT_END
};

static int option_fn(void *data, const char *arg, int key,
		     struct fuse_args *out)
{
	struct arguments *a = data;

	switch (key) {
	case KEY_FOREGROUND:
		a->foreground = true;
		return 0;
	case KEY_DEBUG:
		a->debug = true;
		a->foreground = true;
		return fuse_opt_add_arg(out, "-d") ? -1 : 0;
	case KEY_HELP:
		a->help = true;
		return 0;
	case KEY_VERSION:
		a->version = true;
		return 0;
	case FUSE_OPT_KEY_NONOPT:
		if (!a->dir)
			a->dir = strdup(arg);
		else if (!a->mountpoint)
			a->mountpoint = strdup(arg);
		else
			return complain(-1,
					"%s: only DIR and MOUNTPOINT are "
					"wanted, and options",
					arg);
		return 0;
	default:
		return 1; /* FUSE's */
	}
}

/* libfuse leaves the end of options in, when some of those are its own. */
static void drop_dashes(struct fuse_args *args)
{
	char **last = &args->argv[args->argc - 1];

	if (args->argc < 2 || strcmp(*last, "--") != 0)
		return;
	free(*last);
	*last = NULL;
	args->argc--;
}

static bool has_option(const struct fuse_args *args, const char *name)
{
	size_t len = strlen(name);

	for (int i = 1; i < args->argc; i++) {
		const char *s = args->argv[i];

		if (!strncmp(s, "-o", 2))
			s += 2;
		for (; s; s = strchr(s, ',')) {
			s += *s == ',';
			if (!strncmp(s, name, len) &&
			    (!s[len] || s[len] == ','))
				return true;
		}
	}
	return false;
}

static int parse_ctl(struct arguments *a)
{
	unsigned long v[3];
	char *s = a->ctl, *end;

	if (!s)
		return 0;
	for (int i = 0; i < 3; i++) {
		errno = 0;
		v[i] = strtoul(s, &end, i == 2 ? 8 : 10);
		if (errno || end == s || *end != (i == 2 ? '\0' : ':') ||
		    v[i] > (i == 2 ? 0777 : UINT32_MAX))
			return complain(EXIT_USAGE,
					"ctl=%s: ctl=UID:GID:MODE is wanted",
					a->ctl);
		s = end + 1;
	}
	a->opt.has_ctl_owner = true;
	a->opt.ctl_uid = (uid_t)v[0];
	a->opt.ctl_gid = (gid_t)v[1];
	a->opt.ctl_mode = (mode_t)v[2];
	return 0;
}

static int parse_transport(struct arguments *a)
{
	const char *s = a->opt.transport;
	char why[512];

	/* libfuse's own option asks no questions. */
	if (has_option(&a->fuse, "io_uring"))
		return complain(EXIT_USAGE, "io_uring: use transport=io_uring");
	if (!s || !strcmp(s, "dev"))
		return 0;
	if (strcmp(s, "io_uring") != 0)
		return complain(EXIT_USAGE,
				"transport=%s: dev or io_uring is wanted", s);
	return ring_check(why, sizeof(why)) ? complain(EXIT_REFUSED, "%s", why)
					    : 0;
}

static int parse_at(struct arguments *a)
{
	const char *s = a->at;
	char *end;

	if (!s)
		return 0;
	s += *s == '@';
	errno = 0;
	a->opt.at_commit = strtoull(s, &end, 10);
	if (errno || *end || *s < '1' || *s > '9')
		return complain(EXIT_USAGE, "at=%s: at=@NUMBER is wanted",
				a->at);
	return 0;
}

static int parse_open(struct arguments *a)
{
	if (a->open && strcmp(a->open, "fast") != 0 &&
	    strcmp(a->open, "ask") != 0)
		return complain(EXIT_USAGE,
				"open=%s: open=ask (the default) or open=fast "
				"is wanted",
				a->open);
	a->opt.fast = a->open && !strcmp(a->open, "fast");
	return 0;
}

/* What is left is libfuse's, which says what it does not know: asked before
 * anything is changed. */
static int check_options(const struct fuse_args *given)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops = { 0 };
	struct fuse_session *se;
	int err = 0;

	for (int i = 0; !err && i < given->argc; i++)
		err = fuse_opt_add_arg(&args, given->argv[i]);
	if (err) {
		fuse_opt_free_args(&args);
		return complain(EXIT_FAILURE, "%s", strerror(ENOMEM));
	}
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	fuse_opt_free_args(&args);
	if (!se)
		return complain(EXIT_USAGE,
				"an option is not understood; see txnfs --help "
				"and txnfs(8)");
	fuse_session_destroy(se);
	return 0;
}

/* --- is it fit to be mounted? --- */

enum { BUSY_LOOKS = 4, BUSY_WAIT_US = 50000 };

struct busy_check {
	const char *lock; /* of the store */
	unsigned int n;
	bool tell;
};

static int name_process(void *arg, long pid, const char *comm, const char *how,
			const char *path)
{
	struct busy_check *c = arg;
	char shown[512];

	/* One of ours: it asks who has the store, or waits for it. */
	if (busy_has_open(pid, c->lock))
		return 0;
	(void)fs_quote_path(path, shown, sizeof(shown));
	if (c->n++ < NAMED_MAX && c->tell)
		complain(0, "process %ld (%s): %s %s", pid, comm, how, shown);
	return 0;
}

/* Mounted read-only elsewhere, nothing is hidden and nothing changes. */
static bool is_only_looked_at(const struct mount *m)
{
	return m->opt.read_only && strcmp(m->dir, m->mountpoint) != 0;
}

/* Processes that have DIR's own files in use would go on with those. */
static int check_busy(struct mount *m, int storefd)
{
	bool over = !strcmp(m->dir, m->mountpoint);
	char lock[PATH_MAX] = "";
	struct busy_check c = { .lock = lock };
	int err;

	/* Beneath a dead mount nobody came to them. */
	if (m->opt.force || is_only_looked_at(m) || m->beneath_fd >= 0)
		return 0;
	err = place_lock_path(storefd, lock, sizeof(lock));
	/* Who only looks, as txn status, is gone in a moment. */
	for (int i = 1; i <= BUSY_LOOKS && !err; i++) {
		c.n = 0;
		c.tell = i == BUSY_LOOKS;
		err = busy_find(m->dir, !over, name_process, &c);
		if (!c.n)
			break;
		if (!c.tell)
			(void)usleep(BUSY_WAIT_US);
	}
	if (err)
		return complain(EXIT_FAILURE, "/proc: %s", strerror(-err));
	if (c.n)
		return complain(EXIT_REFUSED,
				"%u process(es) use files below %s and would "
				"go on with the plain ones; end them, or mount "
				"with -o force",
				c.n, m->dir);
	return 0;
}

static int open_store(struct mount *m, int storefd)
{
	struct fs_params fp = { .gone = knode_gone,
				.gone_arg = m,
				.before_sweep = snaps_recall,
				.before_sweep_arg = m };
	struct store_params sp = { .env = &m->env,
				   .read_only = m->opt.read_only,
				   .at_commit = m->opt.at_commit,
				   .check_item = fs_check_item };
	struct store_error text = { "" };
	const char *unfinished;
	int err;

	err = dev_host_new(storefd, m->opt.read_only, &m->dev);
	if (err)
		return complain(EXIT_FAILURE, "%s/.txn: %s", m->dir,
				strerror(-err));
	sp.dev = m->dev;
	err = store_open(&sp, &m->store, &text);
	if (err)
		return complain(status_of(err), "%s: %s", m->dir,
				text.text[0] ? text.text : strerror(-err));
	err = fs_open(m->store, &fp, &m->fs);
	if (err) {
		fs_open_error(m->store, err, &text);
		return complain(status_of(err), "%s: %s", m->dir, text.text);
	}
	err = plain_unfinished(m->fs, &unfinished);
	if (err || unfinished)
		return complain(err ? status_of(err) : EXIT_REFUSED, "%s: %s",
				m->dir, err ? strerror(-err) : unfinished);
	if (m->opt.staged_discard && !m->opt.read_only)
		err = fs_abort(m->fs);
	if (err)
		return complain(status_of(err), "%s: %s", m->dir,
				strerror(-err));
	return 0;
}

/* --- the session --- */

static bool fuse_conf_allows_other(void)
{
	FILE *f = fopen("/etc/fuse.conf", "re");
	char line[256];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, " \t\n#")] = '\0';
		found = !strcmp(line, "user_allow_other");
	}
	fclose(f);
	return found;
}

/* "," and "\" have a meaning in option lists. */
static int insert_fsname(struct mount *m, struct fuse_args *args)
{
	static const char prefix[] = "-ofsname=";
	char *s = malloc(2 * strlen(m->dir) + sizeof(prefix)), *to = s;
	int err;

	if (!s)
		return -1;
	memcpy(to, prefix, sizeof(prefix) - 1);
	to += sizeof(prefix) - 1;
	for (const char *p = m->dir; *p; p++) {
		if (*p == ',' || *p == '\\')
			*to++ = '\\';
		*to++ = *p;
	}
	*to = '\0';
	err = fuse_opt_insert_arg(args, 1, s);
	free(s);
	return err;
}

/* In front of what was given, so that nosuid, nodev and fsname win. */
static int add_defaults(struct mount *m, struct fuse_args *args)
{
	struct statvfs sv;
	int err;

	err = insert_fsname(m, args);
	/* What the directory itself allows. */
	if (!geteuid() && !fstatvfs(m->dirfd, &sv)) {
		if (!(sv.f_flag & ST_NOSUID))
			err = err ? err
				  : fuse_opt_insert_arg(args, 1, "-osuid");
		if (!(sv.f_flag & ST_NODEV))
			err = err ? err : fuse_opt_insert_arg(args, 1, "-odev");
	}
	return err;
}

static int add_options(struct mount *m, struct fuse_args *args)
{
	int err;

	err = add_defaults(m, args);
	err = err ? err
		  : fuse_opt_add_arg(args,
				     "-odefault_permissions,subtype=txnfs");
	if (!geteuid() || fuse_conf_allows_other())
		err = err ? err : fuse_opt_add_arg(args, "-oallow_other");
	else
		complain(0, "only you can use this mount; for others, "
			    "/etc/fuse.conf needs the line: user_allow_other");
	return err;
}

static int make_session(struct mount *m, struct arguments *a)
{
	struct fuse_lowlevel_ops ops;
	int status, err;

	mount_name_ops(&ops);
	mount_file_ops(&ops);
	gate_ops(m, &ops);
	if (add_options(m, &a->fuse))
		return complain(EXIT_FAILURE, "%s", strerror(ENOMEM));
	status = m->opt.fast ? side_mount(m, &a->fuse) : 0;
	if (status)
		return status;
	__atomic_store_n(&m->work.se,
			 fuse_session_new(&a->fuse, &ops, sizeof(ops),
					  &m->work),
			 __ATOMIC_RELEASE);
	if (!m->work.se)
		return complain(EXIT_FAILURE, "%s", strerror(ENOMEM));
	err = serve_prepare();
	if (err)
		return complain(EXIT_FAILURE, "signal handlers: %s",
				strerror(-err));
	if (m->ndead ? dead_replace(m)
		     : fuse_session_mount(m->work.se, m->mountpoint))
		return complain(EXIT_FAILURE, "cannot mount at %s",
				m->mountpoint);
	return wire_start(m);
}

/* --- start and end --- */

static int mount_open(struct mount *m, struct arguments *a)
{
	int storefd = -1, status;

	status = place_open(m, &storefd);
	if (!status)
		status = place_take(m, storefd);
	if (!status)
		status = check_busy(m, storefd);
	if (!status)
		status = open_store(m, storefd);
	if (!status)
		status = plain_prepare(m, storefd);
	if (!status && !m->opt.read_only && !edits_are_beside(m) &&
	    fs_start(m->fs))
		status = complain(EXIT_FAILURE, "cannot start threads");
	if (!status) {
		virtual_init(m);
		status = knodes_init(m) ? EXIT_FAILURE : 0;
	}
	if (!status)
		status = make_session(m, a);
	if (!status)
		place_read_ahead(m, storefd);
	if (!status)
		place_watch(m);
	if (storefd >= 0)
		close(storefd);
	return status;
}

/* Errors here lose nothing that was promised, but staged changes since the last
 * checkpoint: they are told. */
static int mount_close(struct mount *m)
{
	const char *why = NULL;
	int err = 0;

	edits_stop(m); /* requests may wait for it */
	wire_stop_ring(m);
	if (m->work.se)
		dead_unmount(m);
	conn_stop(&m->side);
	ctl_stop(m);
	side_release(m);
	edits_release(m);
	plain_stop(m);
	if (m->buckets) {
		handles_release(m);
		knodes_release(m);
	}
	if (m->fs)
		err = fs_close(m->fs);
	if (m->store && store_failed(m->store, &why))
		env_logf(&m->env, ENV_ERROR,
			 "the store of %s had stopped: %s; staged changes "
			 "since then are lost",
			 m->dir, why ? why : strerror(EIO));
	if (m->store) {
		int err2 = store_close(m->store);

		err = err ? err : err2;
	}
	if (err && !why)
		env_logf(&m->env, ENV_ERROR, "closing the store of %s: %s",
			 m->dir, strerror(-err));
	if (m->dev)
		m->dev->ops->release(m->dev);
	/* Before the store is free: the next mount looks who uses DIR. */
	if (m->dirfd >= 0)
		close(m->dirfd);
	if (m->beneath_fd >= 0)
		close(m->beneath_fd);
	holder_release(m->holder);
	if (m->work.se)
		fuse_session_destroy(m->work.se);
	wire_free(m);
	return err;
}

/* For waits with a deadline: somebody may set the clock meanwhile. */
static void monotonic_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void mount_init(struct mount *m, const struct arguments *a)
{
	m->dir = a->dir;
	m->mountpoint = a->mountpoint;
	m->opt = a->opt;
	m->dirfd = m->beneath_fd = -1;
	m->work = (struct conn){ .m = m, .root = &m->root };
	m->side = (struct conn){ .m = m };
	env_init_host(&m->env);
	m->env.log = log_message;
	m->start_ns = m->env.now_ns(&m->env);
	pthread_mutex_init(&m->nodes_lock, NULL);
	pthread_mutex_init(&m->snaps_lock, NULL);
	monotonic_cond_init(&m->snaps_cond);
	pthread_mutex_init(&m->epoch_lock, NULL);
	pthread_cond_init(&m->epoch_cond, NULL);
	pthread_mutex_init(&m->ctl_lock, NULL);
	pthread_cond_init(&m->ctl_cond, NULL);
	pthread_mutex_init(&m->errors_lock, NULL);
	pthread_mutex_init(&m->probe_lock, NULL);
	monotonic_cond_init(&m->probe_cond);
	m->tell_fd = -1;
	m->jobs_end = &m->jobs;
	m->ctl_runs = true; /* not before the barrier is known */
}

static void detach_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3 && fd >= 0; i++)
		(void)dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static int run(struct arguments *a, int tell)
{
	struct mount *m = calloc(1, sizeof(*m));
	unsigned char status;
	bool served;

	if (!m)
		return EXIT_FAILURE;
	mount_init(m, a);
	/* Threads from here on are the store's, and the one for commands. */
	slice_set(SLICE_BACKGROUND_NS);
	status = push_start(m) ? EXIT_FAILURE : (unsigned char)mount_open(m, a);
	if (!status && tell >= 0) {
		openlog("txnfs", LOG_PID, LOG_DAEMON);
		__atomic_store_n(&m->in_background, true, __ATOMIC_RELEASE);
		fuse_set_log_func(libfuse_to_syslog);
		detach_stdio();
	}
	if (!status &&
	    (side_start(m) || (!edits_are_beside(m) && plain_start(m))))
		status = EXIT_FAILURE;
	if (!status)
		status = (unsigned char)wire_start_ring(m);
	if (!status && ctl_start(m, tell))
		status = EXIT_FAILURE;
	served = !status;
	if (served) {
		/* What looking at the plain files took. */
		(void)malloc_trim(0);
		status = (unsigned char)serve(m);
	}
	if (mount_close(m) && served)
		status = EXIT_STOPPED;
	/* Not before everything is let go: the next try may follow at once. */
	if (!served && tell >= 0) {
		if (write(tell, &status, 1) != 1)
			(void)0;
		close(tell);
	}
	push_stop(m);
	free(m);
	return status;
}

/* The parent: wait for the child's word, then for the mount's first answer. */
static int wait_for_mount(int fd, const char *mountpoint)
{
	unsigned char status;
	struct stat st;
	ssize_t n;

	do {
		n = read(fd, &status, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		return complain(EXIT_FAILURE, "the daemon ended early");
	if (!status && stat(mountpoint, &st))
		return complain(EXIT_FAILURE, "%s: %s", mountpoint,
				strerror(errno));
	return status;
}

static int run_in_background(struct arguments *a)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return complain(EXIT_FAILURE, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return complain(EXIT_FAILURE, "fork: %s", strerror(errno));
	if (!pid) {
		close(fds[0]);
		setsid();
		return run(a, fds[1]);
	}
	close(fds[1]);
	return wait_for_mount(fds[0], a->mountpoint);
}

static void raise_limits(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void set_up_malloc(void)
{
	int n = (int)sysconf(_SC_NPROCESSORS_ONLN) / ARENA_CORES;

	(void)mallopt(M_ARENA_MAX, n > 1 ? n : 1);
	(void)mallopt(M_TRIM_THRESHOLD, KEEP_FREE_BYTES);
	(void)mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
}

int main(int argc, char **argv)
{
	struct arguments a = { .fuse = FUSE_ARGS_INIT(argc, argv) };
	int status;

	if (process_begin())
		return EXIT_FAILURE;
	if (fuse_opt_parse(&a.fuse, &a, option_spec, option_fn))
		return complain(EXIT_USAGE, "see txnfs --help");
	drop_dashes(&a.fuse);
	if (a.help) {
		show_help();
		return 0;
	}
	if (a.version) {
		printf("txnfs %s, store format %d, libfuse %s\n", TXNFS_VERSION,
		       STORE_FORMAT_VERSION, fuse_pkgversion());
		return 0;
	}
	if (!a.dir)
		return complain(EXIT_USAGE, "which DIR? see txnfs --help");
	if (!a.mountpoint)
		a.mountpoint = strdup(a.dir);
	if (!a.mountpoint)
		return EXIT_FAILURE;
	a.opt.read_only = has_option(&a.fuse, "ro");
	status = parse_ctl(&a);
	if (!status)
		status = parse_at(&a);
	if (!status)
		status = parse_open(&a);
	if (!status)
		status = parse_transport(&a);
	if (!status)
		status = check_options(&a.fuse);
	if (!status && (place_resolve(&a.dir) || place_resolve(&a.mountpoint)))
		status = EXIT_FAILURE;
	if (!status)
		status = place_check_mountpoint(a.mountpoint);
	/* Our own working directory must not keep DIR busy. */
	if (!status && chdir("/"))
		status = complain(EXIT_FAILURE, "/: %s", strerror(errno));
	/* What our caller has open is not ours to keep. */
	(void)close_range(3, ~0u, 0);
	raise_limits();
	set_up_malloc();
	if (!status)
		status = a.foreground ? run(&a, -1) : run_in_background(&a);
	fuse_opt_free_args(&a.fuse);
	free(a.dir);
	free(a.mountpoint);
	free(a.ctl);
	free(a.at);
	free(a.open);
	return status;
}
