/* How the C library's allocator treats memory that a training step frees and the next one wants again. */
#ifndef RNNKIT_MEMORY_H
#define RNNKIT_MEMORY_H

/* Ask malloc to keep what is freed, up to a limit, in place of giving it back to the system at every
   step: fresh pages cost up to a third of a small layer's training step. Returns whether it will; only
   glibc can be asked. */
int rk_keep_freed_memory(void);

#endif
