/* SPDX-License-Identifier: GPL-2.0-or-later */
/* version.h - what --version says; CHANGELOG.md tells what it means. */
#ifndef FS_VERSION_H
#define FS_VERSION_H

#define TXNFS_VERSION "0.1"

#endif
