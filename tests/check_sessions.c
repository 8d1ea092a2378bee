/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_sessions.c - the seeds of fuzz_session, judged without libFuzzer: in
 * every build, and by each compiler and sanitizer.
 *
 * A session that is wrong ends the program.  Files that are named as arguments
 * are run instead, such as what the fuzzer found.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SEEDS_MIN	40u
#define INPUT_MAX	(1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_file(const char *path)
{
	static uint8_t input[INPUT_MAX];
	FILE *f = fopen(path, "re");
	size_t size;

	if (!f) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	size = fread(input, 1, sizeof(input), f);
	fclose(f);
	/* The last one is the one, if this is where it ends. */
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(input, size);
}

static unsigned int run_directory(const char *dir)
{
	unsigned int nr = 0;
	struct dirent *de;
	char path[4400];
	DIR *d = opendir(dir);

	if (!d) {
		perror(dir);
		exit(EXIT_FAILURE);
	}
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		run_file(path);
		nr++;
	}
	closedir(d);
	return nr;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir");
	unsigned int nr;
	char dir[4000];

	for (int i = 1; i < argc; i++)
		run_file(argv[i]);
	if (argc > 1)
		return EXIT_SUCCESS;
	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/fuzz_session",
		 srcdir ? srcdir : ".");
	nr = run_directory(dir);
	printf("%u sessions\n", nr);
	return nr < SEEDS_MIN ? EXIT_FAILURE : EXIT_SUCCESS;
}
