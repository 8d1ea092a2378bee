/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * context.c - switching stacks.
 *
 * A switch saves what the calling convention says a callee must preserve, on
 * the stack it leaves, and takes the same from the stack it goes to.  The
 * floating point control words are left alone: nobody here changes them.
 * Who owns the stacks, and when to switch, is coroutine.c's affair.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/context.h"
#include "base/util.h"

#ifdef CONTEXT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef CONTEXT_TSAN
#include <sanitizer/tsan_interface.h>

/*
 * TSan dies when it runs out of fibres (8128 with the threads), so refuse
 * well before.  Those of pooled coroutines count: they keep theirs.
 */
#define FIBERS_MAX	4000
static unsigned int nr_fibers;
#endif
#ifdef __has_include
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif

#ifndef CONTEXT_UCONTEXT

/*
 * context_swap(&from->sp, to->sp) and the first return address of a context,
 * which calls the function in one saved register with another as argument.
 */
void context_swap(void **save_sp, void *to_sp)
	__attribute__((visibility("hidden")));
void context_start(void) __attribute__((visibility("hidden")));

#if defined(__x86_64__)

/* Seven words are popped; two zeros more end the list of frames there. */
#define FRAME_WORDS	9
enum { FRAME_ARG = 3, FRAME_ENTRY = 4, FRAME_PC = 6 };	/* r12, rbx, pc */

/* An indirect jump is predicted by its target; a ret here never would be. */
__asm__(
"	.pushsection .text\n"
"	.globl	context_swap\n"
"	.hidden	context_swap\n"
"	.type	context_swap, @function\n"
"	.p2align 4\n"
"context_swap:\n"
"	.cfi_startproc\n"
"	pushq	%rbp\n"
"	pushq	%rbx\n"
"	pushq	%r12\n"
"	pushq	%r13\n"
"	pushq	%r14\n"
"	pushq	%r15\n"
"	movq	%rsp, (%rdi)\n"
"	movq	%rsi, %rsp\n"
"	popq	%r15\n"
"	popq	%r14\n"
"	popq	%r13\n"
"	popq	%r12\n"
"	popq	%rbx\n"
"	popq	%rbp\n"
"	popq	%rcx\n"
"	notrack jmp *%rcx\n"
"	.cfi_endproc\n"
"	.size	context_swap, . - context_swap\n"
"	.globl	context_start\n"
"	.hidden	context_start\n"
"	.type	context_start, @function\n"
"	.p2align 4\n"
"context_start:\n"
"	.cfi_startproc\n"
"	.cfi_undefined rip\n"
"	movq	%r12, %rdi\n"
"	callq	*%rbx\n"
"	ud2\n"
"	.cfi_endproc\n"
"	.size	context_start, . - context_start\n"
"	.popsection\n");

#elif defined(__aarch64__)

/* Twenty are taken off; two zeros more, to end the list of frames there. */
#define FRAME_WORDS	22
enum { FRAME_ENTRY = 0, FRAME_ARG = 1, FRAME_PC = 11 };	/* x19, x20, x30 */

__asm__(
"	.pushsection .text\n"
"	.globl	context_swap\n"
"	.hidden	context_swap\n"
"	.type	context_swap, %function\n"
"	.p2align 4\n"
"context_swap:\n"
"	.cfi_startproc\n"
"	sub	sp, sp, #160\n"
"	stp	x19, x20, [sp, #0]\n"
"	stp	x21, x22, [sp, #16]\n"
"	stp	x23, x24, [sp, #32]\n"
"	stp	x25, x26, [sp, #48]\n"
"	stp	x27, x28, [sp, #64]\n"
"	stp	x29, x30, [sp, #80]\n"
"	stp	d8, d9, [sp, #96]\n"
"	stp	d10, d11, [sp, #112]\n"
"	stp	d12, d13, [sp, #128]\n"
"	stp	d14, d15, [sp, #144]\n"
"	mov	x9, sp\n"
"	str	x9, [x0]\n"
"	mov	sp, x1\n"
"	ldp	x19, x20, [sp, #0]\n"
"	ldp	x21, x22, [sp, #16]\n"
"	ldp	x23, x24, [sp, #32]\n"
"	ldp	x25, x26, [sp, #48]\n"
"	ldp	x27, x28, [sp, #64]\n"
"	ldp	x29, x30, [sp, #80]\n"
"	ldp	d8, d9, [sp, #96]\n"
"	ldp	d10, d11, [sp, #112]\n"
"	ldp	d12, d13, [sp, #128]\n"
"	ldp	d14, d15, [sp, #144]\n"
"	add	sp, sp, #160\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size	context_swap, . - context_swap\n"
"	.globl	context_start\n"
"	.hidden	context_start\n"
"	.type	context_start, %function\n"
"	.p2align 4\n"
"context_start:\n"
"	.cfi_startproc\n"
"	.cfi_undefined x30\n"
"	mov	x0, x20\n"
"	blr	x19\n"
"	brk	#0\n"
"	.cfi_endproc\n"
"	.size	context_start, . - context_start\n"
"	.popsection\n");

#endif

static void stack_prepare(struct context *ctx, void *stack, size_t size,
			  void (*entry)(void *arg), void *arg)
{
	uintptr_t top = ((uintptr_t)stack + size) & ~(uintptr_t)15;
	uintptr_t *frame = (uintptr_t *)top - FRAME_WORDS;

	memset(frame, 0, sizeof(*frame) * FRAME_WORDS);
	frame[FRAME_ENTRY] = (uintptr_t)entry;
	frame[FRAME_ARG] = (uintptr_t)arg;
	frame[FRAME_PC] = (uintptr_t)context_start;
	ctx->sp = frame;
}

static inline void stack_swap(struct context *from, struct context *to)
{
	context_swap(&from->sp, to->sp);
}

#else /* CONTEXT_UCONTEXT */

/* makecontext() passes ints, so the two pointers arrive in halves. */
static void ucontext_start(unsigned int entry_hi, unsigned int entry_lo,
			   unsigned int arg_hi, unsigned int arg_lo)
{
	uintptr_t entry = (uintptr_t)((uint64_t)entry_hi << 32 | entry_lo);
	uintptr_t arg = (uintptr_t)((uint64_t)arg_hi << 32 | arg_lo);

	((void (*)(void *))entry)((void *)arg);
	abort();
}

static void stack_prepare(struct context *ctx, void *stack, size_t size,
			  void (*entry)(void *arg), void *arg)
{
	uint64_t e = (uintptr_t)entry, a = (uintptr_t)arg;

	getcontext(&ctx->uc);
	ctx->uc.uc_stack.ss_sp = stack;
	ctx->uc.uc_stack.ss_size = size;
	ctx->uc.uc_link = NULL;
	makecontext(&ctx->uc, (void (*)(void))ucontext_start, 4,
		    (unsigned int)(e >> 32), (unsigned int)e,
		    (unsigned int)(a >> 32), (unsigned int)a);
}

static inline void stack_swap(struct context *from, struct context *to)
{
	swapcontext(&from->uc, &to->uc);
}

#endif

#ifdef CONTEXT_ASAN
/* Whom this thread left in its last switch. */
static __thread struct context *switched_from;
#endif

void context_init_thread(struct context *ctx)
{
#ifdef CONTEXT_TSAN
	ctx->fiber = __tsan_get_current_fiber();
#else
	(void)ctx;
#endif
}

int context_init(struct context *ctx, void *stack, size_t size,
		 void (*entry)(void *arg), void *arg)
{
	memset(ctx, 0, sizeof(*ctx));
#ifdef CONTEXT_TSAN
	if (__atomic_add_fetch(&nr_fibers, 1, __ATOMIC_RELAXED) > FIBERS_MAX) {
		__atomic_sub_fetch(&nr_fibers, 1, __ATOMIC_RELAXED);
		return -ENOMEM;
	}
	ctx->fiber = __tsan_create_fiber(0);
#endif
#ifdef CONTEXT_ASAN
	ctx->stack = stack;
	ctx->stack_size = size;
	/* What only a coroutine's stack points to is no leak. */
	__lsan_register_root_region(stack, size);
#endif
#ifdef VALGRIND_STACK_REGISTER
	ctx->valgrind_id = (unsigned int)VALGRIND_STACK_REGISTER(stack,
						(char *)stack + size);
#endif
	stack_prepare(ctx, stack, size, entry, arg);
	return 0;
}

void context_fini(struct context *ctx)
{
#ifdef CONTEXT_TSAN
	__tsan_destroy_fiber(ctx->fiber);
	__atomic_sub_fetch(&nr_fibers, 1, __ATOMIC_RELAXED);
#endif
#ifdef CONTEXT_ASAN
	/* Frames that never returned left their red zones behind. */
	__asan_unpoison_memory_region(ctx->stack, ctx->stack_size);
	__lsan_unregister_root_region(ctx->stack, ctx->stack_size);
#endif
#ifdef VALGRIND_STACK_DEREGISTER
	VALGRIND_STACK_DEREGISTER(ctx->valgrind_id);
#endif
	(void)ctx;
}

CONTEXT_NO_ASAN void context_entered(struct context *ctx)
{
#ifdef CONTEXT_ASAN
	/* Also learns the bounds of the thread's own stack. */
	__sanitizer_finish_switch_fiber(ctx->fake_stack, &switched_from->stack,
					&switched_from->stack_size);
#else
	(void)ctx;
#endif
}

CONTEXT_NO_ASAN void context_switch(struct context *from, struct context *to,
				    bool ended)
{
#ifdef CONTEXT_ASAN
	/* Without a place to save it, ASan frees the fake stack. */
	from->fake_stack = NULL;
	__sanitizer_start_switch_fiber(ended ? NULL : &from->fake_stack,
				       to->stack, to->stack_size);
	switched_from = from;
#else
	(void)ended;
#endif
#ifdef CONTEXT_TSAN
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	stack_swap(from, to);
	context_entered(from);
}
