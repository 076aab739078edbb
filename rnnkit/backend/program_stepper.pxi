# Layers that are programs, run step by step: all but the input and the output stays where it is.

cdef class LayerStep:
    """One layer of them.

    Args:
        passes: over one step of all rows, with no backward pass, of a program whose sequences are the input
            itself or products of it, and whose output is one.
        I: features of the input.
        operands, invariants: as `Passes` takes them.
        state: of each state N rows, contiguous, which every step moves on in place.
    """

    cdef Passes passes
    cdef Left left                          # the products of the input
    cdef Arrays arrays                      # held for as long as this object lives
    cdef rk_program_run r
    cdef Tables tables
    cdef rk_product products[MOST_PRODUCTS]
    cdef list matrices                      # of these, their columns adjoining
    cdef const rk_kernels *of               # what the memory is enough for
    cdef void *memory
    cdef idx I, output_size
    cdef bint is_short                      # see `Stepper`

    def __cinit__(self, Passes passes, idx I, tuple operands, tuple invariants, tuple state):
        cdef Plan plan = passes.plan
        cdef Program program = plan.forward
        cdef int i
        if plan.backward is not None or passes.T != 1 or passes.schedule is not None:
            raise ValueError("passes: expected those of one step without a backward pass")
        check_count("outputs", program.output_widths, 1)
        self.passes, self.I, self.output_size = passes, I, program.output_widths[0]
        self.arrays = Arrays(passes.code)
        passes.begin(&self.r, program, 0, 1)
        self.r.run.interrupted = NULL
        self.left = Left(plan, passes.N, passes.itemsize, 0, 1)
        self.matrices = []
        for i in range(plan.n_products):
            self.take_product(i, operands)
        cdef Buffers room = Buffers(passes.code)
        x = room.room(3, 1, passes.N, I), "time_first"
        given = tuple([x for number in plan.forward_sequences if number < 0])
        passes.take_shared(&self.r, &self.tables, self.left, self.arrays, program, invariants, plan.forward_sequences,
                           given, state, ())
        y = room.room(3, 1, passes.N, self.output_size), "time_first"
        passes.take_outputs(&self.r, &self.tables, self.arrays, program, None, (y,), NULL)
        for i in range(program.program.n_states):
            self.r.final[i] = self.arrays.flat(state[i], _ARRAY_NAMES["final"][i],
                                               passes.N * self.r.kept_states[i].width, True)
        self.is_short = self.work_of_row() * passes.N < SHORT_STEP
        self.take_memory()

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    cdef double work_of_row(self):
        """Multiply-adds, or what takes as long."""
        cdef const rk_program *p = self.r.program
        cdef double work = 0
        cdef const rk_instruction *instruction
        cdef const rk_weight *weight
        cdef int i
        for i in range(self.passes.plan.n_products):
            work += <double>self.I * self.passes.plan.width[i]
        for i in range(p.n_products):
            weight = &p.weights[p.products[i].weight]
            work += <double>weight.K * weight.M
        for i in range(p.n_instructions):
            instruction = &p.instructions[i]
            work += 8.0 * instruction.size[0] * instruction.size[1] * instruction.size[2]
        return work

    cdef int take_product(self, int i, tuple operands) except -1:
        cdef Plan plan = self.passes.plan
        cdef rk_product *p = &self.products[i]
        cdef idx width = plan.width[i]
        if plan.matrix_of[i] >= len(operands):
            raise ValueError(f"operands: expected more than {plan.matrix_of[i]}")
        matrix = operands[plan.matrix_of[i]]
        self.matrices.append(dense((matrix.T if plan.transposed[i] else matrix,))[0])
        memset(p, 0, sizeof(rk_product))
        p.M, p.K, p.N, p.a_m, p.a_k = self.passes.N, self.I, width, self.I, 1
        p.b = self.arrays.room().dense(self.matrices[i], "matrix", self.I, width, False)
        p.b_k, p.b_n = width, 1
        p.bias = self.passes.bias_taken(self.arrays, operands, i)
        p.c, p.c_m, p.n_threads = self.left.product_at[i], width, self.passes.n_threads
        return 0

    cdef int take_memory(self) except -1:
        """A workspace for each of the products and the program in turn."""
        cdef int code = self.passes.code
        cdef size_t size = kernels.executor[code].workspace(&self.r)
        cdef int i
        for i in range(self.passes.plan.n_products):
            size = max(size, kernels.matmul[code].workspace(&self.products[i]))
        self.memory = PyMem_RawMalloc(size + CACHE_LINE)
        if self.memory == NULL:
            raise MemoryError
        self.of = kernels
        self.r.workspace = aligned(self.memory)
        for i in range(self.passes.plan.n_products):
            self.products[i].workspace = self.r.workspace
        return 0

    cdef int run(self, void *x, void *y) except -1:
        cdef Plan plan = self.passes.plan
        cdef int i
        for i in range(plan.n_products):
            self.products[i].a = x
        for i in range(len(plan.forward_sequences)):
            if plan.forward_sequences[i] < 0:
                self.tables.sequences[i].grid.at = x
        self.tables.outputs[0].grid.at = y
        cdef Packed weights = self.passes.weights
        cdef bint lent = weights is not None and weights.lend(&self.r)
        if not lent:
            self.r.packed, self.r.is_packed = NULL, False
        if self.is_short:
            self.multiply_and_run()
        else:
            with nogil:
                self.multiply_and_run()
        if lent:
            weights.give_back(True)
        return 0

    cdef void multiply_and_run(self) noexcept nogil:
        cdef int code = self.passes.code
        cdef int i
        for i in range(self.passes.plan.n_products):
            self.of.matmul[code].run(&self.products[i])
        self.of.executor[code].forward(&self.r)


cdef class ProgramStepper:
    """A stack of them.

    Args:
        layers: a `LayerStep` each.
        state: the arrays that hold the states of all layers.
        lock: not to be had while a call runs that is not one of these.
    """

    cdef list layers, between    # the layers, and what goes from each to the next
    cdef Buffers held            # the states
    cdef object lock
    cdef idx N, I, output_size

    def __cinit__(self, list layers, tuple state, lock):
        cdef LayerStep layer, before = None
        self.layers, self.between, self.lock = layers, [], lock
        for layer in layers:
            if before is None:
                self.held = Buffers(layer.passes.code)
                self.N, self.I = layer.passes.N, layer.I
            elif (layer.passes.N, layer.I) != (self.N, before.output_size):
                raise ValueError(f"layers: expected one of N={self.N} I={before.output_size}")
            else:
                self.between.append(self.held.room(2, self.N, layer.I))
            before = layer
        if before is None:
            raise ValueError("layers: expected one at least")
        self.output_size = before.output_size
        for array in state:
            self.held.take(array, "state", -1, True)

    def run(self, x, y=None):
        """One step x (N, I) to y (N, features of the output), a new array where none is given.

        Raises ValueError for what is not one step in contiguous arrays that lie apart from each other and from
        the state, and where another instruction set is in use by now; RuntimeError while another thread is in a
        call.
        """
        cdef LayerStep layer = self.layers[0]
        cdef void *value
        cdef Py_ssize_t i
        if not is_plain_matrix(self.held, x, self.N, self.I, False):
            raise ValueError(f"x: expected a contiguous {(self.N, self.I)}")
        if y is None:
            y = self.held.room(2, self.N, self.output_size)
        elif not (is_plain_matrix(self.held, y, self.N, self.output_size, True) and is_apart(self.held, y, x)):
            raise ValueError(f"y: expected a contiguous {(self.N, self.output_size)} apart from x and the state")
        if layer.of != kernels:
            raise ValueError("another instruction set is in use")
        if not self.lock.acquire(False):
            raise RuntimeError(_IN_USE)
        try:
            value = numpy.PyArray_DATA(x)
            for i in range(len(self.between)):
                layer = self.layers[i]
                layer.run(value, numpy.PyArray_DATA(self.between[i]))
                value = numpy.PyArray_DATA(self.between[i])
            layer = self.layers[len(self.layers) - 1]
            layer.run(value, numpy.PyArray_DATA(y))
        finally:
            self.lock.release()
        return y
