#include "memory.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>

enum {
    KEPT_AT_MOST = 256 << 20,
    LARGEST_KEPT = 32 << 20, /* the most that glibc takes; larger blocks are mapped one by one */
};

int rk_keep_freed_memory(void)
{
    return mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) && mallopt(M_TRIM_THRESHOLD, KEPT_AT_MOST);
}
#else
int rk_keep_freed_memory(void)
{
    return 0;
}
#endif
