// Loaded before all other libraries: a file system that hangs or is slow below SHIM_PATH, and a clock that is set.
//
// SHIM_PATH=DIR    calls about paths below it wait
// SHIM_WAIT=MS     so long; without it they never return
// SHIM_CLOCK=S     the time of day is so many seconds away from the true one; the time since the boot stays
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

static void wait_below(int dir, const char *path) {
  const char *place = getenv("SHIM_PATH"), *ms = getenv("SHIM_WAIT");
  char link[64], base[PATH_MAX];
  if (!place || !path) return;
  if (path[0] != '/' && dir >= 0) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t length = readlink(link, base, sizeof base - 1);
    base[length < 0 ? 0 : length] = 0;
    path = base;
  }
  if (strncmp(path, place, strlen(place))) return;
  if (!ms) for (;;) pause();
  usleep(1000 * atoi(ms));
}

#define OPEN(name) int name(const char *path, int flags, ...) { \
  va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); wait_below(-1, path); \
  return NEXT(int (*)(const char *, int, ...), #name)(path, flags, mode); }
#define OPENAT(name) int name(int dir, const char *path, int flags, ...) { \
  va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); wait_below(dir, path); \
  return NEXT(int (*)(int, const char *, int, ...), #name)(dir, path, flags, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

int unlinkat(int dir, const char *path, int flags) {
  wait_below(dir, path);
  return NEXT(int (*)(int, const char *, int), "unlinkat")(dir, path, flags);
}
int mkdirat(int dir, const char *path, mode_t mode) {
  wait_below(dir, path);
  return NEXT(int (*)(int, const char *, mode_t), "mkdirat")(dir, path, mode);
}
int mkdir(const char *path, mode_t mode) {
  wait_below(-1, path);
  return NEXT(int (*)(const char *, mode_t), "mkdir")(path, mode);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
  wait_below(from_dir, from);
  wait_below(to_dir, to);
  return NEXT(int (*)(int, const char *, int, const char *), "renameat")(from_dir, from, to_dir, to);
}
int statx(int dir, const char *restrict path, int flags, unsigned mask, struct statx *restrict about) {
  wait_below(dir, path);
  return NEXT(int (*)(int, const char *, int, unsigned, struct statx *), "statx")(dir, path, flags, mask, about);
}

static time_t away(void) {
  const char *seconds = getenv("SHIM_CLOCK");
  return seconds ? atol(seconds) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *at) {
  int done = NEXT(int (*)(clockid_t, struct timespec *), "clock_gettime")(clock, at);
  if (!done && clock == CLOCK_REALTIME) at->tv_sec += away();
  return done;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  int done = NEXT(int (*)(struct timeval *, void *), "gettimeofday")(at, zone);
  if (!done) at->tv_sec += away();
  return done;
}
time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
