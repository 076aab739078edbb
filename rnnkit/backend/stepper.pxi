# A stack of layers run step by step: weights packed once, state in place, nothing allocated per call.

_IN_USE = ("a stepper serves one thread at a time: another is in a call of it, or was when this process was forked, "
          "which leaves a state between two steps: make another stream then")

cdef enum:
    SHORT_STEP = 1 << 16  # multiply-adds: about a microsecond

cdef class Stepper:
    """Layers of one kernel that take blocks of steps, one after the other, carrying their state.

    Args:
        cell, variant, dtype: the kernel.
        layers: per layer (w_ih, w_hh, b_ih, b_hh), the biases None where there are none.
        states: per state (h, and c where the cell has one) an array (L, N, H), updated in place.
        n_threads: upper bound.

    The arrays of `states` must stay where they are; `layers` are copied. A call while another thread is in
    one raises RuntimeError: both would work in the same memory. So does any call in a child that was forked
    meanwhile.
    """

    cdef const rk_cell *kernel
    cdef int code
    cdef rk_sequence s        # what all layers share
    cdef Buffers held         # the states, for as long as this object lives
    cdef int n_layers
    cdef list weights         # per layer its PackedWeights,
    cdef void **packed        # and where these are
    cdef char *h
    cdef char *c
    cdef void *memory         # workspace and outputs between layers, for blocks of up to `steps`
    cdef size_t workspace_size
    cdef idx steps
    cdef idx first_input
    cdef bint is_short        # a step takes less than giving up the interpreter's lock is worth
    cdef bint in_use          # by a call that runs without that lock

    def __cinit__(self, str cell, str variant, str dtype, list layers, tuple states, int n_threads):
        self.code = dtype_code(dtype)
        self.kernel = find_cell(cell, self.code)
        self.held = Buffers(self.code)
        self.n_layers = len(layers)
        h = states[0]
        fill_sizes(&self.s, self.kernel, variant, 1, h.shape[1], layers[0][0].shape[1], h.shape[2],
                   n_threads)
        self.s.interrupted = NULL
        self.first_input = self.s.I
        cdef double work = <double>self.kernel.n_gates * self.s.N * self.s.H * (self.s.I + (2 * self.n_layers - 1) * self.s.H)
        self.is_short = work < SHORT_STEP
        self.h = self.take_state(h, "h")
        if self.kernel.n_states > 1:
            self.c = self.take_state(states[1], "c")
        self.packed = <void **>PyMem_RawCalloc(self.n_layers, sizeof(void *))
        if self.packed == NULL:
            raise MemoryError
        self.weights = []
        for i in range(self.n_layers):
            weights = PackedWeights(cell, variant, dtype, self.input_size(i), self.s.H, layers[i])
            self.weights.append(weights)
            self.packed[i] = (<PackedWeights>weights).at
        self.make_room(1)

    def __dealloc__(self):
        PyMem_RawFree(self.packed)
        PyMem_RawFree(self.memory)

    cdef char *take_state(self, array, str name) except NULL:
        cdef Py_buffer *view = self.held.take(array, name, 3, True)
        cdef idx size = self.held.itemsize
        if (view.shape[0] != self.n_layers or view.shape[1] != self.s.N or view.shape[2] != self.s.H
                or view.strides[2] != size or view.strides[1] != size * self.s.H
                or view.strides[0] != size * self.s.H * self.s.N):
            raise ValueError(f"{name}: expected a contiguous {(self.n_layers, self.s.N, self.s.H)}")
        return <char *>view.buf

    cdef idx input_size(self, int layer) noexcept nogil:
        return self.s.H if layer else self.first_input

    def repack(self, list layers):
        """Take other values of the weights, of the same shapes."""
        if len(layers) != self.n_layers:
            raise ValueError(f"layers: expected {self.n_layers}, got {len(layers)}")
        self.check_unused()
        self.in_use = True
        try:
            for weights, values in zip(self.weights, layers):
                weights.pack(values)
        finally:
            self.in_use = False

    cdef int check_unused(self) except -1:
        if self.in_use:
            raise RuntimeError(_IN_USE)
        return 0

    cdef int make_room(self, idx steps) except -1:
        """Memory for blocks of up to that many steps."""
        cdef rk_sequence s = self.s
        cdef size_t size = 0
        s.T = steps
        for i in range(self.n_layers):
            s.I = self.input_size(i)
            s.packed = self.packed[i]
            size = max(size, self.kernel.forward_workspace(&s))
        size = whole_lines(size)
        cdef size_t between = whole_lines(<size_t>(steps * s.N * s.H * self.held.itemsize))
        cdef void *memory = PyMem_RawMalloc(size + 2 * between + CACHE_LINE)
        if memory == NULL:
            raise MemoryError
        PyMem_RawFree(self.memory)
        self.memory = memory
        self.workspace_size = size
        self.steps = steps
        return 0

    def run(self, x, y=None):
        """Steps x (T, N, I) to outputs y (T, N, H) of the last layer, or (N, I) to (N, H).

        Returns y, which is a new array where none is given. x is copied where they share memory.
        """
        if is_plain_matrix(self.held, x, self.s.N, self.first_input, False) and (
                y is None or is_plain_matrix(self.held, y, self.s.N, self.s.H, True) and is_apart(self.held, y, x)):
            return self.take_step(x, y)
        cdef Buffers buffers = Buffers(self.code)
        cdef rk_sequence s = self.s
        cdef Py_buffer *view = buffers.take(x, "x", -1, False)
        cdef Py_buffer *inputs = view
        s.I = self.first_input
        if view.ndim == 2:
            if y is None:
                y = buffers.room(2, s.N, s.H)
            self.check(view, "x", s.N, s.I)
            s.x = rk_grid(view.buf, 0, view.strides[0] // buffers.itemsize, 0)
            view = self.check(buffers.take(y, "y", 2, True), "y", s.N, s.H)
            s.y = rk_grid(view.buf, 0, view.strides[0] // buffers.itemsize, 0)
        else:
            if view.ndim != 3 or view.shape[0] < 1:
                raise ValueError("x: expected at least one step of 2 axes")
            s.T = view.shape[0]
            if y is None:
                y = buffers.room(3, s.T, s.N, s.H)
            s.x = buffers.grid_of(view, "x", &s, s.I)
            view = buffers.take(y, "y", 3, True)
            s.y = buffers.grid_of(view, "y", &s, s.H)
        if share_memory(inputs, view):
            return self.run(x.copy(), y)
        for i in range(self.held.count):
            if share_memory(&self.held.views[i], view):
                y[...] = self.run(x)  # a kernel reads the state of a step while it writes its output
                return y
        self.take_steps(&s, False)
        return y

    cdef object take_step(self, x, y):
        cdef rk_sequence s = self.s
        if y is None:
            y = self.held.room(2, s.N, s.H)
        s.I = self.first_input
        s.x = rk_grid(numpy.PyArray_DATA(x), 0, s.I, 0)
        s.y = rk_grid(numpy.PyArray_DATA(y), 0, s.H, 0)
        self.take_steps(&s, self.is_short)
        return y

    cdef int take_steps(self, rk_sequence *s, bint is_short) except -1:
        self.check_unused()
        if s.T > self.steps:
            self.make_room(s.T)
        if is_short:
            self.run_layers(s)
        else:
            self.in_use = True
            with nogil:
                self.run_layers(s)
            self.in_use = False
        self.s.turn = (s.turn + s.T) % 2  # the next step begins with the weights that this one has read last
        return 0

    cdef Py_buffer *check(self, Py_buffer *view, str name, idx rows, idx columns) except NULL:
        cdef idx size = self.held.itemsize
        if view.shape[0] != rows or view.shape[1] != columns:
            raise ValueError(
                f"{name}: expected {(rows, columns)}, got {(view.shape[0], view.shape[1])}"
            )
        if columns > 1 and view.strides[1] != size:
            raise ValueError(f"{name}: the last axis is not contiguous")
        check_strides(view, name, 1, size)
        return view

    cdef void run_layers(self, rk_sequence *s) noexcept nogil:
        cdef idx state_size = s.N * s.H * self.held.itemsize
        cdef char *work = <char *>aligned(self.memory)
        cdef char *between = work + self.workspace_size
        cdef size_t between_size = whole_lines(<size_t>(self.steps * state_size))
        cdef rk_grid y = s.y
        cdef int i
        s.workspace = work
        for i in range(self.n_layers):
            s.I = self.input_size(i)
            s.packed = self.packed[i]
            # A kernel reads the state before it writes it: both may be one array.
            s.h_0 = self.h + i * state_size
            s.h_n = self.h + i * state_size
            if self.c != NULL:
                s.c_0 = self.c + i * state_size
                s.c_n = self.c + i * state_size
            if i + 1 < self.n_layers:
                s.y = rk_grid(between + (i % 2) * between_size, s.N * s.H, s.H, 0)
            else:
                s.y = y
            self.kernel.forward(s)
            s.x = s.y


cdef bint is_plain_matrix(Buffers held, array, idx rows, idx columns, bint writable) noexcept:
    """Whether a step's array is as most are, which needs no more checks."""
    return held.is_plain(array, writable) and is_of_size(array, rows, columns)


cdef bint is_apart(Buffers states, y, x) noexcept:
    """Whether such an array for the output is in the way of neither x nor a state."""
    cdef char *begin = <char *>numpy.PyArray_DATA(y)
    cdef char *end = begin + numpy.PyArray_NBYTES(y)
    cdef char *other = <char *>numpy.PyArray_DATA(x)
    if begin < other + numpy.PyArray_NBYTES(x) and other < end:
        return False
    for i in range(states.count):
        other = <char *>states.views[i].buf
        if begin < other + states.views[i].len and other < end:
            return False
    return True


cdef bint share_memory(const Py_buffer *a, const Py_buffer *b) noexcept:
    """Whether the memory from first to last element of one overlaps that of the other."""
    return first_byte(a) < last_byte(b) and first_byte(b) < last_byte(a)


cdef uintptr_t first_byte(const Py_buffer *view) noexcept:
    cdef uintptr_t at = <uintptr_t>view.buf
    for axis in range(view.ndim):
        at += min(0, (view.shape[axis] - 1) * view.strides[axis])
    return at


cdef uintptr_t last_byte(const Py_buffer *view) noexcept:
    """The one behind it."""
    cdef uintptr_t at = <uintptr_t>view.buf + view.itemsize
    for axis in range(view.ndim):
        at += max(0, (view.shape[axis] - 1) * view.strides[axis])
    return at
