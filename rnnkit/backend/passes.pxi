# The passes of a program over some of a run's steps at a time: products before the loop, the loop, and sums
# after it.

cdef enum:
    MOST_PRODUCTS = 64


cdef struct Tables:
    # Where a run's arrays are.
    const void *invariants[256]
    rk_steps sequences[64]
    rk_steps outputs[64]


cdef class Plan:
    """What all runs of a step's programs have in common.

    A *product* is an input of every step that is computed before the loop: rows, which the run brings, times
    a matrix, which no step changes. Sequences and outputs of a program are listed by the numbers of the
    products that they are, or of whose gradients; -1: the run brings them.

    Args:
        forward, backward: the programs; backward None: no backward pass will follow.
        kept_states: (base kind, offset) of each state after the step in a forward pass.
        kept_size: elements that the forward pass keeps for each row of each step.
        products: (rows, matrix, transposed, bias, width) each: which of the run's rows, times which of its
            operands or the transposed of that, plus which operand (-1: none), and how wide that is.
        forward_sequences, backward_sequences, backward_outputs: by number, as above.
        sums: (offset a, size a, offset b, size b) of each sum of products of two parts of what the backward
            program leaves as summands.

    Raises ValueError where a number is out of range.
    """

    cdef Program forward, backward
    cdef tuple kept_states, forward_sequences, backward_sequences, backward_outputs, sums
    cdef idx kept_size, left_size           # elements of a row of what is kept; of that and of all products
    cdef int n_products
    cdef int rows_of[MOST_PRODUCTS]
    cdef int matrix_of[MOST_PRODUCTS]
    cdef int transposed[MOST_PRODUCTS]
    cdef int bias_of[MOST_PRODUCTS]
    cdef idx width[MOST_PRODUCTS]
    cdef bint has_gradient[MOST_PRODUCTS]   # whether the backward program gives one

    def __cinit__(self, Program forward, Program backward, tuple kept_states, idx kept_size, tuple products,
                  tuple forward_sequences, tuple backward_sequences, tuple backward_outputs, tuple sums):
        if forward is None:
            raise TypeError("forward: expected a Program, got None")
        self.forward, self.backward = forward, backward
        self.kept_states, self.kept_size = kept_states, kept_size
        self.forward_sequences, self.backward_sequences = forward_sequences, backward_sequences
        self.backward_outputs, self.sums = backward_outputs, sums
        check_range("kept_size", kept_size, 0, (1 << 31) - 1)
        check_range("products", len(products), 0, MOST_PRODUCTS)
        self.n_products = len(products)
        self.left_size = kept_size
        for i, (rows, matrix, transposed, bias, width) in enumerate(products):
            check_range(f"products {i}: rows", rows, 0, MOST_PRODUCTS - 1)
            check_range(f"products {i}: matrix", matrix, 0, MOST_PRODUCTS - 1)
            check_range(f"products {i}: bias", bias, -1, MOST_PRODUCTS - 1)
            check_range(f"products {i}: width", width, 1, (1 << 31) - 1)
            self.rows_of[i], self.matrix_of[i], self.bias_of[i] = rows, matrix, bias
            self.transposed[i], self.width[i] = transposed, width
            self.left_size += width
        self.check_numbers("forward_sequences", forward_sequences, forward.sequence_widths)
        forward.check_kept(kept_states, kept_size, False)
        if backward is None:
            return
        self.check_numbers("backward_sequences", backward_sequences, backward.sequence_widths)
        self.check_numbers("backward_outputs", backward_outputs, backward.output_widths)
        backward.check_kept(kept_states, kept_size, True)
        for number in backward_outputs:
            if number >= 0:
                self.has_gradient[number] = True
        summands = backward.program.summands_size
        for i in range(len(sums)):
            a, width_a, b, width_b = sums[i]
            for offset, width in ((a, width_a), (b, width_b)):
                check_range(f"sums {i}: width", width, 1, summands)
                check_range(f"sums {i}: offset", offset, 0, summands - width)

    cdef int check_numbers(self, str name, tuple numbers, tuple widths) except -1:
        check_count(name, numbers, len(widths))
        for i, (number, width) in enumerate(zip(numbers, widths)):
            check_range(f"{name} {i}", number, -1, self.n_products - 1)
            if number >= 0 and self.width[number] != width:
                raise ValueError(f"{name} {i}: expected a width of {width}, got {self.width[number]}")
        return 0


cdef class Passes:
    """The passes of one direction over one batch.

    They hold what a forward pass leaves for a backward pass over the same steps; where the plan has no
    backward program nothing is left, and the same passes serve any number of runs.

    Args:
        plan, dtype: of the programs.
        n_threads: upper bound.
        T, N: steps of the longest row, and rows.
        schedule: lengths and resets, or None.
        reverse: whether steps are taken from the last to the first.
        layout: of rows of several steps: "time_first", all of a step after each other, "batch_first", all of
            a row, or "packed", as they are kept, in the direction's own order.
        block: steps of a block: a sum over steps is a sum over blocks, from the last to the first.
        packed: keeps the weights of the forward program for later runs with the same invariants; None: they
            are packed anew by each.

    Both passes take the steps from ``first`` on, ``count`` of them, in the direction's own order, and of
    the arrays that the steps share:
        rows: (rows of these steps, width) contiguous, what products are made of.
        operands: their matrices, one axis contiguous, and vectors.
        invariants: flat arrays, contiguous.
        given, outputs: (array, layout) each of those sequences and outputs that are no products. Layout
            "time_first" (T, N, width), "batch_first" (N, T, width) or "shared" (1, N, width), of all steps of
            the run; with "local_" before it, of these steps alone; "packed" (rows, width): the rows of these
            steps, as they are kept.
        initial, restart: N rows each, contiguous: the states before the first of the steps, and where a
            restart begins. restart empty: zero.

    Raises TypeError or ValueError naming the array for anything that the executor could not take,
    MemoryError, and whatever a signal handler raised meanwhile (KeyboardInterrupt).
    """

    cdef Plan plan
    cdef int code, n_threads
    cdef idx itemsize, T, N, block
    cdef Schedule schedule
    cdef Packed weights
    cdef bint reverse, packed, batch_first
    cdef Left left                          # by the last forward pass; None: nothing

    def __cinit__(self, Plan plan, str dtype, int n_threads, idx T, idx N, Schedule schedule, bint reverse,
                  str layout, idx block, Packed packed=None):
        if plan is None:
            raise TypeError("plan: expected a Plan, got None")
        if T < 1 or N < 1 or block < 1:
            raise ValueError(f"sizes must be positive, got T={T} N={N} block={block}")
        if schedule is not None and (schedule.steps != T or schedule.N != N):
            raise ValueError(f"schedule: expected T={T} N={N}, got {schedule.steps}, {schedule.N}")
        self.plan, self.code, self.n_threads = plan, dtype_code(dtype), n_threads
        self.itemsize = 4 if self.code == RK_FLOAT32 else 8
        self.T, self.N, self.schedule, self.block = T, N, schedule, block
        if layout not in ("packed", "time_first", "batch_first"):
            raise ValueError(f"layout: there is no layout {layout!r}")
        self.reverse, self.packed, self.batch_first = reverse, layout == "packed", layout == "batch_first"
        if not self.packed and schedule is not None and schedule.ragged:
            raise ValueError(f"layout: expected packed, since the batch is ragged, got {layout}")
        plan.forward.check_size(T, N, plan.left_size)
        if plan.backward is not None:
            plan.backward.check_size(T, N, plan.left_size)
        if packed is not None and (packed.program is not plan.forward or packed.code != self.code):
            raise ValueError("packed: expected the weights of this program and dtype")
        self.weights = packed

    def forget(self):
        """Let go of what the forward pass has left."""
        self.left = None

    def follow(self, Plan plan):
        """Go on by another plan, with the same forward program and products and what these leave."""
        cdef Plan own = self.plan
        cdef int i
        if plan is own:
            return
        if plan is None:
            raise TypeError("plan: expected a Plan, got None")
        cdef bint same = (plan.forward is own.forward and plan.kept_states == own.kept_states
                          and plan.kept_size == own.kept_size and plan.n_products == own.n_products)
        for i in range(plan.n_products if same else 0):
            same = same and plan.width[i] == own.width[i]
        if not same:
            raise ValueError("plan: expected one of the same forward pass")
        if plan.backward is not None:
            plan.backward.check_size(self.T, self.N, plan.left_size)
        self.plan = plan

    def forward(self, idx first, idx count, tuple rows, tuple operands, tuple invariants, tuple given,
                tuple outputs, tuple initial, tuple restart, tuple final):
        """Run forward.

        Args:
            final: for the states after the last of the steps, or at a row's own end. Each may be the array
                of the same state in ``initial``, which then moves on in place: a row's own is written once
                nothing more of that row is read.
        """
        cdef Plan plan = self.plan
        cdef Arrays arrays = Arrays(self.code)
        cdef rk_program_run r
        cdef Tables tables
        cdef int i
        self.begin(&r, plan.forward, first, count)
        self.left = None
        cdef Left left = Left(plan, rk_all_rows(&r.run), self.itemsize, first, count)
        self.multiply(left, arrays, rows, operands)
        self.take_shared(&r, &tables, left, arrays, plan.forward, invariants, plan.forward_sequences, given,
                         initial, restart)
        self.take_outputs(&r, &tables, arrays, plan.forward, None, outputs, NULL)
        check_count("final", final, plan.forward.program.n_states)
        for i in range(plan.forward.program.n_states):
            r.final[i] = arrays.flat(require_array(final[i], _ARRAY_NAMES["final"][i]),
                                     _ARRAY_NAMES["final"][i], self.N * r.kept_states[i].width, True)
        cdef bint lent = self.weights is not None and self.weights.lend(&r)
        cdef bint done = False
        try:
            execute(&r, self.code, False)
            done = True
        finally:
            if lent:
                self.weights.give_back(done)
        if plan.backward is not None:
            self.left = left

    def backward(self, idx first, idx count, tuple rows, tuple operands, tuple invariants, tuple given,
                 tuple outputs, tuple initial, tuple restart, tuple d_final, tuple d_initial,
                 tuple d_restart, row_sums, tuple sums, tuple d_rows, tuple d_matrices, tuple d_biases,
                 bint add):
        """Run backward over the steps that the last forward pass went over.

        Args:
            d_final, d_initial, d_restart: gradients of the states; None: zero, or not wanted. d_restart,
                where not empty, is added to.
            row_sums: (N, sums_size) flat, which is added to.
            sums: an array for each sum of products.
            d_rows: for the gradient of each of ``rows``; None: not wanted.
            d_matrices, d_biases: for each product's gradients of its operands; None: not wanted.
            add: whether sums, d_matrices and d_biases are added to.
        """
        cdef Plan plan = self.plan
        if plan.backward is None:
            raise ValueError("backward: the plan has no backward program")
        cdef Left left = self.left  # held: another thread may forget it meanwhile
        if left is None or first != left.first or count != left.count:
            raise ValueError(f"first, count: no forward pass over steps {first} to {first + count - 1} is here")
        cdef Program program = plan.backward
        cdef Arrays arrays = Arrays(self.code)
        cdef rk_program_run r
        cdef Tables tables
        cdef int i
        cdef dict names = _ARRAY_NAMES
        self.begin(&r, program, first, count)
        cdef idx n_rows = rk_all_rows(&r.run), width
        cdef size_t summands = room(n_rows, program.program.summands_size, self.itemsize), size = summands
        for i in range(plan.n_products):
            size += room(n_rows, plan.width[i], self.itemsize)
        cdef char *memory = <char *>PyMem_RawMalloc(size + CACHE_LINE)
        if memory == NULL:
            raise MemoryError(f"{size} bytes could not be had")
        cdef char *d_product[MOST_PRODUCTS]
        cdef char *at = <char *>aligned(memory)
        r.summands, at = at, at + summands
        for i in range(plan.n_products):
            d_product[i], at = at, at + room(n_rows, plan.width[i], self.itemsize)
        try:
            self.take_shared(&r, &tables, left, arrays, program, invariants, plan.backward_sequences, given,
                             initial, restart)
            self.take_outputs(&r, &tables, arrays, program, plan.backward_outputs, outputs, d_product)
            check_count("d_final", d_final, program.program.n_states)
            check_count("d_initial", d_initial, program.program.n_states)
            if len(d_restart):
                check_count("d_restart", d_restart, program.program.n_states)
            for i in range(program.program.n_states):
                width = self.N * r.kept_states[i].width
                r.d_final[i] = arrays.flat(d_final[i], names["d_final"][i], width, False)
                r.d_initial[i] = arrays.flat(d_initial[i], names["d_initial"][i], width, True)
                if len(d_restart):
                    r.d_restart[i] = arrays.flat(d_restart[i], names["d_restart"][i], width, True)
            if program.program.sums_size:
                r.sums = arrays.flat(require_array(row_sums, "row_sums"), "row_sums",
                                     self.N * program.program.sums_size, True)
            execute(&r, self.code, True)
            self.add_sums(arrays, &r.run, <char *>r.summands, sums, add)
            self.back_through_products(arrays, &r.run, rows, operands, d_product, d_rows, d_matrices,
                                       d_biases, add)
        finally:
            PyMem_RawFree(memory)

    # ---- what both take

    cdef int begin(self, rk_program_run *r, Program program, idx first, idx count) except -1:
        cdef rk_sequence *s = &r.run
        cdef int i
        if first < 0 or count < 1 or first + count > self.T:
            raise ValueError(f"first, count: expected steps of {self.T}, got {first} and {count}")
        memset(r, 0, sizeof(rk_program_run))
        s.T, s.N, s.n_threads, s.interrupted = count, self.N, self.n_threads, ask_for_interruption
        if self.schedule is not None:
            self.schedule.fill(&s.schedule, self.reverse)
        cut_schedule(&s.schedule, self.N, first)
        r.program, r.kept_size = &program.program, self.plan.kept_size
        for i in range(program.program.n_states):
            r.kept_states[i] = rk_state_place(self.plan.kept_states[i][0], self.plan.kept_states[i][1],
                                              program.program.states[i].width)
        return 0

    cdef int take_shared(self, rk_program_run *r, Tables *tables, Left left, Arrays arrays, Program program,
                         tuple invariants, tuple numbers, tuple given, tuple initial,
                         tuple restart) except -1:
        cdef dict names = _ARRAY_NAMES
        cdef idx i, k = 0, width
        check_count("invariants", invariants, len(program.invariant_sizes))
        for i in range(len(invariants)):
            tables.invariants[i] = arrays.flat(require_array(invariants[i], names["invariant"][i]),
                                               names["invariant"][i], program.invariant_sizes[i], False)
        for i in range(len(numbers)):
            if numbers[i] >= 0:
                self.place(&tables.sequences[i], left.product_at[<idx>numbers[i]],
                           program.sequence_widths[i], r)
                continue
            if k == len(given):
                raise ValueError(f"given: expected more than {k}")
            arrays.steps(&tables.sequences[i], given[k], names["sequence"][i], program.sequence_widths[i],
                         &r.run, self.T, r.run.schedule.begins, self.reverse, False)
            k += 1
        check_count("given", given, k)
        check_count("initial", initial, program.program.n_states)
        if len(restart):
            check_count("restart", restart, program.program.n_states)
        for i in range(program.program.n_states):
            width = self.N * r.kept_states[i].width
            r.initial[i] = arrays.flat(require_array(initial[i], names["initial"][i]), names["initial"][i],
                                       width, False)
            if len(restart):
                r.restart[i] = arrays.flat(restart[i], names["restart"][i], width, False)
        r.invariants, r.sequences, r.outputs = tables.invariants, tables.sequences, tables.outputs
        r.kept = left.kept if self.plan.kept_size else NULL
        return 0

    cdef int take_outputs(self, rk_program_run *r, Tables *tables, Arrays arrays, Program program,
                          tuple numbers, tuple outputs, char **of_products) except -1:
        cdef idx i, k = 0
        for i in range(len(program.output_widths)):
            if numbers is not None and numbers[i] >= 0:
                self.place(&tables.outputs[i], of_products[<idx>numbers[i]], program.output_widths[i], r)
                continue
            if k == len(outputs):
                raise ValueError(f"outputs: expected more than {k}")
            arrays.steps(&tables.outputs[i], outputs[k], _ARRAY_NAMES["output"][i], program.output_widths[i],
                         &r.run, self.T, r.run.schedule.begins, self.reverse, True)
            k += 1
        return check_count("outputs", outputs, k) or 0

    cdef void place(self, rk_steps *out, char *rows, idx width, const rk_program_run *r) noexcept:
        """The rows of the steps of this run, as they come."""
        memset(out, 0, sizeof(rk_steps))
        out.grid.at, out.grid.n = rows, width
        if self.packed:
            out.packed = 1
            return
        out.grid.t = self.N * width
        if self.batch_first:
            out.grid.n, out.grid.t = r.run.T * width, width
        if self.reverse:
            out.grid.at = rows + (r.run.T - 1) * out.grid.t * self.itemsize
            out.grid.t = -out.grid.t

    cdef Py_buffer *rows_taken(self, Arrays arrays, tuple rows, int i, idx n_rows, bint writable,
                               str name) except NULL:
        if i >= len(rows) or rows[i] is None:
            raise ValueError(f"{name} {i}: missing")
        cdef Py_buffer *view = arrays.room().take(rows[i], name, 2, writable)
        if view.shape[0] != n_rows:
            raise ValueError(f"{name} {i}: expected {n_rows} rows, got {view.shape[0]}")
        if view.strides[1] != self.itemsize and view.shape[1] > 1 or (
                view.strides[0] != view.shape[1] * self.itemsize and n_rows > 1):
            raise ValueError(f"{name} {i}: not contiguous")
        return view

    cdef int matrix_taken(self, rk_product *p, Arrays arrays, tuple operands, int i, idx K, idx M,
                          bint transposed) except -1:
        """A matrix (K, M), or the transposed of one (M, K), as the right factor of a product."""
        if i >= len(operands):
            raise ValueError(f"operands: expected more than {i}")
        cdef Py_buffer *view = arrays.room().take(operands[i], "operand", 2, False)
        cdef idx k_axis = 1 if transposed else 0
        if view.shape[k_axis] != K or view.shape[1 - k_axis] != M:
            raise ValueError(f"operands {i}: expected {(M, K) if transposed else (K, M)}, got "
                             f"{(view.shape[0], view.shape[1])}")
        cdef idx steps[2]
        take_strides(view, "operand", self.itemsize, &steps[0], &steps[1])
        p.b, p.b_k, p.b_n = view.buf, steps[k_axis], steps[1 - k_axis]
        p.K, p.N = K, M
        return 0

    cdef void *bias_taken(self, Arrays arrays, tuple operands, int i) except? NULL:
        """What is added to product i; NULL: nothing."""
        cdef int bias = self.plan.bias_of[i]
        if bias < 0:
            return NULL
        if bias >= len(operands):
            raise ValueError(f"operands: expected more than {bias}")
        return arrays.flat(require_array(operands[bias], "bias"), "bias", self.plan.width[i], False)

    cdef int multiply_into(self, char *c, rk_product *p, bint adds=False) except -1:
        """c (M, N) = the product, or c + the product."""
        p.c, p.c_m, p.adds, p.n_threads = c, p.N, adds, self.n_threads
        return run_product(p, self.code)

    # ---- before the loop

    cdef int multiply(self, Left left, Arrays arrays, tuple rows, tuple operands) except -1:
        cdef Plan plan = self.plan
        cdef idx n_rows = left.n_rows
        cdef rk_product p
        cdef Py_buffer *view
        cdef int i
        for i in range(plan.n_products):
            memset(&p, 0, sizeof(p))
            view = self.rows_taken(arrays, rows, plan.rows_of[i], n_rows, False, "rows")
            p.M, p.a, p.a_m, p.a_k = n_rows, view.buf, view.shape[1], 1
            self.matrix_taken(&p, arrays, operands, plan.matrix_of[i], view.shape[1], plan.width[i],
                              plan.transposed[i])
            p.bias = self.bias_taken(arrays, operands, i)
            self.multiply_into(left.product_at[i], &p)
        return 0

    # ---- after the loop: sums over blocks of steps, from the last to the first

    cdef idx rows_before(self, const rk_sequence *s, idx t) noexcept:
        if s.schedule.rows_before != NULL:
            return s.schedule.rows_before[t] - s.schedule.rows_before[0]
        return t * self.N

    cdef char *rows_of_block(self, char *rows, idx width, const rk_sequence *s, idx first, idx last,
                             char *gathered) noexcept:
        """The rows of steps first .. last-1 of what has the rows of all, one after the other."""
        cdef idx row = width * self.itemsize, n
        cdef idx start = s.T - last if self.reverse else first
        if self.packed:
            return rows + self.rows_before(s, first) * row
        if not self.batch_first:
            return rows + start * self.N * row
        if last - first == s.T:
            return rows
        for n in range(self.N):
            memcpy(gathered + n * (last - first) * row, rows + (n * s.T + start) * row, (last - first) * row)
        return gathered

    cdef int add_sums(self, Arrays arrays, const rk_sequence *s, char *summands, tuple sums,
                      bint add) except -1:
        cdef Plan plan = self.plan
        cdef idx size = plan.backward.program.summands_size, end = rk_all_rows(s)
        cdef idx i, a, width_a, b, width_b, first, last
        cdef char *total
        cdef char *records
        cdef rk_product p
        check_count("sums", sums, len(plan.sums))
        for i in range(len(sums)):
            a, width_a, b, width_b = plan.sums[i]
            total = <char *>arrays.flat(require_array(sums[i], "sum"), "sum", width_a * width_b, True)
            first = (s.T - 1) // self.block * self.block
            last = s.T
            while last > 0:
                # Records stand from the last step to the first.
                records = summands + (end - self.rows_before(s, last)) * size * self.itemsize
                memset(&p, 0, sizeof(p))
                p.M, p.K, p.N = width_a, self.rows_before(s, last) - self.rows_before(s, first), width_b
                p.a, p.a_m, p.a_k = records + a * self.itemsize, 1, size
                p.b, p.b_k, p.b_n = records + b * self.itemsize, size, 1
                self.multiply_into(total, &p, add or last < s.T)
                last, first = first, first - self.block
        return 0

    cdef int back_through_products(self, Arrays arrays, const rk_sequence *s, tuple rows, tuple operands,
                                   char **d_product, tuple d_rows, tuple d_matrices, tuple d_biases,
                                   bint add) except -1:
        cdef Plan plan = self.plan
        cdef int i, k
        cdef set written = set()
        check_count("d_matrices", d_matrices, plan.n_products)
        check_count("d_biases", d_biases, plan.n_products)
        for i in range(plan.n_products - 1, -1, -1):
            if not plan.has_gradient[i]:
                continue
            k = plan.rows_of[i]
            if k < len(d_rows) and d_rows[k] is not None:
                self.d_of_rows(arrays, i, operands, d_product[i], d_rows, rk_all_rows(s), k in written)
                written.add(k)
            if d_matrices[i] is not None or d_biases[i] is not None:
                self.d_of_operands(arrays, i, s, rows, d_product[i], d_matrices[i], d_biases[i], add)
        return 0

    cdef int d_of_rows(self, Arrays arrays, int i, tuple operands, char *d, tuple d_rows, idx n_rows,
                       bint add) except -1:
        cdef Plan plan = self.plan
        cdef Py_buffer *view = self.rows_taken(arrays, d_rows, plan.rows_of[i], n_rows, True, "d_rows")
        cdef rk_product p
        memset(&p, 0, sizeof(p))
        p.M, p.a, p.a_m, p.a_k = n_rows, d, plan.width[i], 1
        self.matrix_taken(&p, arrays, operands, plan.matrix_of[i], plan.width[i], view.shape[1],
                          not plan.transposed[i])
        return self.multiply_into(<char *>view.buf, &p, add)

    cdef int d_of_operands(self, Arrays arrays, int i, const rk_sequence *s, tuple rows, char *d, d_matrix,
                           d_bias, bint add) except -1:
        cdef Plan plan = self.plan
        cdef idx width = plan.width[i], n_rows = rk_all_rows(s), block_rows = 0
        cdef Py_buffer *view = self.rows_taken(arrays, rows, plan.rows_of[i], n_rows, False, "rows")
        cdef idx K = view.shape[1]
        cdef char *total = <char *>arrays.flat(d_matrix, "d_matrix", K * width, True)
        cdef char *bias = <char *>arrays.flat(d_bias, "d_bias", width, True)
        cdef idx first = (s.T - 1) // self.block * self.block, last = s.T
        cdef char *gathered = NULL
        cdef float one_single = 1
        cdef double one_double = 1
        cdef void *one = &one_single
        if self.code != RK_FLOAT32:
            one = &one_double
        cdef char *d_at
        cdef char *x_at
        cdef bint adds
        cdef rk_product p
        if self.batch_first and s.T > self.block:
            block_rows = self.block * self.N
        cdef size_t size = <size_t>block_rows * (K + width) * self.itemsize
        if block_rows:
            gathered = <char *>PyMem_RawMalloc(size)
            if gathered == NULL:
                raise MemoryError(f"{size} bytes could not be had")
        try:
            while last > 0:
                adds = add or last < s.T
                d_at = self.rows_of_block(d, width, s, first, last, gathered)
                x_at = self.rows_of_block(<char *>view.buf, K, s, first, last,
                                          gathered + block_rows * width * self.itemsize)
                memset(&p, 0, sizeof(p))
                p.K = self.rows_before(s, last) - self.rows_before(s, first)
                if total != NULL and plan.transposed[i]:
                    p.M, p.a, p.a_m, p.a_k = width, d_at, 1, width
                    p.N, p.b, p.b_k, p.b_n = K, x_at, K, 1
                    self.multiply_into(total, &p, adds)
                elif total != NULL:
                    p.M, p.a, p.a_m, p.a_k = K, x_at, 1, K
                    p.N, p.b, p.b_k, p.b_n = width, d_at, width, 1
                    self.multiply_into(total, &p, adds)
                if bias != NULL:
                    # A row of ones times the rows: the same 1 at every step.
                    p.M, p.a, p.a_m, p.a_k = 1, one, 1, 0
                    p.N, p.b, p.b_k, p.b_n = width, d_at, width, 1
                    self.multiply_into(bias, &p, adds)
                last, first = first, first - self.block
        finally:
            PyMem_RawFree(gathered)
        return 0


cdef class Left:
    """What a forward pass computes before its loop, and what it keeps for a backward pass over the same
    steps."""

    cdef char *memory                       # of the next two
    cdef char *kept                         # (rows, kept_size)
    cdef char *product_at[MOST_PRODUCTS]    # (rows, width) each
    cdef idx first, count, n_rows           # the steps, and their rows

    def __cinit__(self, Plan plan, idx n_rows, idx itemsize, idx first, idx count):
        cdef size_t kept = room(n_rows, plan.kept_size, itemsize), size = kept
        cdef int i
        for i in range(plan.n_products):
            size += room(n_rows, plan.width[i], itemsize)
        self.memory = <char *>PyMem_RawMalloc(size + CACHE_LINE)
        if self.memory == NULL:
            raise MemoryError(f"{size} bytes could not be had")
        self.kept = <char *>aligned(self.memory)
        cdef char *at = self.kept + kept
        for i in range(plan.n_products):
            self.product_at[i], at = at, at + room(n_rows, plan.width[i], itemsize)
        self.first, self.count, self.n_rows = first, count, n_rows

    def __dealloc__(self):
        PyMem_RawFree(self.memory)


cdef size_t room(idx n_rows, idx width, idx itemsize) noexcept:
    """Bytes of so many rows, to whole cache lines."""
    return whole_lines(<size_t>n_rows * width * itemsize)


cdef int execute(rk_program_run *r, int code, bint backward) except -1:
    """Run a program, in a workspace of its own."""
    cdef const rk_executor *executor = &kernels.executor[code]
    cdef size_t size = 0
    cdef void *memory = borrow_workspace(executor.workspace(r) + CACHE_LINE, &size)
    cdef rk_status status
    r.workspace = aligned(memory)
    with nogil:
        status = executor.backward(r) if backward else executor.forward(r)
    return_workspace(memory, size)
    return ended(status)
