/* The kernel sources in the order of their dependence, for one element type (REAL_BITS). */
#include "kernels/real.h"

#include "kernels/vmath.h"

#include "kernels/tile.h"

#include "kernels/transpose.h"

#if HAS_MATRIX_UNIT
#include "kernels/amx.h"
#endif

#include "kernels/panels.h"

#include "kernels/copy.h"

#include "kernels/matmul.h"

#include "kernels/run.h"

#include "kernels/input_gradient.h"
#include "kernels/gradient_rows.h"
#include "kernels/weight_gradients.h"

#include "kernels/loops.h"

#include "kernels/arrays.h"

#include "kernels/update.h"

#include "kernels/norm.h"

#include "kernels/cross_entropy.h"

#include "kernels/ctc.h"

#include "kernels/rows.h"

#include "kernels/dropout.h"

#include "kernels/program/operations.h"

#include "kernels/program/loop.h"

#include "kernels/cells/gru.h"
#include "kernels/cells/lstm.h"
#include "kernels/cells/rnn.h"
