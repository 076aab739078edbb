/* The kernel sources in the order of their dependence, for one element type (REAL_BITS). */
#include "kernels/real.h"

#include "kernels/vmath.h"

#include "kernels/tile.h"

#include "kernels/transpose.h"

#include "kernels/panels.h"

#include "kernels/copy.h"

#include "kernels/matmul.h"

#include "kernels/run.h"

#include "kernels/loops.h"

#include "kernels/gradients.h"

#include "kernels/cells/gru.h"
#include "kernels/cells/lstm.h"
#include "kernels/cells/rnn.h"
