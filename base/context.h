/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * context.h - a stack to run on, and switching from one to another.
 *
 * Only coroutine.c uses this.  Sanitizers and valgrind are told of stacks
 * and switches here, so that nothing above has to know of them.
 */
#ifndef FOLIOD_BASE_CONTEXT_H
#define FOLIOD_BASE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define CONTEXT_ASAN	1
#endif
#if defined(__SANITIZE_THREAD__)
#define CONTEXT_TSAN	1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONTEXT_ASAN	1
#endif
#if __has_feature(thread_sanitizer)
#define CONTEXT_TSAN	1
#endif
#endif

/*
 * TSan builds use ucontext to have it tested; elsewhere it serves machines
 * that have no switch in assembly yet.
 */
#if defined(CONTEXT_TSAN) || \
	!(defined(__x86_64__) && defined(__LP64__)) && !defined(__aarch64__)
#define CONTEXT_UCONTEXT	1
#endif

#ifdef CONTEXT_UCONTEXT
#include <ucontext.h>
#endif

/* For functions whose frames outlive what AddressSanitizer knows of them. */
#ifdef CONTEXT_ASAN
#define CONTEXT_NO_ASAN	__attribute__((no_sanitize_address))
#else
#define CONTEXT_NO_ASAN
#endif

struct context {
#ifdef CONTEXT_UCONTEXT
	ucontext_t	uc;
#else
	void		*sp;		/* what is not running has its registers there */
#endif
#ifdef CONTEXT_ASAN
	void		*fake_stack;	/* ASan's, while not running */
	const void	*stack;
	size_t		stack_size;
#endif
#ifdef CONTEXT_TSAN
	void		*fiber;
#endif
	unsigned int	valgrind_id;
};

/* Take up the thread's own stack.  Repeatable. */
void context_init_thread(struct context *ctx);

/*
 * Prepare @ctx so that the first switch to it calls @entry(@arg) on the stack
 * [@stack, @stack + @size).  @entry calls context_entered() first and never
 * returns.  Returns 0 or -ENOMEM.
 */
int context_init(struct context *ctx, void *stack, size_t size,
		 void (*entry)(void *arg), void *arg);

/* Forget a context that is not running; its stack may be unmapped then. */
void context_fini(struct context *ctx);

/* To be called by a context's entry function. */
void context_entered(struct context *ctx);

/*
 * Leave @from, which runs, for @to; returns when something switches back.
 * @ended: @from's frames are dead except for its entry function's.
 */
void context_switch(struct context *from, struct context *to, bool ended);

#endif
