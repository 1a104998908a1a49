// A file system with faults on command: shows a directory at its own place, late or not at all.
//
// faultfs DIR CONTROL: CONTROL holds one line, which is read before each call:
//   hang                      no call is answered
//   slow MS [MAX [RARE]]      each call takes MS to MAX milliseconds, one a minute takes RARE; the kernel remembers for a second
//   lag SECONDS               the kernel remembers names, absences and attributes so long without asking again, and what another
//                             host has removed is ESTALE to whoever has it open: as NFS, which asks again sooner
//   stale SECONDS             lag, and listings are remembered as well
//   squash                    root has the rights of nobody
//   full                      there is no quota left: nothing new is written
// Anything else is no fault. Locks are this host's alone in all of them. Serves until it is killed.
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

// What lies below the mount, and what is to be done.
static int below;
static const char *control;

static struct fuse_config *kernel;
static const int RARELY = 60, REMEMBERED_SECONDS = 1;

static struct { char word[16]; int ms, most, rare; } fault;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// The listings that are remembered in `stale`, and the files removed here, which stay readable to those who have them open.
#define LISTINGS 256
#define REMOVED 4096
static struct listing { char path[512]; time_t read_at; char *entries; size_t length; } listings[LISTINGS];
static ino_t removed[REMOVED];
static unsigned next_removed;

static int is(const char *word) { return !strcmp(fault.word, word); }
static int is_late(void) { return is("lag") || is("stale"); }

static void read_control(void) {
  char word[16] = "";
  int ms = 0, most = 0, rare = 0;
  FILE *file = fopen(control, "re");
  if (file) {
    if (fscanf(file, "%15s %d %d %d", word, &ms, &most, &rare) < 1) word[0] = 0;
    fclose(file);
  }
  pthread_mutex_lock(&lock);
  strcpy(fault.word, word);
  fault.ms = ms, fault.most = most, fault.rare = rare;
  // The library looks at these at each answer.
  kernel->entry_timeout = kernel->attr_timeout = kernel->negative_timeout = is_late() ? ms : is("slow") ? REMEMBERED_SECONDS : 0;
  pthread_mutex_unlock(&lock);
}
// Once in each RARELY seconds.
static int is_rare(void) {
  static time_t last;
  pthread_mutex_lock(&lock);
  time_t now = time(NULL);
  if (!last) last = now;
  int rare = now - last >= RARELY;
  if (rare) last = now;
  pthread_mutex_unlock(&lock);
  return rare;
}
static void wait_as_told(void) {
  for (;;) {
    read_control();
    if (is("slow")) {
      int ms = fault.ms;
      if (fault.most > ms) ms += random() % (fault.most - ms);
      if (fault.rare && is_rare()) ms = fault.rare;
      usleep(1000 * ms);
    }
    if (!is("hang")) return;
    usleep(50000);
  }
}
// A file that was removed elsewhere has no name any more, and was not removed here.
static int is_stale(int fd) {
  struct stat about;
  if (!is_late() || fstat(fd, &about) || about.st_nlink || S_ISDIR(about.st_mode)) return 0;
  for (unsigned i = 0; i < REMOVED; i++)
    if (removed[i] == about.st_ino) return 0;
  return 1;
}
// Whether root asks for what nobody may not have: its own rights are those of others.
static int is_squashed(const char *path, mode_t rights) {
  struct stat about;
  if (!is("squash") || fuse_get_context()->uid) return 0;
  return !fstatat(below, path, &about, AT_SYMLINK_NOFOLLOW) && !S_ISLNK(about.st_mode) && (about.st_mode & rights) != rights;
}
// The same for a new name in a directory.
static int is_squashed_beside(const char *path) {
  char directory[4096];
  snprintf(directory, sizeof directory, "%s", path);
  char *slash = strrchr(directory, '/');
  if (slash) *slash = 0;
  return is_squashed(slash ? directory : ".", S_IWOTH | S_IXOTH);
}
// What keeps a new name from being made, or one from being removed.
static int refusal_beside(const char *path, int is_new) {
  if (is_new && is("full")) return -EDQUOT;
  return is_squashed_beside(path) ? -EACCES : 0;
}
// Each operation begins with this; the path is then relative to `below`. What has no name any more has no path.
static const char *at(const char *path) {
  wait_as_told();
  return path && path[1] ? path + 1 : ".";
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
  kernel = config;
  read_control();
  config->use_ino = config->hard_remove = config->nullpath_ok = 1;
  return NULL;
}
static int get_attr(const char *path, struct stat *about, struct fuse_file_info *file) {
  path = at(path);
  if (file && is_stale(file->fh)) return -ESTALE;
  return answer(file ? fstat(file->fh, about) : fstatat(below, path, about, AT_SYMLINK_NOFOLLOW));
}
static int read_link(const char *path, char *target, size_t size) {
  ssize_t length = readlinkat(below, at(path), target, size - 1);
  if (length < 0) return -errno;
  target[length] = 0;
  return 0;
}
static int make_node(const char *path, mode_t mode, dev_t device) {
  int refused = refusal_beside(path = at(path), 1);
  if (refused) return refused;
  return made(path, mknodat(below, path, mode, device));
}
static int make_dir(const char *path, mode_t mode) {
  int refused = refusal_beside(path = at(path), 1);
  if (refused) return refused;
  return made(path, mkdirat(below, path, mode));
}
static int make_link(const char *target, const char *path) {
  int refused = refusal_beside(path = at(path), 1);
  if (refused) return refused;
  return made(path, symlinkat(target, below, path));
}
static int hard_link(const char *from, const char *to) {
  from = at(from);
  return answer(linkat(below, from, below, at(to), 0));
}
static void note_removal(const char *path) {
  struct stat about;
  if (fstatat(below, path, &about, AT_SYMLINK_NOFOLLOW) || about.st_nlink != 1) return;
  pthread_mutex_lock(&lock);
  removed[next_removed++ % REMOVED] = about.st_ino;
  pthread_mutex_unlock(&lock);
}
static int remove_file(const char *path) {
  int refused = refusal_beside(path = at(path), 0);
  if (refused) return refused;
  note_removal(path);
  return answer(unlinkat(below, path, 0));
}
static int remove_dir(const char *path) {
  int refused = refusal_beside(path = at(path), 0);
  return refused ? refused : answer(unlinkat(below, path, AT_REMOVEDIR));
}
static int move(const char *from, const char *to, unsigned flags) {
  int refused = refusal_beside(from = at(from), 0);
  if (refused) return refused;
  note_removal(to = at(to));
  return answer(renameat2(below, from, below, to, flags));
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
  path = at(path);
  if (is_squashed(path, (file->flags & O_ACCMODE) == O_RDONLY ? S_IROTH : S_IWOTH)) return -EACCES;
  int fd = openat(below, path, (file->flags & ~O_NOFOLLOW) | O_CLOEXEC);
  if (fd < 0) return -errno;
  file->fh = fd;
  return 0;
}
static int create(const char *path, mode_t mode, struct fuse_file_info *file) {
  struct fuse_context *who = fuse_get_context();
  int refused = refusal_beside(path = at(path), 1);
  if (refused) return refused;
  int fd = openat(below, path, file->flags | O_CREAT | O_CLOEXEC, mode);
  if (fd < 0) return -errno;
  file->fh = fd;
  return answer(fchown(fd, who->uid, who->gid));
}
static int read_file(const char *path, char *bytes, size_t size, off_t offset, struct fuse_file_info *file) {
  at(path);
  if (is_stale(file->fh)) return -ESTALE;
  ssize_t count = pread(file->fh, bytes, size, offset);
  return count < 0 ? -errno : (int)count;
}
static int write_file(const char *path, const char *bytes, size_t size, off_t offset, struct fuse_file_info *file) {
  at(path);
  if (is("full")) return -EDQUOT;
  if (is_stale(file->fh)) return -ESTALE;
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
// The entries of a directory, one after the other. To be freed.
static char *list(int opened, size_t *length) {
  int fd = openat(opened, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) return NULL;
  char *entries = calloc(1, 1);
  struct dirent *entry;
  while ((entry = readdir(dir))) {
    entries = realloc(entries, *length + entry->d_reclen);
    memcpy(entries + *length, entry, entry->d_reclen);
    *length += entry->d_reclen;
  }
  closedir(dir);
  return entries;
}
static struct listing *place_of(const char *path) {
  unsigned hash = 0;
  for (const char *letter = path; *letter; letter++) hash = 31 * hash + (unsigned char)*letter;
  return &listings[hash % LISTINGS];
}
static char *remembered(const char *path, size_t *length) {
  struct listing *listing = place_of(path);
  char *entries = NULL;
  pthread_mutex_lock(&lock);
  if (listing->entries && !strcmp(listing->path, path) && time(NULL) - listing->read_at < fault.ms) {
    *length = listing->length;
    entries = memcpy(malloc(*length + 1), listing->entries, *length);
  }
  pthread_mutex_unlock(&lock);
  return entries;
}
static void remember(const char *path, const char *entries, size_t length) {
  struct listing *listing = place_of(path);
  if (strlen(path) >= sizeof listing->path) return;
  pthread_mutex_lock(&lock);
  free(listing->entries);
  strcpy(listing->path, path);
  listing->entries = memcpy(malloc(length + 1), entries, length);
  listing->length = length;
  listing->read_at = time(NULL);
  pthread_mutex_unlock(&lock);
}
// What an open directory is: `readdir` gets no path.
struct open_dir { int fd; char path[4096]; };

static int open_dir(const char *path, struct fuse_file_info *file) {
  path = at(path);
  if (is_squashed(path, S_IROTH | S_IXOTH)) return -EACCES;
  int fd = openat(below, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct open_dir *dir = malloc(sizeof *dir);
  dir->fd = fd;
  snprintf(dir->path, sizeof dir->path, "%s", path);
  file->fh = (uintptr_t)dir;
  return 0;
}
static int release_dir(const char *path, struct fuse_file_info *file) {
  struct open_dir *dir = (struct open_dir *)(uintptr_t)file->fh;
  (void)path;
  close(dir->fd);
  free(dir);
  return 0;
}
static int sync_dir(const char *path, int data, struct fuse_file_info *file) {
  at(path);
  int fd = ((struct open_dir *)(uintptr_t)file->fh)->fd;
  return answer(data ? fdatasync(fd) : fsync(fd));
}
static int read_dir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                    enum fuse_readdir_flags flags) {
  (void)offset, (void)flags;
  struct open_dir *dir = (struct open_dir *)(uintptr_t)file->fh;
  at(path);
  size_t length = 0;
  char *entries = is("stale") ? remembered(dir->path, &length) : NULL;
  if (!entries) {
    entries = list(dir->fd, &length);
    if (!entries) return -errno;
    if (is("stale")) remember(dir->path, entries, length);
  }
  for (size_t at = 0; at < length;) {
    struct dirent *entry = (struct dirent *)(entries + at);
    struct stat about = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
    if (fill(buffer, entry->d_name, &about, 0, 0)) break;
    at += entry->d_reclen;
  }
  free(entries);
  return 0;
}

static int stat_fs(const char *path, struct statvfs *about) {
  at(path);
  return answer(fstatvfs(below, about));
}

static const struct fuse_operations OPERATIONS = {
  .init = begin, .getattr = get_attr, .readlink = read_link, .mknod = make_node, .mkdir = make_dir, .unlink = remove_file,
  .rmdir = remove_dir, .symlink = make_link, .rename = move, .link = hard_link, .chmod = change_mode, .chown = change_owner,
  .truncate = cut, .open = open_file, .read = read_file, .write = write_file, .release = release, .fsync = sync_file,
  .opendir = open_dir, .readdir = read_dir, .releasedir = release_dir, .fsyncdir = sync_dir, .statfs = stat_fs, .create = create, .utimens = change_times,
};

int main(int count, char **words) {
  if (count != 3) return 2;
  control = words[2];
  below = open(words[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (below < 0) return perror(words[1]), 1;
  umask(0);
  char options[] = "allow_other,default_permissions,fsname=faultfs";
  char *arguments[] = {words[0], "-f", "-o", options, words[1]};
  return fuse_main(5, arguments, &OPERATIONS, NULL);
}
