/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blocks.c - write blocks to a disk, and tell which were acknowledged.
 *
 *	blocks work DEVICE LIST SEED FIRST WRITES
 *	blocks check FILE LIST MINIMUM
 *
 * "work" writes, past the page cache and one after the other, to random blocks
 * of the NR_BLOCKS from FIRST on; a block of 4 KiB is full of one 8-byte number,
 * the count of the write.  A line "acked BLOCK NUMBER" is added to LIST when
 * one was acknowledged.  It ends well after WRITES, and with status 3 when
 * the disk fails.
 *
 * "check" sees that FILE has in each block of LIST the number that was
 * acknowledged last; one block may have that of the write which came after the
 * last line.  LIST has to have MINIMUM lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_SIZE	4096
#define NR_BLOCKS	1024
#define PER_BLOCK	(BLOCK_SIZE / sizeof(uint64_t))

#define die(status, ...)					\
	do {							\
		fprintf(stderr, "blocks: " __VA_ARGS__);	\
		fputc('\n', stderr);				\
		exit(status);					\
	} while (0)

static int work(const char *device, const char *list, unsigned int seed,
		uint64_t first, uint64_t nr_writes)
{
	int fd = open(device, O_WRONLY | O_DIRECT);
	int list_fd = open(list, O_WRONLY | O_CREAT | O_APPEND, 0644);
	uint64_t *data = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	char line[64];
	int len;

	if (fd < 0 || list_fd < 0 || !data)
		die(2, "cannot open %s: %s", fd < 0 ? device : list,
		    strerror(errno));
	srandom(seed);
	for (uint64_t turn = 1; turn <= nr_writes; turn++) {
		uint64_t block = first + (uint64_t)random() % NR_BLOCKS;

		for (size_t i = 0; i < PER_BLOCK; i++)
			data[i] = turn;
		if (pwrite(fd, data, BLOCK_SIZE, (off_t)(block * BLOCK_SIZE)) !=
		    BLOCK_SIZE)
			return 3;
		len = snprintf(line, sizeof(line),
			       "acked %" PRIu64 " %" PRIu64 "\n", block, turn);
		if (write(list_fd, line, len) != len)
			die(2, "cannot write to %s: %s", list, strerror(errno));
	}
	return 0;
}

/* Is the block full of one number, @acked, or once @next in all? */
static bool check_block(int fd, uint64_t block, uint64_t acked, uint64_t next,
			bool *next_seen)
{
	uint64_t data[PER_BLOCK];

	if (pread(fd, data, BLOCK_SIZE, (off_t)(block * BLOCK_SIZE)) !=
	    BLOCK_SIZE)
		die(2, "cannot read block %" PRIu64, block);
	for (size_t i = 1; i < PER_BLOCK; i++) {
		if (data[i] == data[0])
			continue;
		printf("block %" PRIu64 " has %" PRIu64 " and %" PRIu64 "\n",
		       block, data[0], data[i]);
		return false;
	}
	if (data[0] == acked)
		return true;
	if (data[0] == next && !*next_seen) {
		*next_seen = true;
		return true;
	}
	printf("block %" PRIu64 " has %" PRIu64 ", not %" PRIu64 "\n", block,
	       data[0], acked);
	return false;
}

static int check(const char *name, const char *list, uint64_t minimum)
{
	uint64_t acked[NR_BLOCKS] = { 0 }, block, turn, last = 0, first = 0;
	uint64_t nr_bad = 0;
	bool next_seen = false;
	FILE *f = fopen(list, "r");
	int fd = open(name, O_RDONLY);
	char line[64];

	if (!f || fd < 0)
		die(2, "cannot open %s: %s", f ? name : list, strerror(errno));
	while (fgets(line, sizeof(line), f) && strchr(line, '\n')) {
		if (sscanf(line, "acked %" SCNu64 " %" SCNu64, &block,
			   &turn) != 2)
			die(2, "%s has a line that is none: %s", list, line);
		first = block - block % NR_BLOCKS;
		acked[block % NR_BLOCKS] = last = turn;
	}
	fclose(f);
	for (block = 0; block < NR_BLOCKS; block++)
		if (acked[block])
			nr_bad += !check_block(fd, first + block, acked[block],
					       last + 1, &next_seen);
	close(fd);
	printf("%s: %" PRIu64 " writes, %" PRIu64 " bad blocks\n", list, last,
	       nr_bad);
	if (last < minimum)
		printf("these are fewer than %" PRIu64 "\n", minimum);
	return nr_bad || last < minimum;
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "work") == 0)
		return work(argv[2], argv[3],
			    (unsigned int)strtoul(argv[4], NULL, 10),
			    strtoull(argv[5], NULL, 10),
			    strtoull(argv[6], NULL, 10));
	if (argc == 5 && strcmp(argv[1], "check") == 0)
		return check(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	die(2, "usage: blocks work DEVICE LIST SEED FIRST WRITES, "
	    "or blocks check FILE LIST MINIMUM");
}
