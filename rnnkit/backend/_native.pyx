# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The only door to the C kernels: checks every array, lends memory, releases the GIL, calls.

Arrays come as NumPy's own, or through the buffer protocol. Sizes, dtypes and layouts are checked here
once more, whatever the caller did before, because a kernel trusts them.
"""

cimport numpy

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.unicode cimport PyUnicode_AsUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset, strcmp, strlen

numpy.import_array()

cdef extern from *:
    """
    #undef I   /* of complex.h, which NumPy's headers include */
    """

cdef extern from "memory.h" nogil:
    int rk_keep_freed_memory()

cdef extern from "pool.h" nogil:
    double rk_barrier_time()
    int rk_threads_lost()
    int rk_ask_at_times(int (*question)() noexcept nogil)

cdef extern from "training.h" nogil:
    ctypedef ptrdiff_t idx
    enum:
        RK_RULE_STATES
        RK_RULE_COEFFICIENTS
    ctypedef struct rk_parameter:
        idx size
        void *p
        const void *d_p
        void *state[3]
        double c[7]
    ctypedef struct rk_parameters:
        int n_threads
        idx count
        const rk_parameter *parameters
    ctypedef struct rk_rule:
        const char *name
        int n_states, n_coefficients
        unsigned optional
        void (*update)(const rk_parameters *) noexcept nogil
    ctypedef struct rk_cross_entropy:
        int n_threads
        idx rows, classes
        const void *x
        const int64_t *target
        const unsigned char *kept
        const void *hit
        const void *total
        const void *rest
        double spread
        void *top
        void *others
        void *loss
        const void *d_loss
        void *d_x
    idx rk_ctc_width(idx labels)
    ctypedef struct rk_ctc:
        int n_threads
        idx T, N, C
        idx blank, labels
        const void *x
        const int64_t *target
        const int64_t *input_length
        const int64_t *target_length
        void *alphas
        void *loss
        const void *d_loss
        void *d_x
        void *workspace
    ctypedef struct rk_arrays:
        int n_threads
        idx count
        void *const *arrays
        const idx *sizes
        double factor
        double *sums
    ctypedef struct rk_rows:
        int n_threads
        idx count, width
        const int64_t *ids
        void *table
        void *rows
    ctypedef struct rk_dropout:
        int n_threads
        idx size
        const void *x
        void *y
        uint64_t seed
        uint32_t threshold
        double scale
    ctypedef struct rk_training:
        const rk_rule *rules
        idx (*norm_blocks)(const rk_arrays *) noexcept nogil
        double (*squared_norm)(const rk_arrays *) noexcept nogil
        void (*scale)(const rk_arrays *) noexcept nogil
        void (*cross_entropy_forward)(const rk_cross_entropy *) noexcept nogil
        void (*cross_entropy_backward)(const rk_cross_entropy *) noexcept nogil
        size_t (*ctc_workspace)(const rk_ctc *) noexcept nogil
        void (*ctc_forward)(const rk_ctc *) noexcept nogil
        void (*ctc_backward)(const rk_ctc *) noexcept nogil
        void (*take_rows)(const rk_rows *) noexcept nogil
        void (*add_rows)(const rk_rows *) noexcept nogil
        void (*dropout)(const rk_dropout *) noexcept nogil

cdef extern from "rnnkit.h" nogil:
    ctypedef enum rk_status:
        RK_OK
        RK_INTERRUPTED
    enum:
        RK_FLOAT32
        RK_FLOAT64
        RK_VARIANTS
    ctypedef struct rk_grid:
        void *at
        idx t, n
        int of_run
    ctypedef struct rk_schedule:
        const idx *order
        const idx *lag
        const idx *active
        const idx *length
        const idx *rows_before
        idx begins
        const unsigned char *restart
        const unsigned char *restarting
    ctypedef struct rk_sequence:
        idx T, N, I, H
        int variant, matrix_unit, n_threads
        double barrier_time
        int turn
        int (*interrupted)() noexcept nogil
        rk_schedule schedule
        rk_grid x
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh
        const void *h_0
        const void *c_0
        const void *h_r
        const void *c_r
        rk_grid y, c
        void *h_n
        void *c_n
        void *gates
        void *extra
        rk_grid d_y, d_c
        const void *d_h_n
        const void *d_c_n
        int d_y_before
        idx rows_after
        void *d_gates
        void *d_extra
        rk_grid d_x
        int d_x_add, d_w_add
        void *d_w_ih
        void *d_w_hh
        void *d_b_ih
        void *d_b_hh
        void *d_h_0
        void *d_c_0
        void *d_h_r
        void *d_c_r
        rk_grid d_h, d_c_all
        void *packed
        void *workspace
    ctypedef struct rk_cell:
        const char *name
        int n_gates, n_states
        const char *variants[2]
        int matrix_unit
        idx (*steps_together)(const rk_sequence *) noexcept nogil
        void (*stored)(const rk_sequence *, size_t *, size_t *) noexcept nogil
        size_t (*forward_workspace)(const rk_sequence *) noexcept nogil
        size_t (*backward_workspace)(const rk_sequence *) noexcept nogil
        size_t (*packed_size)(const rk_sequence *) noexcept nogil
        void (*pack)(const rk_sequence *) noexcept nogil
        rk_status (*forward)(const rk_sequence *) noexcept nogil
        rk_status (*backward)(const rk_sequence *) noexcept nogil
    ctypedef void (*rk_map)(const void *, void *, idx) noexcept nogil
    ctypedef struct rk_math:
        rk_map exp, tanh, sigmoid, log, log1p
    ctypedef struct rk_product:
        idx M, N, K
        const void *a
        idx a_m, a_k
        const void *b
        idx b_k, b_n
        const void *bias
        void *c
        idx c_m
        int adds
        int n_threads
        void *workspace
    ctypedef struct rk_matmul:
        size_t (*workspace)(const rk_product *) noexcept nogil
        void (*run)(const rk_product *) noexcept nogil
    enum:
        RK_MOST_STATES
        RK_MOST_BASES
        RK_TEMP
        RK_INVARIANT
        RK_SEQUENCE
        RK_STATE
        RK_KEPT
        RK_SUMMANDS
        RK_WIDE
        RK_OUTPUT
        RK_NEXT
        RK_FLOWED
        RK_SUMS
        RK_OP_gather
    const char *const rk_op_names[]
    idx rk_all_rows(const rk_sequence *)
    ctypedef struct rk_base:
        int kind, index
    ctypedef struct rk_instruction:
        int op
        int32_t size[3]
    ctypedef struct rk_row_product:
        int weight
    ctypedef struct rk_weight:
        int invariant
        int32_t K, M
    ctypedef struct rk_stage:
        int row_first
    ctypedef struct rk_state_place:
        int base_kind, offset, width
    ctypedef struct rk_program:
        int n_bases, n_instructions, n_products, n_weights, n_stages, n_states
        const rk_base *bases
        const rk_instruction *instructions
        const rk_row_product *products
        const rk_weight *weights
        const rk_stage *stages
        const rk_state_place *states
        idx temp_size, wide_size, kept_size, summands_size, states_size, sums_size
    ctypedef struct rk_steps:
        rk_grid grid
        int packed
    ctypedef struct rk_program_run:
        rk_sequence run
        const rk_program *program
        const void **invariants
        const rk_steps *sequences
        const rk_steps *outputs
        const void *initial[8]
        const void *restart[8]
        void *final[8]
        const void *d_final[8]
        void *d_initial[8]
        void *d_restart[8]
        rk_state_place kept_states[8]
        idx kept_size
        void *kept
        void *summands
        void *sums
        void *packed
        int is_packed
        void *workspace
    ctypedef struct rk_executor:
        size_t (*packed_size)(const rk_program *) noexcept nogil
        size_t (*workspace)(const rk_program_run *) noexcept nogil
        rk_status (*forward)(const rk_program_run *) noexcept nogil
        rk_status (*backward)(const rk_program_run *) noexcept nogil
    ctypedef struct rk_kernels:
        const char *isa
        rk_math math[2]
        rk_matmul matmul[2]
        const rk_cell *cells[2]
        rk_training training[2]
        rk_executor executor[2]
    const rk_kernels *const *rk_kernels_built()
    int rk_isa_supported(const char *)
    int rk_isa_granted(const char *)
    const char *rk_compiler()


# ---- instruction sets ---------------------------------------------------------------------------

cdef const rk_kernels *kernels = NULL


def version():
    """Version of the interface between this module and the Python side of rnnkit."""
    return 1


def compiler():
    """Name and version of the compiler that built the kernels."""
    return rk_compiler().decode()


def isa_built():
    """Instruction sets that the kernels were compiled for, the one to take first."""
    names = []
    cdef const rk_kernels *const *each = rk_kernels_built()
    while each[0] != NULL:
        names.append(each[0].isa.decode())
        each += 1
    return names


def isa_supported():
    """Those of `isa_built` that this processor runs, in that order."""
    return [name for name in isa_built() if rk_isa_supported(name.encode())]


def isa_in_use():
    """The instruction set in use."""
    return kernels.isa.decode()


def choose_isa(name=None):
    """Use the named instruction set; None takes the first that this processor runs.

    Raises ValueError for one that was not built, that this processor lacks, or that the system denies.
    """
    global kernels
    supported = isa_supported()
    if name is None:
        name = supported[0]
    elif name not in supported:
        raise ValueError(f"expected one of {', '.join(supported)} on this machine, got {name!r}")
    cdef const rk_kernels *const *each = rk_kernels_built()
    cdef bytes wanted = name.encode()
    if not rk_isa_granted(wanted):
        raise ValueError(f"{name}: the system denies its registers to this process")
    while strcmp(each[0].isa, wanted):
        each += 1
    kernels = each[0]


cdef int dtype_code(str dtype) except -1:
    if dtype == "float32":
        return RK_FLOAT32
    if dtype == "float64":
        return RK_FLOAT64
    raise TypeError(f"dtype: expected float32 or float64, got {dtype}")


cdef const rk_cell *find_cell(str name, int dtype) except NULL:
    cdef const rk_cell *cell = kernels.cells[dtype]
    cdef const char *wanted = PyUnicode_AsUTF8(name)
    while cell.name != NULL:
        if not strcmp(cell.name, wanted):
            return cell
        cell += 1
    raise KeyError(f"no kernel named {name!r}")


def has_kernel(str name, str dtype):
    """Whether a fused kernel of that name was built for that dtype."""
    if dtype not in ("float32", "float64"):
        return False
    try:
        find_cell(name, dtype_code(dtype))
    except KeyError:
        return False
    return True


# ---- memory -------------------------------------------------------------------------------------

def barrier_time():
    """Nanoseconds that a barrier of two threads takes here and now."""
    with nogil:
        time = rk_barrier_time()
    return time


def keep_freed_memory():
    """Ask the C library to keep freed memory for the next step; whether it will."""
    return bool(rk_keep_freed_memory())


include "arrays.pxi"
include "buffers.pxi"


# ---- interruption -------------------------------------------------------------------------------

cdef object interruption = None


cdef int ask_for_interruption() noexcept nogil:
    return rk_ask_at_times(ask_the_interpreter)


cdef int ask_the_interpreter() noexcept with gil:
    global interruption
    try:
        PyErr_CheckSignals()
        if rk_threads_lost():
            raise RuntimeError("a signal handler forked during a native run, which the child cannot finish")
    except BaseException as error:
        interruption = error
        return 1
    return 0


cdef int ended(rk_status status) except -1:
    global interruption
    if status == RK_OK:
        return 0
    error, interruption = interruption, None
    raise error if error is not None else KeyboardInterrupt()


# ---- sequences ----------------------------------------------------------------------------------

cdef double MATTERS = 5e5     # multiply-adds of one gate, from which on threads are worth a thought


cdef int fill_sizes(rk_sequence *s, const rk_cell *kernel, str variant, idx T, idx N, idx I, idx H,
                    int n_threads) except -1:
    memset(s, 0, sizeof(rk_sequence))
    if T < 1 or N < 1 or I < 1 or H < 1:
        raise ValueError(f"sizes must be positive, got T={T} N={N} I={I} H={H}")
    # An array with strides of zero is as long as one likes: no product of sizes may wrap around.
    if <double>T * N * (<double>I + H) >= 1e15:
        raise ValueError(f"sizes are too large, got T={T} N={N} I={I} H={H}")
    s.T, s.N, s.I, s.H = T, N, I, H
    s.n_threads = n_threads
    s.matrix_unit = kernel.matrix_unit
    s.interrupted = ask_for_interruption
    # Few rows may share out their units, which a barrier a step must be worth.
    if n_threads > 1 and N < 4 * n_threads and <double>T * N * H * (H + I) > MATTERS:
        with nogil:
            s.barrier_time = rk_barrier_time()
    cdef const char *wanted = PyUnicode_AsUTF8(variant)
    for i in range(RK_VARIANTS):
        if kernel.variants[i] != NULL and not strcmp(kernel.variants[i], wanted):
            s.variant = i
            return 0
    raise KeyError(f"kernel {kernel.name.decode()!r} has no variant {variant!r}")


cdef int require(const void *pointer, str name) except -1:
    if pointer == NULL:
        raise ValueError(f"{name}: missing")
    return 0


ctypedef rk_status (*kernel_function)(const rk_sequence *) noexcept nogil


cdef int run(kernel_function function, size_t workspace_size, rk_sequence *s) except -1:
    cdef size_t size = 0
    cdef void *memory = borrow_workspace(workspace_size + CACHE_LINE, &size)
    cdef rk_status status
    s.workspace = aligned(memory)
    with nogil:
        status = function(s)
    return_workspace(memory, size)
    return ended(status)


include "schedule.pxi"
include "packed.pxi"
include "layer.pxi"
include "tables.pxi"
include "program.pxi"
include "passes.pxi"


# ---- streams ------------------------------------------------------------------------------------

include "stepper.pxi"
include "program_stepper.pxi"


# ---- matrix products ----------------------------------------------------------------------------

def matmul(a, b, bias, c, str dtype, int n_threads, bint adds=False):
    """c = a . b + bias for matrices (M, K), (K, N), (M, N) and a vector (N), which may be None; or, where
    it adds, c = a . b + c.

    One axis of a and one of b must be contiguous, and the rows of c. Raises TypeError or ValueError
    naming the array otherwise.
    """
    cdef int code = dtype_code(dtype)
    cdef Buffers buffers = Buffers(code)
    cdef rk_product p
    cdef Py_buffer *view = buffers.take(a, "a", 2, False)
    p.M, p.K = view.shape[0], view.shape[1]
    p.a = view.buf
    take_strides(view, "a", buffers.itemsize, &p.a_m, &p.a_k)
    view = buffers.take(b, "b", 2, False)
    if view.shape[0] != p.K:
        raise ValueError(f"b: expected {p.K} rows, got {view.shape[0]}")
    p.N = view.shape[1]
    p.b = view.buf
    take_strides(view, "b", buffers.itemsize, &p.b_k, &p.b_n)
    view = buffers.take(c, "c", 2, True)
    if view.shape[0] != p.M or view.shape[1] != p.N:
        raise ValueError(f"c: expected {(p.M, p.N)}, got {(view.shape[0], view.shape[1])}")
    p.c = view.buf
    cdef idx c_n
    take_strides(view, "c", buffers.itemsize, &p.c_m, &c_n)
    if c_n != 1:
        raise ValueError("c: rows are not contiguous")
    if p.M < 1 or p.N < 1 or p.K < 1:
        raise ValueError(f"sizes must be positive, got M={p.M} N={p.N} K={p.K}")
    p.bias = buffers.dense(bias, "bias", 0, p.N, False)
    p.n_threads, p.adds = n_threads, adds
    run_product(&p, code)


cdef int run_product(rk_product *p, int code) except -1:
    """In a workspace of its own."""
    cdef rk_matmul product = kernels.matmul[code]
    cdef size_t size = 0
    cdef void *memory = borrow_workspace(product.workspace(p) + CACHE_LINE, &size)
    p.workspace = aligned(memory)
    with nogil:
        product.run(p)
    return_workspace(memory, size)
    return 0


cdef int take_strides(Py_buffer *view, str name, idx itemsize, idx *row, idx *column) except -1:
    """Strides in elements, one of which is 1; an axis of one element has any stride."""
    check_strides(view, name, 2, itemsize)
    row[0] = view.strides[0] // itemsize
    column[0] = 1 if view.shape[1] == 1 else view.strides[1] // itemsize
    if column[0] != 1 and view.shape[0] == 1:
        row[0] = 1
    if row[0] != 1 and column[0] != 1:
        raise ValueError(f"{name}: neither axis is contiguous")
    return 0


# ---- what else a training step touches ------------------------------------------------------------

include "training.pxi"


# ---- elementwise functions, for the test of their accuracy ----------------------------------------

def evaluate(str function, x, out, str dtype):
    """out[i] = function(x[i]) for "exp", "tanh", "sigmoid", "log" or "log1p", over vectors of one size."""
    cdef int code = dtype_code(dtype)
    cdef Buffers buffers = Buffers(code)
    cdef idx n = len(x)
    cdef const void *source = buffers.flat(x, "x", <size_t>n, False)
    cdef void *target = buffers.flat(out, "out", <size_t>n, True)
    cdef rk_math math = kernels.math[code]
    cdef rk_map chosen
    if function == "exp":
        chosen = math.exp
    elif function == "tanh":
        chosen = math.tanh
    elif function == "sigmoid":
        chosen = math.sigmoid
    elif function == "log":
        chosen = math.log
    elif function == "log1p":
        chosen = math.log1p
    else:
        raise ValueError(f"function: expected exp, tanh, sigmoid, log or log1p, got {function!r}")
    with nogil:
        chosen(source, target, n)
