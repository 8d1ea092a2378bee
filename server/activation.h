/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * activation.h - sockets that whoever started us has opened: systemd's
 * LISTEN_FDS, and --fd.
 */
#ifndef FOLIOD_SERVER_ACTIVATION_H
#define FOLIOD_SERVER_ACTIVATION_H

#include "server/options.h"

/*
 * Before any descriptor is opened.  Sockets passed by LISTEN_FDS, if they are
 * for this process, become the listeners of @opt, which may have been told no
 * others.  A descriptor that is a connected socket turns @opt into one with
 * RUN_SINGLE and single_fd.  The environment of LISTEN_FDS is removed.
 * Returns 0, or -errno as options_parse() does.
 */
int activation_apply(struct options *opt);

#endif
