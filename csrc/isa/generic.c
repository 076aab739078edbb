/* The kernels for any processor. */
#include "rnnkit.h"

#include "vec/generic.h"
#define ISA_NAME generic
#include "kernels/kernels.h"
