/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base.h - what every part of foliod may use.
 *
 * This is the folder's header for the others; it pulls in the pieces below.
 * Nothing in base/ knows of folios, devices or protocols.
 */
#ifndef FOLIOD_BASE_H
#define FOLIOD_BASE_H

#include "base/clock.h"
#include "base/coroutine.h"
#include "base/hist.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/size.h"
#include "base/util.h"
#include "base/waitq.h"

#endif
