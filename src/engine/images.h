// images.h - kept translations in memory: one image for each segment of a file, in the code cache.
//
// An image is mapped from the file as it is and runs where it lies: its blocks jump to each other,
// and nothing is made of them until somebody asks. A Block and its links are made when the
// dispatcher looks for one, or when one is left by an exit that leads out of the image; faults are
// looked up in the image's own tables. A block whose guest code is another (when it is loaded, or
// later) is barred: its entry becomes a trap, through which whoever comes there is back at the
// dispatcher.
//
// Under Machine.lock, but for image_code_at, which signal handlers ask. Images go when the code
// cache is flushed.
#ifndef DGM_ENGINE_IMAGES_H
#define DGM_ENGINE_IMAGES_H

#include "engine/engine.h"
#include "engine/persist_file.h"

typedef struct Image {
    uint64_t lo;   // guest address that its blocks' pc are counted from
    uint8_t *code; // the host's image
    uint8_t *hot, *hot_end;
    CacheBlock *blocks;
    const CacheBody *body;
    const HostFrozenLink *links;
} Image;

enum { MAX_IMAGES = 1024 };
struct Images {
    _Atomic uint32_t n;
    Image at[MAX_IMAGES];
};

typedef enum ImageLoaded { IMAGE_LOADED, IMAGE_NO_ROOM, IMAGE_DAMAGED } ImageLoaded;
// A segment of the file, for guest code at lo; the machine's newest image.
ImageLoaded image_load(Machine *m, int fd, const CacheSegment *s, uint64_t lo);
// The kept block for this guest pc, now in the table, or NULL.
Block *image_block(Machine *m, const Image *i, uint64_t pc, uint32_t mode);
// Are this body's tables within it, and its guest code so many bytes?
bool image_is_sound(const CacheBody *body, uint64_t bytes, uint64_t guest_bytes);
// The place of a block in a sound body, or NULL.
CacheBlock *image_find(const CacheBody *body, uint64_t pc, uint32_t mode);

#endif
