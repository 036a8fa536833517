/* SPDX-License-Identifier: GPL-2.0-or-later */
/* slice.c - see slice.h. The system calls have no wrappers everywhere. */
#include "fs/slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct sched_attr of the kernel, as it was first. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* Real time policies mean something else by runtime. */
static bool get(struct attr *a)
{
	*a = (struct attr){ 0 };
	return !syscall(SYS_sched_getattr, 0, a, sizeof(*a), 0) &&
	       (a->policy == SCHED_OTHER || a->policy == SCHED_BATCH);
}

void slice_set(uint64_t ns)
{
	struct attr a;

	if (!get(&a))
		return;
	a.size = sizeof(a);
	a.runtime = ns;
	(void)syscall(SYS_sched_setattr, 0, &a, 0);
}

uint64_t slice_get(void)
{
	struct attr a;

	return get(&a) ? a.runtime : 0;
}
