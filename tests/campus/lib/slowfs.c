// A file system that hangs or is slow on command: shows a directory at its own place, and waits before each operation.
//
// slowfs DIR CONTROL: the first word of CONTROL is `hang`, `slow` (with milliseconds) or anything else. Serves until it is killed.
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// What lies below the mount, and what is to be done.
static int below;
static const char *control;

static void wait_as_told(void) {
  for (;;) {
    char word[16] = "";
    int ms = 0;
    FILE *file = fopen(control, "re");
    if (file) {
      if (fscanf(file, "%15s %d", word, &ms) < 1) word[0] = 0;
      fclose(file);
    }
    if (!strcmp(word, "slow")) usleep(1000 * ms);
    if (strcmp(word, "hang")) return;
    usleep(50000);
  }
}
// Each operation begins with this; the path is then relative to `below`.
static const char *at(const char *path) {
  wait_as_told();
  return path[1] ? path + 1 : ".";
}
static int answer(long result) { return result < 0 ? -errno : 0; }
// What root makes for a user belongs to that user.
static int made(const char *path, long result) {
  struct fuse_context *who = fuse_get_context();
  if (result < 0) return -errno;
  return answer(fchownat(below, path, who->uid, who->gid, AT_SYMLINK_NOFOLLOW));
}

static void *begin(struct fuse_conn_info *connection, struct fuse_config *config) {
  (void)connection;
  // Nothing is remembered: each look waits.
  config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
  config->use_ino = config->hard_remove = 1;
  return NULL;
}
static int get_attr(const char *path, struct stat *about, struct fuse_file_info *file) {
  path = at(path);
  return answer(file ? fstat(file->fh, about) : fstatat(below, path, about, AT_SYMLINK_NOFOLLOW));
}
static int read_link(const char *path, char *target, size_t size) {
  ssize_t length = readlinkat(below, at(path), target, size - 1);
  if (length < 0) return -errno;
  target[length] = 0;
  return 0;
}
static int make_node(const char *path, mode_t mode, dev_t device) {
  path = at(path);
  return made(path, mknodat(below, path, mode, device));
}
static int make_dir(const char *path, mode_t mode) {
  path = at(path);
  return made(path, mkdirat(below, path, mode));
}
static int make_link(const char *target, const char *path) {
  path = at(path);
  return made(path, symlinkat(target, below, path));
}
static int hard_link(const char *from, const char *to) {
  from = at(from);
  return answer(linkat(below, from, below, at(to), 0));
}
static int remove_file(const char *path) { return answer(unlinkat(below, at(path), 0)); }
static int remove_dir(const char *path) { return answer(unlinkat(below, at(path), AT_REMOVEDIR)); }
static int move(const char *from, const char *to, unsigned flags) {
  from = at(from);
  return answer(renameat2(below, from, below, at(to), flags));
}
static int change_mode(const char *path, mode_t mode, struct fuse_file_info *file) {
  path = at(path);
  return answer(file ? fchmod(file->fh, mode) : fchmodat(below, path, mode, 0));
}
static int change_owner(const char *path, uid_t user, gid_t group, struct fuse_file_info *file) {
  (void)file;
  return answer(fchownat(below, at(path), user, group, AT_SYMLINK_NOFOLLOW));
}
static int cut(const char *path, off_t size, struct fuse_file_info *file) {
  path = at(path);
  if (file) return answer(ftruncate(file->fh, size));
  int fd = openat(below, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = answer(ftruncate(fd, size));
  close(fd);
  return result;
}
static int change_times(const char *path, const struct timespec times[2], struct fuse_file_info *file) {
  (void)file;
  return answer(utimensat(below, at(path), times, AT_SYMLINK_NOFOLLOW));
}
static int open_file(const char *path, struct fuse_file_info *file) {
  int fd = openat(below, at(path), (file->flags & ~O_NOFOLLOW) | O_CLOEXEC);
  if (fd < 0) return -errno;
  file->fh = fd;
  return 0;
}
static int create(const char *path, mode_t mode, struct fuse_file_info *file) {
  struct fuse_context *who = fuse_get_context();
  int fd = openat(below, at(path), file->flags | O_CREAT | O_CLOEXEC, mode);
  if (fd < 0) return -errno;
  file->fh = fd;
  return answer(fchown(fd, who->uid, who->gid));
}
static int read_file(const char *path, char *bytes, size_t size, off_t offset, struct fuse_file_info *file) {
  at(path);
  ssize_t count = pread(file->fh, bytes, size, offset);
  return count < 0 ? -errno : (int)count;
}
static int write_file(const char *path, const char *bytes, size_t size, off_t offset, struct fuse_file_info *file) {
  at(path);
  ssize_t count = pwrite(file->fh, bytes, size, offset);
  return count < 0 ? -errno : (int)count;
}
static int sync_file(const char *path, int data, struct fuse_file_info *file) {
  at(path);
  return answer(data ? fdatasync(file->fh) : fsync(file->fh));
}
static int release(const char *path, struct fuse_file_info *file) {
  (void)path;
  return answer(close(file->fh));
}
static int read_dir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                    enum fuse_readdir_flags flags) {
  (void)offset, (void)file, (void)flags;
  int fd = openat(below, at(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) return -errno;
  struct dirent *entry;
  while ((entry = readdir(dir))) {
    struct stat about = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
    if (fill(buffer, entry->d_name, &about, 0, 0)) break;
  }
  closedir(dir);
  return 0;
}

static const struct fuse_operations OPERATIONS = {
  .init = begin, .getattr = get_attr, .readlink = read_link, .mknod = make_node, .mkdir = make_dir, .unlink = remove_file,
  .rmdir = remove_dir, .symlink = make_link, .rename = move, .link = hard_link, .chmod = change_mode, .chown = change_owner,
  .truncate = cut, .open = open_file, .read = read_file, .write = write_file, .release = release, .fsync = sync_file,
  .readdir = read_dir, .create = create, .utimens = change_times,
};

int main(int count, char **words) {
  if (count != 3) return 2;
  control = words[2];
  below = open(words[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (below < 0) return perror(words[1]), 1;
  umask(0);
  char options[] = "allow_other,default_permissions,fsname=slowfs";
  char *arguments[] = {words[0], "-f", "-o", options, words[1]};
  return fuse_main(5, arguments, &OPERATIONS, NULL);
}
