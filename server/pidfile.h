/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pidfile.h - a file that says our process id while clients can connect.
 */
#ifndef FOLIOD_SERVER_PIDFILE_H
#define FOLIOD_SERVER_PIDFILE_H

/*
 * Write the process id to @path, which then has all of it or does not yet
 * exist.  *@absolutep is where that is, whatever the working directory will
 * be; for pidfile_remove().  0 or -errno.
 */
int pidfile_write(const char *path, char **absolutep);

/* Remove the file if it is still ours; frees *@absolutep, which may be NULL,
 * and sets it to NULL. */
void pidfile_remove(char **absolutep);

#endif
