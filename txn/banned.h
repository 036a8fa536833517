/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * banned.h - functions that the project does not use: they cannot bound their
 * output, hide errors or keep hidden state. Using one is a compile error.
 */
#ifndef TXN_BANNED_H
#define TXN_BANNED_H

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok
#pragma GCC poison atoi atol atoll

#endif
