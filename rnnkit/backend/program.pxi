# Programs over time: their tables, and what a run brings for one. csrc/program.h tells what they mean.

# What messages call the arrays of a run; made once.
_ARRAY_NAMES = {
    kind: tuple([f"{kind} {i}" for i in range(256)])
    for kind in ("invariant", "sequence", "output", "initial", "restart", "final", "d_final",
                 "d_initial", "d_restart")
}


cdef class Program:
    """The tables of a program, checked as far as the executor relies on them.

    Args:
        bases, instructions, products, weights, stages, states: int32 matrices whose rows are
            rk_base, rk_instruction, rk_row_product, rk_weight, rk_stage and rk_state_place.
        sizes: elements of rows: temp, wide, kept, summands, states, sums.
        invariant_sizes: elements of each invariant.
        sequence_widths, output_widths: elements of a row of each input and output of every step.

    The tables are copied. Every number that the executor follows is checked: indices, ranges of stages, and
    that what an operation reads and writes lies within the rows of its bases; nothing is written to what is
    given. Rows of what is kept are as wide as a run says: those are checked when the program is run.

    Raises ValueError where a number is out of range; the message names the table and its row.
    """

    cdef rk_program program
    cdef object tables
    cdef tuple invariant_sizes, sequence_widths, output_widths
    cdef object kept_needed    # elements of a row of what is kept that the program reaches
    cdef object states_read    # numbers of the states that it reads
    cdef bint is_backward

    def __cinit__(self, bases, instructions, products, weights, stages, states, tuple sizes,
                  tuple invariant_sizes, tuple sequence_widths, tuple output_widths):
        cdef rk_program *p = &self.program
        self.tables = {}
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
        found = TableCheck(self.tables, sizes, invariant_sizes, sequence_widths, output_widths)
        self.kept_needed = found.kept_needed
        self.states_read = found.states_read
        self.is_backward = found.is_backward

    cdef const void *table(self, array, str name, size_t row, int *rows) except? NULL:
        cdef const int32_t[:, ::1] view = array
        if view.shape[1] * sizeof(int32_t) != row:
            raise ValueError(f"{name}: expected rows of {row // sizeof(int32_t)}, got {view.shape[1]}")
        if view.shape[0] >= 1 << 24:
            raise ValueError(f"{name}: {view.shape[0]} rows are too many")
        rows[0] = <int>view.shape[0]
        # A copy that nobody can change once it is checked.
        cdef bytes copied = memoryview(array).tobytes()
        self.tables[name] = copied
        return <const void *><const char *>copied if view.shape[0] else NULL

    cdef int check_size(self, idx T, idx N, idx left_size) except -1:
        """Of arrays as long as a run, of which a row of what is left has so many elements."""
        cdef const rk_program *p = &self.program
        cdef idx widest = max(left_size, p.summands_size, p.sums_size, p.states_size, p.wide_size, 1)
        cdef int i
        for i in range(p.n_states):
            widest = max(widest, p.states[i].width)
        if <double>T * N * widest >= 1e18:
            raise ValueError(f"sizes are too large, got T={T} N={N}")
        return 0

    cdef int check_kept(self, tuple kept_states, idx kept_size, bint backward) except -1:
        """Where a run keeps what the forward pass leaves."""
        if self.is_backward != backward and self.program.n_states:
            raise ValueError(f"backward: the program is one of a {'back' if self.is_backward else 'for'}ward pass")
        check_count("kept_states", kept_states, self.program.n_states)
        if kept_size < self.kept_needed:
            raise ValueError(f"kept_size: expected at least {self.kept_needed}, got {kept_size}")
        for i, (kind, offset) in enumerate(kept_states):
            width = self.program.states[i].width
            if kind == RK_KEPT:
                check_range(f"kept_states {i}: offset", offset, 0, kept_size - width)
            elif kind == RK_STATE:
                check_range(f"kept_states {i}: offset", offset, 0, 0)
            elif backward and i in self.states_read:
                raise ValueError(f"kept_states {i}: the program reads a state that was not kept")
            elif not backward:
                check_range(f"kept_states {i}: base kind", kind, RK_NEXT, RK_NEXT)
                check_range(f"kept_states {i}: offset", offset, 0, self.program.states_size - width)
        return 0


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
        return self.room().whole(array, name, size, writable)

    cdef int steps(self, rk_steps *out, tuple given, str name, idx width, const rk_sequence *s,
                   idx all_steps, idx first, bint reverse, bint writable) except -1:
        """An array over all steps: (T, N, width), (N, T, width) or (1, N, width); or (rows, width).

        "local_" before a layout: it has the steps of the run alone.
        """
        array, layout = given
        if layout not in ("time_first", "batch_first", "local_time_first", "local_batch_first",
                          "shared", "packed"):
            raise ValueError(f"{name}: there is no layout {layout!r}")
        cdef Buffers room = self.room()
        cdef Py_buffer *view = room.take(require_array(array, name), name, 2 if layout == "packed" else 3, writable)
        cdef int last = view.ndim - 1
        cdef idx size = room.itemsize
        cdef idx t, n, T
        if view.shape[last] != width or (width > 1 and view.strides[last] != size):
            raise ValueError(f"{name}: expected {width} features that adjoin, got {view.shape[last]}")
        check_strides(view, name, last, size)
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
        if view.shape[1 - t_axis] != s.N or view.shape[t_axis] < (
                1 if layout == "shared" else all_steps):
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


cdef class Packed:
    """A program's weights, packed by the first of many runs with the same invariants."""

    cdef Program program
    cdef const rk_kernels *of
    cdef int code, users
    cdef void *memory
    cdef bint ready

    def __cinit__(self, Program program, str dtype):
        if program is None:
            raise TypeError("program: expected a Program, got None")
        self.program, self.code = program, dtype_code(dtype)

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    cdef bint lend(self, rk_program_run *r) except -1:
        """To a run, as the instruction set in use wants them, until it gives them back; whether it gets them.

        While another run packs them, or uses what is packed for another instruction set, it does not.
        """
        if self.users and (self.of != kernels or not self.ready):
            return False
        if self.of != kernels:
            self.ready = False
            PyMem_RawFree(self.memory)
            self.memory, self.of = NULL, NULL
            self.memory = PyMem_RawMalloc(kernels.executor[self.code].packed_size(&self.program.program) + CACHE_LINE)
            if self.memory == NULL:
                raise MemoryError
            self.of = kernels
        r.packed, r.is_packed = aligned(self.memory), self.ready
        self.users += 1
        return True

    cdef void give_back(self, bint packed) noexcept:
        """`packed`: whether they are packed now."""
        self.users -= 1
        if packed:
            self.ready = True
