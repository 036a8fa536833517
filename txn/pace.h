/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pace.h - long work makes way. The scheduler looks at who waits for a
 * processor when its tick comes (every 4 ms with CONFIG_HZ=250): a thread that
 * computes for longer keeps a program waiting for so long, though that would
 * need a few microseconds. So long work calls pace() wherever it holds no
 * lock that others wait for: after half a millisecond without a pause it sleeps
 * for a moment, 50 us with what the kernel adds. (With 5 us, timer slack off,
 * a writer beside a commit of 10,000 files waited for 3.1 ms, with 50 for 0.9.)
 */
#ifndef TXN_PACE_H
#define TXN_PACE_H

/* For the calling thread: what it does from now on may be long. A thread that
 * answers requests does not begin: whoever waits for an fsync waits for it. */
void pace_begin(void);
void pace_end(void);
void pace(void); /* nothing, for others */

#endif
