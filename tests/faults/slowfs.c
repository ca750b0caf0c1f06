/* A file system that writes no faster than it was told: a folder shown a second time, each write made to wait.
 *
 *   slowfs BYTES_PER_S BACKING_FOLDER MOUNT_POINT      (stays in the foreground; unmount with fusermount3 -u)
 *
 * cgroup and device limits miss buffered writes: the page cache takes them at once. Here write() itself waits, as on a full
 * cache, a USB disk or a network mount. Build: cc -O2 slowfs.c $(pkg-config --cflags --libs fuse3)
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static double bytes_per_s;
static char backing[PATH_MAX];

static const char* real(const char* path, char* into) {
  snprintf(into, 2 * PATH_MAX, "%s%s", backing, path);
  return into;
}
#define REAL(path) real(path, (char[2 * PATH_MAX]){0})
static int result(long value) { return value < 0 ? -errno : (int)value; }

static int fs_getattr(const char* path, struct stat* st, struct fuse_file_info* fi) {
  (void)fi;
  return result(lstat(REAL(path), st));
}
static int fs_readdir(const char* path, void* buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info* fi,
                      enum fuse_readdir_flags flags) {
  (void)at, (void)fi, (void)flags;
  DIR* dir = opendir(REAL(path));
  if (!dir) return -errno;
  for (struct dirent* entry; (entry = readdir(dir));) fill(buf, entry->d_name, NULL, 0, 0);
  closedir(dir);
  return 0;
}
static int fs_mkdir(const char* path, mode_t mode) { return result(mkdir(REAL(path), mode)); }
static int fs_unlink(const char* path) { return result(unlink(REAL(path))); }
static int fs_rmdir(const char* path) { return result(rmdir(REAL(path))); }
static int fs_rename(const char* from, const char* to, unsigned flags) {
  return flags ? -EINVAL : result(rename(REAL(from), REAL(to)));
}
static int fs_chmod(const char* path, mode_t mode, struct fuse_file_info* fi) {
  (void)fi;
  return result(chmod(REAL(path), mode));
}
static int fs_truncate(const char* path, off_t size, struct fuse_file_info* fi) {
  return fi ? result(ftruncate((int)fi->fh, size)) : result(truncate(REAL(path), size));
}
static int fs_utimens(const char* path, const struct timespec ts[2], struct fuse_file_info* fi) {
  (void)fi;
  return result(utimensat(AT_FDCWD, REAL(path), ts, AT_SYMLINK_NOFOLLOW));
}
static int opened(int fd, struct fuse_file_info* fi) {
  if (fd < 0) return -errno;
  fi->fh = (unsigned long)fd;
  return 0;
}
static int fs_create(const char* path, mode_t mode, struct fuse_file_info* fi) {
  return opened(open(REAL(path), fi->flags | O_CREAT, mode), fi);
}
static int fs_open(const char* path, struct fuse_file_info* fi) { return opened(open(REAL(path), fi->flags), fi); }
static int fs_read(const char* path, char* buf, size_t size, off_t at, struct fuse_file_info* fi) {
  (void)path;
  return result(pread((int)fi->fh, buf, size, at));
}
static int fs_write(const char* path, const char* buf, size_t size, off_t at, struct fuse_file_info* fi) {
  (void)path;
  const double wait_s = (double)size / bytes_per_s;
  struct timespec wait = {(time_t)wait_s, (long)((wait_s - (double)(time_t)wait_s) * 1e9)};
  while (nanosleep(&wait, &wait) == -1 && errno == EINTR) {
  }
  return result(pwrite((int)fi->fh, buf, size, at));
}
static int fs_fsync(const char* path, int data_only, struct fuse_file_info* fi) {
  (void)path, (void)data_only;
  return result(fsync((int)fi->fh));
}
static int fs_release(const char* path, struct fuse_file_info* fi) {
  (void)path;
  return result(close((int)fi->fh));
}
static int fs_statfs(const char* path, struct statvfs* st) { return result(statvfs(REAL(path), st)); }

int main(int argc, char** argv) {
  if (argc != 4 || (bytes_per_s = atof(argv[1])) <= 0 || !realpath(argv[2], backing)) {
    fprintf(stderr, "usage: slowfs BYTES_PER_S BACKING_FOLDER MOUNT_POINT\n");
    return 2;
  }
  static const struct fuse_operations ops = {
      .getattr = fs_getattr, .readdir = fs_readdir, .mkdir = fs_mkdir,     .unlink = fs_unlink, .rmdir = fs_rmdir,
      .rename = fs_rename,   .chmod = fs_chmod,     .truncate = fs_truncate, .utimens = fs_utimens,
      .create = fs_create,   .open = fs_open,       .read = fs_read,       .write = fs_write,   .fsync = fs_fsync,
      .release = fs_release, .statfs = fs_statfs};
  char* args[] = {argv[0], "-f", "-o", "max_threads=8,max_idle_threads=8", argv[3], NULL};
  return fuse_main(5, args, &ops, NULL);
}
