/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handoff_wire.c - messages between a foliod and the one that follows it.
 *
 * Both ends wait here for each other, with a deadline: clients rest meanwhile,
 * and there is nothing else to do.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "server/conn_state.h"
#include "server/handoff_wire.h"

#define IOVS_MAX	5

/* Descriptors that a stranger may attach; one is wanted. */
#define FDS_MAX		8

union control {
	struct cmsghdr	align;
	char		buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

static int wait_for(int sock, short events, uint64_t deadline_ns)
{
	struct pollfd pfd = { .fd = sock, .events = events };
	uint64_t now = clock_now_ns();
	int ret;

	if (now >= deadline_ns)
		return -ETIMEDOUT;
	ret = poll(&pfd, 1, (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1);
	if (ret < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* ---- sending ---- */

static void attach(struct msghdr *msg, union control *control, int fd)
{
	struct cmsghdr *cmsg;

	memset(control, 0, sizeof(*control));
	msg->msg_control = control->buf;
	msg->msg_controllen = CMSG_SPACE(sizeof(int));
	cmsg = CMSG_FIRSTHDR(msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
}

/* Is there anything left of @iov behind @n bytes? */
static bool advance(struct msghdr *msg, size_t n)
{
	while (msg->msg_iovlen && n >= msg->msg_iov->iov_len) {
		n -= msg->msg_iov->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
	if (!msg->msg_iovlen)
		return false;
	msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + n;
	msg->msg_iov->iov_len -= n;
	return true;
}

static int send_all(int sock, uint64_t deadline_ns, struct msghdr *msg)
{
	ssize_t n;
	int ret;

	do {
		n = sendmsg(sock, msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			ret = wait_for(sock, POLLOUT, deadline_ns);
			if (ret)
				return ret;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			/* Attached to the first byte. */
			msg->msg_controllen = 0;
	} while (advance(msg, n > 0 ? n : 0));
	return 0;
}

int handoff_send(int sock, uint64_t deadline_ns, enum handoff_type type,
		 struct iovec *iov, unsigned int nr, int fd)
{
	struct handoff_head head = {
		.magic = htobe32(HANDOFF_MAGIC),
		.version = htobe16(HANDOFF_VERSION), .type = htobe16(type),
		.nr_fds = htobe32(fd >= 0),
	};
	struct iovec all[IOVS_MAX] = { { &head, sizeof(head) } };
	struct msghdr msg = { .msg_iov = all, .msg_iovlen = nr + 1 };
	union control control;
	uint64_t len = 0;

	assert(nr < IOVS_MAX);
	for (unsigned int i = 0; i < nr; i++) {
		all[i + 1] = iov[i];
		len += iov[i].iov_len;
	}
	if (len > CONN_STATE_MAX)
		return -EMSGSIZE;
	head.len = htobe32((uint32_t)len);
	if (fd >= 0)
		attach(&msg, &control, fd);
	return send_all(sock, deadline_ns, &msg);
}

int handoff_refuse(int sock, uint64_t deadline_ns, const char *text)
{
	struct iovec iov = { (char *)(uintptr_t)text,
			     MIN(strlen(text), (size_t)HANDOFF_BODY_MAX) };

	return handoff_send(sock, deadline_ns, HANDOFF_REFUSED, &iov, 1, -1);
}

/* ---- receiving ---- */

/* Keep the first descriptor that came in *@fdp, close all others. */
static void take_fds(struct msghdr *msg, int *fdp)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg;
	     cmsg = CMSG_NXTHDR(msg, cmsg)) {
		unsigned int nr;
		int fd;

		if (cmsg->cmsg_level != SOL_SOCKET ||
		    cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (unsigned int i = 0; i < nr; i++) {
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int),
			       sizeof(int));
			if (*fdp < 0)
				*fdp = fd;
			else
				close(fd);
		}
	}
}

/* Descriptors are taken if @fdp is not NULL, or closed by the kernel. */
static int recv_all(int sock, uint64_t deadline_ns, void *buf, size_t len,
		    int *fdp)
{
	char *p = buf;

	while (len) {
		struct iovec iov = { p, len };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		union control control;
		ssize_t n;
		int ret;

		if (fdp) {
			msg.msg_control = control.buf;
			msg.msg_controllen = sizeof(control.buf);
		}
		n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EAGAIN) {
			ret = wait_for(sock, POLLIN, deadline_ns);
			if (ret)
				return ret;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		if (fdp)
			take_fds(&msg, fdp);
		p += n;
		len -= n;
	}
	return 0;
}

int handoff_head_get(const void *buf, struct handoff_head *head)
{
	memcpy(head, buf, sizeof(*head));
	head->magic = be32toh(head->magic);
	head->version = be16toh(head->version);
	head->type = be16toh(head->type);
	head->len = be32toh(head->len);
	head->nr_fds = be32toh(head->nr_fds);
	if (head->magic != HANDOFF_MAGIC)
		return -EPROTO;
	if (head->version != HANDOFF_VERSION)
		return -EPROTONOSUPPORT;
	if (!head->type || head->type >= HANDOFF_NR)
		return -EPROTO;
	if (head->len > (head->type == HANDOFF_CONN ? CONN_STATE_MAX :
						      HANDOFF_BODY_MAX))
		return -EPROTO;
	return head->nr_fds == (head->type == HANDOFF_LISTENER ||
				head->type == HANDOFF_CONN) ? 0 : -EPROTO;
}

int handoff_recv(int sock, uint64_t deadline_ns, struct handoff_msg *msg)
{
	struct handoff_head head;
	int ret;

	*msg = (struct handoff_msg) { .fd = -1 };
	ret = recv_all(sock, deadline_ns, &head, sizeof(head), &msg->fd);
	if (!ret)
		ret = handoff_head_get(&head, &head);
	if (!ret && (msg->fd >= 0) != (head.nr_fds == 1))
		ret = -EPROTO;
	if (ret)
		goto out_fini;
	msg->type = (enum handoff_type)head.type;
	msg->len = head.len;
	msg->body = malloc(head.len + 1);
	ret = msg->body ? recv_all(sock, deadline_ns, msg->body, head.len,
				   NULL) : -ENOMEM;
	if (ret)
		goto out_fini;
	msg->body[head.len] = '\0';
	return 0;

out_fini:
	handoff_msg_fini(msg);
	return ret;
}

void handoff_msg_fini(struct handoff_msg *msg)
{
	if (msg->fd >= 0)
		close(msg->fd);
	free(msg->body);
	*msg = (struct handoff_msg) { .fd = -1 };
}

void handoff_wait_closed(int sock, uint64_t deadline_ns)
{
	char buf[256];

	while (!recv_all(sock, deadline_ns, buf, 1, NULL))
		;
}

bool handoff_peer_is_ours(int sock, pid_t *pidp)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
	    len != sizeof(cred))
		return false;
	*pidp = cred.pid;
	return cred.uid == geteuid();
}
