# Programs over time: the tables of a program, and one run of it. csrc/program.h tells what they mean.

def program_ops():
    """Names of the operations, in the order of their numbers."""
    names = []
    cdef int i = 0
    while rk_op_names[i] != NULL:
        names.append(rk_op_names[i].decode())
        i += 1
    return names


cdef class Program:
    """The tables of a program, checked as far as the executor relies on them.

    Args:
        bases, instructions, products, weights, stages, states: int32 matrices whose rows are
            rk_base, rk_instruction, rk_row_product, rk_weight, rk_stage and rk_state_place.
        sizes: elements of rows: temp, wide, kept, summands, states, sums.
        invariant_sizes: elements of each invariant.
        sequence_widths, output_widths: elements of a row of each input and output of every step.

    Raises ValueError where a number is out of range.
    """

    cdef rk_program program
    cdef object tables
    cdef tuple invariant_sizes, sequence_widths, output_widths

    def __cinit__(self, bases, instructions, products, weights, stages, states, tuple sizes,
                  tuple invariant_sizes, tuple sequence_widths, tuple output_widths):
        cdef rk_program *p = &self.program
        self.tables = []
        p.bases = <const rk_base *>self.table(bases, "bases", sizeof(rk_base), &p.n_bases)
        p.instructions = <const rk_instruction *>self.table(
            instructions, "instructions", sizeof(rk_instruction), &p.n_instructions)
        p.products = <const rk_row_product *>self.table(
            products, "products", sizeof(rk_row_product), &p.n_products)
        p.weights = <const rk_weight *>self.table(
            weights, "weights", sizeof(rk_weight), &p.n_weights)
        p.stages = <const rk_stage *>self.table(stages, "stages", sizeof(rk_stage), &p.n_stages)
        p.states = <const rk_state_place *>self.table(
            states, "states", sizeof(rk_state_place), &p.n_states)
        if p.n_bases > RK_MOST_BASES:
            raise ValueError(f"bases: expected at most {RK_MOST_BASES}, got {p.n_bases}")
        if p.n_states > RK_MOST_STATES:
            raise ValueError(f"states: expected at most {RK_MOST_STATES}, got {p.n_states}")
        (p.temp_size, p.wide_size, p.kept_size, p.summands_size, p.states_size, p.sums_size) = sizes
        self.invariant_sizes = invariant_sizes
        self.sequence_widths = sequence_widths
        self.output_widths = output_widths

    cdef const void *table(self, array, str name, size_t row, int *rows) except? NULL:
        cdef const int32_t[:, ::1] view = array
        if view.shape[1] * sizeof(int32_t) != row:
            raise ValueError(f"{name}: expected rows of {row // sizeof(int32_t)}, got {view.shape[1]}")
        rows[0] = <int>view.shape[0]
        self.tables.append(array)
        return <const void *>&view[0, 0] if view.shape[0] else NULL


cdef class Arrays:
    """Buffers, as many as there are."""

    cdef list held
    cdef int code

    def __cinit__(self, int code):
        self.code = code
        self.held = [Buffers(code)]

    cdef Buffers room(self):
        cdef Buffers last = self.held[len(self.held) - 1]
        if last.count == MOST_BUFFERS:
            last = Buffers(self.code)
            self.held.append(last)
        return last

    cdef void *flat(self, array, str name, idx size, bint writable) except? NULL:
        return self.room().flat(array, name, size, writable)

    cdef int steps(self, rk_steps *out, tuple given, str name, idx width, const rk_sequence *s,
                   idx all_steps, idx first, bint reverse, bint writable) except -1:
        """An array over all steps: (T, N, width), (N, T, width) or (1, N, width); or (rows, width).

        "local_" before a layout: it has the steps of the run alone.
        """
        array, layout = given
        cdef Buffers room = self.room()
        cdef Py_buffer *view = room.take(array, name, 2 if layout == "packed" else 3, writable)
        cdef int last = view.ndim - 1
        cdef idx size = room.itemsize
        cdef idx t, n, T
        if view.shape[last] != width or (width > 1 and view.strides[last] != size):
            raise ValueError(f"{name}: expected {width} features that adjoin, got {view.shape[last]}")
        if view.strides[0] % size or view.strides[1] % size:
            raise ValueError(f"{name}: strides are not whole elements")
        memset(out, 0, sizeof(rk_steps))
        out.grid.at = view.buf
        if layout == "packed":
            if view.shape[0] != rk_all_rows(s):
                raise ValueError(f"{name}: expected {rk_all_rows(s)} rows, got {view.shape[0]}")
            out.packed = 1
            out.grid.n = view.strides[0] // size
            return 0
        cdef bint local = layout.startswith("local_")
        cdef int t_axis = layout.endswith("batch_first")
        if local:
            all_steps, first = s.T, 0
        if view.shape[1 - t_axis] != s.N or (view.shape[t_axis] < all_steps and layout != "shared"):
            raise ValueError(
                f"{name}: expected T={all_steps} N={s.N}, got {view.shape[0]}, {view.shape[1]}")
        out.grid.n = view.strides[1 - t_axis] // size
        out.grid.t = 0 if layout == "shared" else view.strides[t_axis] // size
        if reverse:
            first = all_steps - 1 - first
        out.grid.at = <char *>out.grid.at + first * out.grid.t * size
        if reverse:
            out.grid.t = -out.grid.t
        return 0


def run_program(Program program, str dtype, int n_threads, idx T, idx N, Schedule schedule,
                bint reverse, tuple invariants, tuple sequences, tuple outputs, tuple initial,
                tuple restart, tuple final, kept, tuple kept_states, idx kept_size,
                bint backward=False, tuple d_final=(), tuple d_initial=(), tuple d_restart=(),
                summands=None, sums=None, idx first=0, idx count=-1):
    """Run a program over all steps.

    Args:
        T, N: steps of the longest row, and rows.
        schedule: lengths and resets, or None.
        reverse: whether steps are taken from the last to the first.
        invariants: flat arrays.
        sequences, outputs: (array, layout) each; layout "time_first" (T, N, width), "batch_first"
            (N, T, width), "shared" (1, N, width) or "packed" (rows, width), in the order of the kept.
        initial, restart: flat arrays of N rows each; restart empty: zero.
        final: for the states at each row's own end; empty in a backward pass.
        kept: flat, kept_size elements for each row of each step; None: keep nothing.
        kept_states: (base kind, offset) of each state.
        d_final, d_initial, d_restart: flat arrays of N rows each; None: zero, or not wanted.
        summands, sums: flat; for what the backward pass sums.
        first, count: the steps that are run, in the direction's own order; count -1: all. Then
            initial and final are the states before and after these; kept, summands, and arrays of
            a layout "local_..." or "packed", have their rows alone.
    """
    cdef int code = dtype_code(dtype)
    cdef Arrays arrays = Arrays(code)
    cdef rk_program_run r
    cdef const rk_program *p = &program.program
    cdef const void *invariant_at[256]
    cdef rk_steps sequence_at[64]
    cdef rk_steps output_at[64]
    cdef rk_sequence *s = &r.run
    cdef idx i, width, rows
    memset(&r, 0, sizeof(r))
    if T < 1 or N < 1:
        raise ValueError(f"sizes must be positive, got T={T} N={N}")
    s.T, s.N, s.n_threads, s.interrupted = T, N, n_threads, ask_for_interruption
    if schedule is not None:
        if schedule.steps != T or schedule.N != N:
            raise ValueError(f"schedule: expected T={T} N={N}, got {schedule.steps}, {schedule.N}")
        schedule.fill(&s.schedule, reverse)
    if count < 0:
        count = T - first
    if first < 0 or count < 1 or first + count > T:
        raise ValueError(f"first, count: expected steps of {T}, got {first} and {count}")
    cut_schedule(&s.schedule, N, first)
    s.T = count
    rows = rk_all_rows(s)
    r.program = p
    if (len(invariants) != len(program.invariant_sizes) or len(invariants) > 256
            or len(sequences) != len(program.sequence_widths) or len(sequences) > 64
            or len(outputs) != len(program.output_widths) or len(outputs) > 64):
        raise ValueError("invariants, sequences, outputs: not as many as the program has")
    for i in range(len(invariants)):
        invariant_at[i] = arrays.flat(invariants[i], f"invariant {i}", program.invariant_sizes[i], False)
    for i in range(len(sequences)):
        arrays.steps(&sequence_at[i], sequences[i], f"sequence {i}", program.sequence_widths[i], s,
                     T, first, reverse, False)
    for i in range(len(outputs)):
        arrays.steps(&output_at[i], outputs[i], f"output {i}", program.output_widths[i], s,
                     T, first, reverse, True)
    r.invariants, r.sequences, r.outputs = invariant_at, sequence_at, output_at
    for i in range(p.n_states):
        width = p.states[i].width
        r.initial[i] = arrays.flat(initial[i], f"initial {i}", N * width, False)
        if restart:
            r.restart[i] = arrays.flat(restart[i], f"restart {i}", N * width, False)
        if backward:
            r.d_final[i] = arrays.flat(d_final[i], f"d_final {i}", N * width, False)
            r.d_initial[i] = arrays.flat(d_initial[i], f"d_initial {i}", N * width, True)
            if d_restart:
                r.d_restart[i] = arrays.flat(d_restart[i], f"d_restart {i}", N * width, True)
        else:
            r.final[i] = arrays.flat(require_array(final[i], f"final {i}"), f"final {i}", N * width, True)
        r.kept_states[i] = rk_state_place(kept_states[i][0], kept_states[i][1], width)
    r.kept_size = kept_size
    if kept is not None:
        r.kept = arrays.flat(kept, "kept", rows * kept_size, True)
    if p.summands_size:
        r.summands = arrays.flat(require_array(summands, "summands"), "summands",
                                 rows * p.summands_size, True)
    if p.sums_size:
        r.sums = arrays.flat(require_array(sums, "sums"), "sums", N * p.sums_size, True)
    cdef const rk_executor *executor = &kernels.executor[code]
    cdef size_t size = 0
    cdef void *memory = borrow_workspace(executor.workspace(&r) + 64, &size)
    cdef rk_status status
    r.workspace = aligned(memory)
    with nogil:
        status = executor.backward(&r) if backward else executor.forward(&r)
    return_workspace(memory, size)
    ended(status)
