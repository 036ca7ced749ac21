// fake_root.h - the state behind --fake-root; see fake_root.c (files) and sys_ids.c (calls).
#ifndef DGM_LINUX_FAKE_ROOT_H
#define DGM_LINUX_FAKE_ROOT_H

#include "linux/process.h"

#include <sys/stat.h>

enum { ID_REAL, ID_EFFECTIVE, ID_SAVED, ID_FS, N_IDS };
enum { ID_USER, ID_GROUP };
enum { FAKE_MAX_GROUPS = 256 };

typedef struct FakeTable FakeTable;
typedef struct FakeRoot { // of a process; the guest's threads share it
    FakeTable *table;
    int fd;
    uint32_t host_uid, host_gid; // whose files are shown as root's
    uint32_t id[2][N_IDS];       // [ID_USER][ID_REAL]...
    uint32_t groups[FAKE_MAX_GROUPS];
    unsigned n_groups;
} FakeRoot;

enum { FAKE_UID = 1, FAKE_GID = 2, FAKE_MODE = 4, FAKE_DEVICE = 8 };
typedef struct FakeNote {
    uint32_t has; // which of these are set
    uint32_t uid, gid;
    uint32_t mode; // permission bits; with FAKE_DEVICE the type, too
    uint64_t rdev;
} FakeNote;

int fake_root_init(LinuxProcess *p, const LinuxConfig *c, DgmErr *err);
void fake_root_free(LinuxProcess *p);
// For the option --fake-root-state of a program that the guest execs; in `a`. NULL: no memory.
char *fake_root_state(const FakeRoot *f, Arena *a);
// Makes the host's facts about a file (asked for with STATX_BTIME) the guest's.
void fake_root_show(const FakeRoot *f, struct statx *s);
// Remembers. 0, or -ENOSPC when the table is full.
int fake_root_note(FakeRoot *f, const struct statx *s, const FakeNote *note);

#endif
