/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slice.h - which threads make way. The kernel lets who is woken go before who
 * runs when it asks for shorter slices (Linux 6.12 and later; before, nothing
 * changes). A thread that works in the background asks for long ones: it gets
 * as much time, and programs and those who answer them do not wait until its
 * slice is over.
 */
#ifndef FS_SLICE_H
#define FS_SLICE_H

#include "txn/base.h"

/* Longer than what anybody gets who does not ask (2.8 ms). */
#define SLICE_BACKGROUND_NS ((uint64_t)20000000)
#define SLICE_DEFAULT ((uint64_t)0)

/* Of the calling thread, and those that it starts from then on. Best effort. */
void slice_set(uint64_t ns);
/* 0: not known. */
uint64_t slice_get(void);

#endif
