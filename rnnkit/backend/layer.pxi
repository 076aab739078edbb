# One layer over a sequence, in one direction or both. The arrays that all directions share are checked
# once; each direction is then a run of its own over its part of them, in the order of its own time.

cdef enum:
    MOST_DIRECTIONS = 2
    WEIGHTS_EACH = 4
    CACHE_LINE = 64

cdef struct Grid:
    # A (T, N, width) array, whichever of T and N is its first axis; at is NULL where it is absent.
    char *at
    idx t, n                  # strides in elements


def stored(str cell, str variant, str dtype, int directions, idx T, idx N, idx I, idx H):
    """Elements of the array `kept` that a training step needs between its passes; 0: none.

    A few of them are lost to alignment.
    """
    cdef rk_sequence s
    cdef size_t gates, extra
    cdef int code = dtype_code(dtype)
    cdef const rk_cell *kernel = find_cell(cell, code)
    fill_sizes(&s, kernel, variant, T, N, I, H, 1)
    kernel.stored(&s, &gates, &extra)
    if gates + extra == 0:
        return 0
    return directions * (gates + extra) + CACHE_LINE // (4 if code == RK_FLOAT32 else 8)


def forward(str cell, str variant, str dtype, int n_threads, bint batch_first, x, tuple weights,
            tuple initial, y, tuple final, kept):
    """Run a layer; csrc/rnnkit.h tells what it computes. None stands for an absent array.

    Args:
        x: (T, N, I), or (N, T, I) where batch_first, with a contiguous last axis.
        weights: w_ih, w_hh, b_ih, b_hh of each direction in turn.
        initial, final: h and, where the cell has it, c; each (D, N, H).
        y: (T, N, D*H), or (N, T, D*H).
        kept: a vector of as many elements as `stored` says, or None where nothing is kept.

    Raises TypeError or ValueError naming the array for anything a kernel could not take, MemoryError,
    and whatever a signal handler raised meanwhile (KeyboardInterrupt).
    """
    cdef Layer layer = Layer(cell, variant, dtype, n_threads, batch_first)
    layer.take_inputs(x, weights, initial, y, True)
    cdef bint two_states = layer.kernel.n_states > 1
    layer.length(final, "final", layer.kernel.n_states)
    cdef char *h_n = layer.states(require_array(final[0], "h_n"), "h_n", True)
    cdef char *c_n = layer.states(require_array(final[1], "c_n"), "c_n", True) if two_states else NULL
    cdef void *gates[MOST_DIRECTIONS]
    cdef void *extra[MOST_DIRECTIONS]
    layer.take_kept(kept, "kept", gates, extra)
    cdef rk_sequence *s
    cdef int d
    for d in range(layer.directions):
        s = &layer.s[d]
        s.h_n = layer.state_of(h_n, d)
        s.c_n = layer.state_of(c_n, d)
        s.gates, s.extra = gates[d], extra[d]
        run(layer.kernel.forward, layer.kernel.forward_workspace(s), s)


def backward(str cell, str variant, str dtype, int n_threads, bint batch_first, x, tuple weights,
             tuple initial, y, kept, d_y, tuple d_final, work, d_x, tuple d_weights, tuple d_initial):
    """Gradients of a layer. None: absent, or not wanted.

    `work` is of the size of `kept` and may be `kept` itself, which is then overwritten. The gradients
    are laid out as what they are gradients of. Raises as `forward` does.
    """
    cdef Layer layer = Layer(cell, variant, dtype, n_threads, batch_first)
    cdef int n_states = layer.kernel.n_states
    layer.take_inputs(x, weights, initial, y, False)
    layer.length(d_final, "d_final", n_states)
    layer.length(d_weights, "d_weights", layer.directions * WEIGHTS_EACH)
    layer.length(d_initial, "d_initial", n_states)
    cdef char *d_h_n = layer.states(d_final[0], "d_h_n", False)
    cdef char *d_c_n = layer.states(d_final[1], "d_c_n", False) if n_states > 1 else NULL
    cdef char *d_h_0 = layer.states(d_initial[0], "d_h_0", True)
    cdef char *d_c_0 = layer.states(d_initial[1], "d_c_0", True) if n_states > 1 else NULL
    cdef Grid d_y_at = layer.grid(d_y, "d_y", layer.directions * layer.s[0].H, False)
    cdef Grid d_x_at = layer.grid(d_x, "d_x", layer.s[0].I, True)
    cdef void *gates[MOST_DIRECTIONS]
    cdef void *extra[MOST_DIRECTIONS]
    cdef void *d_gates[MOST_DIRECTIONS]
    cdef void *d_extra[MOST_DIRECTIONS]
    if layer.gates + layer.extra:
        require_array(kept, "kept")
        require_array(work, "work")
    layer.take_kept(kept, "kept", gates, extra)
    layer.take_kept(work, "work", d_gates, d_extra)
    cdef rk_sequence *s
    cdef int d, first
    for d in range(layer.directions):
        s = &layer.s[d]
        first = d * WEIGHTS_EACH
        s.gates, s.extra = gates[d], extra[d]
        s.d_gates, s.d_extra = d_gates[d], d_extra[d]
        s.d_y = layer.in_order(d_y_at, d, d * s.H, &s.d_y_t, &s.d_y_n)
        s.d_h_n = layer.state_of(d_h_n, d)
        s.d_c_n = layer.state_of(d_c_n, d)
        s.d_x = layer.in_order(d_x_at, d, 0, &s.d_x_t, &s.d_x_n)
        s.d_x_add = d > 0
        layer.matrices(d_weights, first, ("d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh"), True,
                       &s.d_w_ih, &s.d_w_hh, &s.d_b_ih, &s.d_b_hh)
        s.d_h_0 = layer.state_of(d_h_0, d)
        s.d_c_0 = layer.state_of(d_c_0, d)
    for d in range(layer.directions):
        run(layer.kernel.backward, layer.kernel.backward_workspace(&layer.s[d]), &layer.s[d])


cdef class Layer:
    """The arrays of one call: held, checked, and laid out as one rk_sequence per direction."""

    cdef Buffers buffers
    cdef const rk_cell *kernel
    cdef str variant
    cdef int n_threads
    cdef bint batch_first
    cdef int directions
    cdef size_t gates, extra  # elements that a direction keeps
    cdef rk_sequence s[MOST_DIRECTIONS]

    def __cinit__(self, str cell, str variant, str dtype, int n_threads, bint batch_first):
        cdef int code = dtype_code(dtype)
        self.kernel = find_cell(cell, code)
        self.buffers = Buffers(code)
        self.variant = variant
        self.n_threads = n_threads
        self.batch_first = batch_first

    cdef int take_inputs(self, x, tuple weights, tuple initial, y, bint y_writable) except -1:
        cdef rk_sequence *s = &self.s[0]
        cdef bint two_states = self.kernel.n_states > 1
        cdef int d
        self.directions = 2 if len(weights) == 2 * WEIGHTS_EACH else 1
        self.length(weights, "weights", self.directions * WEIGHTS_EACH)
        self.length(initial, "initial", self.kernel.n_states)
        cdef Py_buffer *view = self.buffers.take(require_array(x, "x"), "x", 3, False)
        cdef Py_buffer *h_0 = self.buffers.take(require_array(initial[0], "h_0"), "h_0", 3, False)
        fill_sizes(s, self.kernel, self.variant, view.shape[self.batch_first],
                   view.shape[not self.batch_first], view.shape[2], h_0.shape[2], self.n_threads)
        self.kernel.stored(s, &self.gates, &self.extra)
        for d in range(1, self.directions):
            self.s[d] = s[0]

        cdef Grid x_at = self.grid_of(view, "x", s.I)
        cdef Grid y_at = self.grid(require_array(y, "y"), "y", self.directions * s.H, y_writable)
        cdef char *h = self.states_of(h_0, "h_0")
        cdef char *c = NULL
        if two_states:
            c = self.states(require_array(initial[1], "c_0"), "c_0", False)
        for d in range(self.directions):
            s = &self.s[d]
            s.x = self.in_order(x_at, d, 0, &s.x_t, &s.x_n)
            s.y = self.in_order(y_at, d, d * s.H, &s.y_t, &s.y_n)
            s.h_0 = self.state_of(h, d)
            s.c_0 = self.state_of(c, d)
            self.matrices(weights, d * WEIGHTS_EACH, ("w_ih", "w_hh", "b_ih", "b_hh"), False,
                          <void **>&s.w_ih, <void **>&s.w_hh, <void **>&s.b_ih, <void **>&s.b_hh)
            require(s.w_ih, "w_ih")
            require(s.w_hh, "w_hh")
            if (s.b_ih == NULL) != (s.b_hh == NULL):
                raise ValueError("b_ih, b_hh: expected both or neither")
        return 0

    cdef int length(self, tuple arrays, str name, idx expected) except -1:
        if len(arrays) != expected:
            raise ValueError(f"{name}: expected {expected} arrays, got {len(arrays)}")
        return 0

    cdef int matrices(self, tuple arrays, int first, tuple names, bint writable, void **w_ih,
                      void **w_hh, void **b_ih, void **b_hh) except -1:
        """The weights of one direction, or their gradients."""
        cdef rk_sequence *s = &self.s[0]
        cdef idx rows = self.kernel.n_gates * s.H
        w_ih[0] = self.buffers.dense(arrays[first], names[0], rows, s.I, writable)
        w_hh[0] = self.buffers.dense(arrays[first + 1], names[1], rows, s.H, writable)
        b_ih[0] = self.buffers.dense(arrays[first + 2], names[2], 0, rows, writable)
        b_hh[0] = self.buffers.dense(arrays[first + 3], names[3], 0, rows, writable)
        return 0

    cdef Grid grid(self, array, str name, idx width, bint writable) except *:
        if array is None:
            return Grid(NULL, 0, 0)
        return self.grid_of(self.buffers.take(array, name, 3, writable), name, width)

    cdef Grid grid_of(self, Py_buffer *view, str name, idx width) except *:
        cdef rk_sequence *s = &self.s[0]
        cdef int t = self.batch_first
        cdef int n = not self.batch_first
        cdef idx size = self.buffers.itemsize
        if view.shape[t] != s.T or view.shape[n] != s.N or view.shape[2] != width:
            raise ValueError(
                f"{name}: expected T={s.T} N={s.N} and {width} features, got "
                f"{view.shape[t]}, {view.shape[n]} and {view.shape[2]}"
            )
        if width > 1 and view.strides[2] != size:
            raise ValueError(f"{name}: the last axis is not contiguous")
        if ((view.shape[0] > 1 and view.strides[0] % size)
                or (view.shape[1] > 1 and view.strides[1] % size)):
            raise ValueError(f"{name}: strides are not whole elements")
        return Grid(<char *>view.buf, view.strides[t] // size, view.strides[n] // size)

    cdef void *in_order(self, Grid grid, int direction, idx feature, idx *stride_t,
                        idx *stride_n) noexcept:
        """The first step that a direction takes, from a feature on, and the strides from there."""
        stride_t[0], stride_n[0] = grid.t, grid.n
        if grid.at == NULL:
            return NULL
        cdef idx start = feature
        if direction:
            start += (self.s[0].T - 1) * grid.t
            stride_t[0] = -grid.t
        return grid.at + start * self.buffers.itemsize

    cdef char *states(self, array, str name, bint writable) except? NULL:
        """A contiguous (D, N, H) array; None: NULL."""
        if array is None:
            return NULL
        return self.states_of(self.buffers.take(array, name, 3, writable), name)

    cdef char *states_of(self, Py_buffer *view, str name) except NULL:
        cdef rk_sequence *s = &self.s[0]
        cdef idx size = self.buffers.itemsize
        if view.shape[0] != self.directions or view.shape[1] != s.N or view.shape[2] != s.H:
            raise ValueError(
                f"{name}: expected {(self.directions, s.N, s.H)}, got "
                f"{(view.shape[0], view.shape[1], view.shape[2])}"
            )
        if ((s.H > 1 and view.strides[2] != size) or (s.N > 1 and view.strides[1] != size * s.H)
                or (self.directions > 1 and view.strides[0] != size * s.H * s.N)):
            raise ValueError(f"{name}: not contiguous")
        return <char *>view.buf

    cdef void *state_of(self, char *states, int direction) noexcept:
        if states == NULL:
            return NULL
        return states + direction * self.s[0].N * self.s[0].H * self.buffers.itemsize

    cdef int take_kept(self, array, str name, void **gates, void **extra) except -1:
        """Each direction's part of a vector for what is kept; None: NULL."""
        cdef int d
        for d in range(self.directions):
            gates[d] = extra[d] = NULL
        cdef size_t each = self.gates + self.extra
        if array is None or each == 0:
            return 0
        cdef idx size = self.buffers.itemsize
        cdef size_t elements = self.directions * each + CACHE_LINE // size
        cdef char *at = <char *>aligned(self.buffers.flat(array, name, elements, True))
        for d in range(self.directions):
            gates[d] = at + d * each * size
            extra[d] = at + (d * each + self.gates) * size
        return 0


cdef object require_array(array, str name):
    if array is None:
        raise ValueError(f"{name}: missing")
    return array
