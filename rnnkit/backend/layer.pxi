# One layer over a sequence, in one direction or both. The arrays that all directions share are checked
# once; each direction is then a run of its own over its part of them, in the order of its own time, and
# each run is one native call, or one for every segment where memory is short.

cdef enum:
    MOST_DIRECTIONS = 2
    WEIGHTS_EACH = 4


def stored(str cell, str variant, str dtype, idx T, idx N, idx I, idx H):
    """Elements that one direction of a training step keeps between its passes."""
    cdef rk_sequence s
    cdef size_t gates, extra
    cdef const rk_cell *kernel = find_cell(cell, dtype_code(dtype))
    fill_sizes(&s, kernel, variant, T, N, I, H, 1)
    kernel.stored(&s, &gates, &extra)
    return gates + extra


def steps_together(str cell, str variant, str dtype, idx N, idx I, idx H):
    """A layer's segments have a multiple of so many steps."""
    cdef rk_sequence s
    cdef const rk_cell *kernel = find_cell(cell, dtype_code(dtype))
    fill_sizes(&s, kernel, variant, 1, N, I, H, 1)
    return kernel.steps_together(&s)


cdef class Layer:
    """One layer over one sequence; csrc/rnnkit.h tells what it computes. None stands for an absent array.

    Holds its arrays, which must not change between `forward` and `backward`. In segments, a backward pass
    keeps what one segment needs, and runs forward again over the others from the states between them.

    Args:
        cell, variant, dtype: the kernel.
        n_threads: upper bound.
        batch_first: the first axis of x, y and their like is the batch.
        x: (T, N, I), or (N, T, I) where batch_first, with a contiguous last axis.
        weights: w_ih, w_hh, b_ih, b_hh of each direction in turn.
        initial: h and, where the cell has it, c; each (D, N, H).
        y: (T, N, D*H), or (N, T, D*H); None where nobody wants the output of every step.
        schedule: lengths and resets.
        restart: where a restart begins, as `initial`, each of them or the whole None: zero.
        segment: steps of a segment, a multiple of `steps_together`; 0: all.
        packed: the weights of each direction as PackedWeights, of the same values; None: the forward pass
            packs them anew.

    Every method raises TypeError or ValueError naming the array for anything a kernel could not take,
    MemoryError, and whatever a signal handler raised meanwhile (KeyboardInterrupt).
    """

    cdef Buffers buffers
    cdef const rk_cell *kernel
    cdef str variant
    cdef int code, n_threads, directions
    cdef bint batch_first
    cdef idx T                # of the arrays; the longest row may be shorter
    cdef Schedule schedule
    cdef tuple packed
    cdef idx segment
    cdef readonly idx n_segments
    cdef size_t kept          # elements that a direction keeps
    cdef char *between        # states between segments, and what flows between them
    cdef idx outputs_are_of[MOST_DIRECTIONS] # the segment whose outputs `outputs` holds
    cdef rk_sequence s[MOST_DIRECTIONS]

    def __cinit__(self, str cell, str variant, str dtype, int n_threads, bint batch_first, x,
                  tuple weights, tuple initial, y, Schedule schedule=None, tuple restart=None,
                  idx segment=0, tuple packed=None):
        self.code = dtype_code(dtype)
        self.kernel = find_cell(cell, self.code)
        self.buffers = Buffers(self.code)
        self.variant = variant
        self.n_threads = n_threads
        self.batch_first = batch_first
        self.schedule = schedule
        self.take_inputs(x, weights, initial, y)
        if restart is not None:
            self.take_restart(restart)
        if packed is not None:
            self.take_packed(packed)
        cdef idx T = self.s[0].T
        cdef idx together = self.kernel.steps_together(&self.s[0])
        if segment % together:
            raise ValueError(f"segment: expected a multiple of {together} steps, got {segment}")
        self.segment = segment if 0 < segment < T else T
        self.n_segments = (T + self.segment - 1) // self.segment
        # The first segment has the most rows.
        cdef rk_sequence part
        cdef size_t gates, extra
        self.cut(&part, 0, 0)
        self.kernel.stored(&part, &gates, &extra)
        self.kept = gates + extra

    def kept_size(self):
        """Elements of the vector that `forward` keeps for `backward`; 0: none."""
        # A few of them are lost to alignment.
        return self.directions * self.kept + CACHE_LINE // self.buffers.itemsize if self.kept else 0

    def between_size(self):
        """Elements of the vector for what flows between segments; 0 where there is only one."""
        if self.n_segments == 1:
            return 0
        return self.n_segments * self.directions * self.kernel.n_states * self.s[0].N * self.s[0].H

    def outputs_size(self):
        """Elements of the vector for the outputs of a segment where nobody wants them all."""
        cdef rk_sequence *s = &self.s[0]
        return 0 if s.y.at != NULL else self.directions * self.segment * s.N * s.H

    def forward(self, tuple final, kept, c=None, between=None, outputs=None):
        """Run the layer.

        Args:
            final: the states at each row's own end; as `initial`.
            kept: a vector of `kept_size()` elements, or None where no backward pass will follow.
            c: for the state c of every step; as y.
            between, outputs: vectors of `between_size()` and `outputs_size()` elements, where these are
                not 0; they must stay as they are until the last backward pass.
        """
        cdef bint two_states = self.kernel.n_states > 1
        self.length(final, "final", self.kernel.n_states)
        cdef char *h_n = self.states(require_array(final[0], "h_n"), "h_n", True)
        cdef char *c_n = self.states(require_array(final[1], "c_n"), "c_n", True) if two_states else NULL
        cdef rk_grid c_at = self.grid(c, "c", self.directions * self.s[0].H, True)
        if self.between_size():
            self.between = <char *>self.buffers.flat(
                require_array(between, "between"), "between", self.between_size(), True)
        cdef char *y = NULL
        if self.outputs_size():
            y = <char *>self.buffers.flat(
                require_array(outputs, "outputs"), "outputs", self.outputs_size(), True)
        cdef char *keep = self.take_kept(kept, "kept")
        cdef rk_sequence *s
        cdef rk_sequence part
        cdef int d
        cdef idx k
        for d in range(self.directions):
            s = &self.s[d]
            s.h_n = self.state_of(h_n, d)
            s.c_n = self.state_of(c_n, d)
            s.c = self.in_order(c_at, d, d * s.H)
            if y != NULL:
                s.y = rk_grid(y + d * self.segment * s.N * s.H * self.buffers.itemsize,
                              s.N * s.H, s.H, 1)
            for k in range(self.n_segments):
                self.cut(&part, d, k)
                if k == self.n_segments - 1:
                    self.use_kept(keep, d, &part, &part.gates, &part.extra)
                run(self.kernel.forward, self.kernel.forward_workspace(&part), &part)
            self.outputs_are_of[d] = self.n_segments - 1

    def backward(self, kept, d_y, tuple d_final, work, d_x, tuple d_weights, tuple d_initial,
                 d_c=None, tuple d_restart=None, d_h=None, d_c_all=None):
        """Gradients of the layer. None: absent, or not wanted.

        Args:
            kept: what `forward` left.
            d_y, d_c, d_final: gradients of y, c and final.
            work: of the size of `kept`; may be `kept` itself, which is then overwritten.
            d_x, d_weights, d_initial: for the gradients of x, weights and initial.
            d_restart: for those of restart; they are added to what is there.
            d_h, d_c_all: for all that flows into h and into c at every step; as y.
        """
        cdef Buffers of_forward = self.buffers
        self.buffers = Buffers(self.code)
        try:
            self.run_backward(kept, d_y, d_final, work, d_x, d_weights, d_initial, d_c, d_restart, d_h,
                              d_c_all)
        finally:
            self.buffers = of_forward

    cdef int run_backward(self, kept, d_y, tuple d_final, work, d_x, tuple d_weights, tuple d_initial,
                          d_c, tuple d_restart, d_h, d_c_all) except -1:
        cdef int n_states = self.kernel.n_states
        cdef idx width = self.directions * self.s[0].H
        if self.s[0].y.at == NULL or (self.between_size() and self.between == NULL):
            raise ValueError("y: missing, and no forward pass has left outputs")
        self.length(d_final, "d_final", n_states)
        self.length(d_weights, "d_weights", self.directions * WEIGHTS_EACH)
        self.length(d_initial, "d_initial", n_states)
        cdef char *d_h_n = self.states(d_final[0], "d_h_n", False)
        cdef char *d_c_n = self.states(d_final[1], "d_c_n", False) if n_states > 1 else NULL
        cdef char *d_h_0 = self.states(d_initial[0], "d_h_0", True)
        cdef char *d_c_0 = self.states(d_initial[1], "d_c_0", True) if n_states > 1 else NULL
        cdef char *d_h_r = NULL
        cdef char *d_c_r = NULL
        if d_restart is not None:
            self.length(d_restart, "d_restart", n_states)
            d_h_r = self.states(d_restart[0], "d_h_r", True)
            d_c_r = self.states(d_restart[1], "d_c_r", True) if n_states > 1 else NULL
        cdef rk_grid d_y_at = self.grid(d_y, "d_y", width, False)
        cdef rk_grid d_c_at = self.grid(d_c, "d_c", width, False)
        cdef rk_grid d_h_at = self.grid(d_h, "d_h", width, True)
        cdef rk_grid d_c_all_at = self.grid(d_c_all, "d_c_all", width, True)
        cdef rk_grid d_x_at = self.grid(d_x, "d_x", self.s[0].I, True)
        if self.kept:
            require_array(kept, "kept")
            require_array(work, "work")
        cdef char *kept_at = self.take_kept(kept, "kept")
        cdef char *work_at = self.take_kept(work, "work")
        cdef rk_sequence *s
        cdef rk_sequence part
        cdef int d
        cdef idx k, last = self.n_segments - 1
        cdef bint outputs_gone
        for d in range(self.directions):
            s = &self.s[d]
            s.d_y = self.in_order(d_y_at, d, d * s.H)
            s.d_c = self.in_order(d_c_at, d, d * s.H)
            s.d_h = self.in_order(d_h_at, d, d * s.H)
            s.d_c_all = self.in_order(d_c_all_at, d, d * s.H)
            s.d_x = self.in_order(d_x_at, d, 0)
            s.d_x_add = d > 0
            s.d_h_n = self.state_of(d_h_n, d)
            s.d_c_n = self.state_of(d_c_n, d)
            s.d_h_0 = self.state_of(d_h_0, d)
            s.d_c_0 = self.state_of(d_c_0, d)
            s.d_h_r = self.state_of(d_h_r, d)
            s.d_c_r = self.state_of(d_c_r, d)
            self.matrices(d_weights, d * WEIGHTS_EACH, ("d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh"), True,
                          &s.d_w_ih, &s.d_w_hh, &s.d_b_ih, &s.d_b_hh)
            for k in range(last, -1, -1):
                self.cut(&part, d, k)
                self.use_kept(work_at, d, &part, &part.d_gates, &part.d_extra)
                part.d_w_add = k < last
                outputs_gone = part.y.of_run and self.outputs_are_of[d] != k
                if k == last and not outputs_gone:
                    self.use_kept(kept_at, d, &part, &part.gates, &part.extra)
                else:
                    part.gates, part.extra = part.d_gates, part.d_extra
                    part.c.at = NULL
                    if self.kept or outputs_gone:
                        run(self.kernel.forward, self.kernel.forward_workspace(&part), &part)
                        self.outputs_are_of[d] = k
                run(self.kernel.backward, self.kernel.backward_workspace(&part), &part)
        return 0

    cdef void cut(self, rk_sequence *part, int d, idx k) noexcept:
        """Segment k of a direction's run."""
        part[0] = self.s[d]
        if self.n_segments == 1:
            return
        cdef idx t = k * self.segment
        cdef idx last = self.n_segments - 1
        cut_schedule(&part.schedule, part.N, t)
        part.T = min(self.segment, part.T - t)
        self.advance(&part.x, t)
        if not part.y.of_run:
            self.advance(&part.y, t)
        self.advance(&part.c, t)
        self.advance(&part.d_y, t)
        self.advance(&part.d_c, t)
        self.advance(&part.d_h, t)
        self.advance(&part.d_c_all, t)
        self.advance(&part.d_x, t)
        if self.between == NULL:
            return
        if k > 0:
            part.h_0, part.c_0 = self.state_between(d, k - 1, 0), self.state_between(d, k - 1, 1)
            # What flows to the segment before; and each segment but the last takes it from there.
            part.d_h_0, part.d_c_0 = self.state_between(d, last, 0), self.state_between(d, last, 1)
            part.d_y_before = True
        if k < last:
            part.rows_after = part.N if part.schedule.active == NULL else part.schedule.active[part.T]
            part.h_n, part.c_n = self.state_between(d, k, 0), self.state_between(d, k, 1)
            part.d_h_n, part.d_c_n = self.state_between(d, last, 0), self.state_between(d, last, 1)

    cdef void advance(self, rk_grid *grid, idx t) noexcept:
        if grid.at != NULL:
            grid.at = <char *>grid.at + t * grid.t * self.buffers.itemsize

    cdef void *state_between(self, int d, idx k, int state) noexcept:
        """After segment k; after the last, the place for the gradient that flows between segments."""
        cdef int n_states = self.kernel.n_states
        if state >= n_states:
            return NULL
        cdef idx i = (k * n_states + state) * self.directions + d
        return self.between + i * self.s[0].N * self.s[0].H * self.buffers.itemsize

    cdef int take_inputs(self, x, tuple weights, tuple initial, y) except -1:
        cdef rk_sequence *s = &self.s[0]
        cdef bint two_states = self.kernel.n_states > 1
        cdef int d
        self.directions = 2 if len(weights) == 2 * WEIGHTS_EACH else 1
        self.length(weights, "weights", self.directions * WEIGHTS_EACH)
        self.length(initial, "initial", self.kernel.n_states)
        cdef Py_buffer *view = self.buffers.take(require_array(x, "x"), "x", 3, False)
        cdef Py_buffer *h_0 = self.buffers.take(require_array(initial[0], "h_0"), "h_0", 3, False)
        cdef idx N = view.shape[not self.batch_first]
        self.T = view.shape[self.batch_first]
        cdef idx steps = self.T
        if self.schedule is not None:
            if self.schedule.T != self.T or self.schedule.N != N:
                raise ValueError(
                    f"schedule: expected T={self.T} N={N}, got T={self.schedule.T} N={self.schedule.N}"
                )
            steps = self.schedule.steps
        fill_sizes(s, self.kernel, self.variant, steps, N, view.shape[2], h_0.shape[2], self.n_threads)
        for d in range(1, self.directions):
            self.s[d] = s[0]

        cdef rk_grid x_at = self.grid_of(view, "x", s.I)
        cdef rk_grid y_at = self.grid(y, "y", self.directions * s.H, True)
        cdef char *h = self.states_of(h_0, "h_0")
        cdef char *c = NULL
        if two_states:
            c = self.states(require_array(initial[1], "c_0"), "c_0", False)
        for d in range(self.directions):
            s = &self.s[d]
            if self.schedule is not None:
                self.schedule.fill(&s.schedule, d)
            s.x = self.in_order(x_at, d, 0)
            s.y = self.in_order(y_at, d, d * s.H)
            s.h_0 = self.state_of(h, d)
            s.c_0 = self.state_of(c, d)
            self.matrices(weights, d * WEIGHTS_EACH, ("w_ih", "w_hh", "b_ih", "b_hh"), False,
                          <void **>&s.w_ih, <void **>&s.w_hh, <void **>&s.b_ih, <void **>&s.b_hh)
            require(s.w_ih, "w_ih")
            require(s.w_hh, "w_hh")
            if (s.b_ih == NULL) != (s.b_hh == NULL):
                raise ValueError("b_ih, b_hh: expected both or neither")
        return 0

    cdef int take_restart(self, tuple restart) except -1:
        cdef int d
        self.length(restart, "restart", self.kernel.n_states)
        cdef char *h = self.states(restart[0], "h_r", False)
        cdef char *c = self.states(restart[1], "c_r", False) if self.kernel.n_states > 1 else NULL
        for d in range(self.directions):
            self.s[d].h_r = self.state_of(h, d)
            self.s[d].c_r = self.state_of(c, d)
        return 0

    cdef int take_packed(self, tuple packed) except -1:
        cdef PackedWeights weights
        cdef int d
        self.length(packed, "packed", self.directions)
        self.packed = packed
        for d in range(self.directions):
            if not isinstance(packed[d], PackedWeights):
                raise TypeError(f"packed {d}: expected PackedWeights, got {type(packed[d]).__name__}")
            weights = packed[d]
            weights.lend(&self.s[d], self.kernel)
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

    cdef rk_grid grid(self, array, str name, idx width, bint writable) except *:
        if array is None:
            return rk_grid(NULL, 0, 0, 0)
        return self.grid_of(self.buffers.take(array, name, 3, writable), name, width)

    cdef rk_grid grid_of(self, Py_buffer *view, str name, idx width) except *:
        cdef int t = self.batch_first
        cdef int n = not self.batch_first
        cdef idx size = self.buffers.itemsize
        cdef idx N = self.s[0].N
        if view.shape[t] != self.T or view.shape[n] != N or view.shape[2] != width:
            raise ValueError(
                f"{name}: expected T={self.T} N={N} and {width} features, got "
                f"{view.shape[t]}, {view.shape[n]} and {view.shape[2]}"
            )
        if width > 1 and view.strides[2] != size:
            raise ValueError(f"{name}: the last axis is not contiguous")
        if ((view.shape[0] > 1 and view.strides[0] % size)
                or (view.shape[1] > 1 and view.strides[1] % size)):
            raise ValueError(f"{name}: strides are not whole elements")
        return rk_grid(view.buf, view.strides[t] // size, view.strides[n] // size, 0)

    cdef rk_grid in_order(self, rk_grid grid, int direction, idx feature) noexcept:
        """The grid from the first step that a direction takes, and from a feature on."""
        if grid.at == NULL:
            return grid
        cdef idx start = feature
        if direction:
            start += (self.s[0].T - 1) * grid.t
            grid.t = -grid.t
        grid.at = <char *>grid.at + start * self.buffers.itemsize
        return grid

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

    cdef char *take_kept(self, array, str name) except? NULL:
        """A vector for what all directions keep; None: NULL."""
        if array is None or self.kept == 0:
            return NULL
        return <char *>aligned(self.buffers.flat(array, name, self.kept_size(), True))

    cdef void use_kept(self, char *kept, int d, rk_sequence *part, void **gates, void **extra) noexcept:
        """A direction's part of such a vector, for what a segment keeps."""
        cdef size_t n_gates = 0, n_extra = 0
        gates[0] = extra[0] = NULL
        if kept == NULL:
            return
        self.kernel.stored(part, &n_gates, &n_extra)
        gates[0] = kept + d * self.kept * self.buffers.itemsize
        extra[0] = <char *>gates[0] + n_gates * self.buffers.itemsize


cdef object require_array(array, str name):
    if array is None:
        raise ValueError(f"{name}: missing")
    return array
