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

    Makes the arrays that it returns, and holds those that it was given, which must not change between
    `forward` and `backward`; one that does not lie as a kernel takes it is copied. In segments, a backward
    pass keeps what one segment needs, and runs forward again over the others from the states between them.

    Args:
        cell, variant, dtype: the kernel.
        n_threads: upper bound.
        batch_first: the first axis of x, y and their like is the batch.
        x: (T, N, I), or (N, T, I) where batch_first.
        initial: h and, where the cell has it, c; each (D, N, H).
        weights: w_ih, w_hh, b_ih, b_hh of each direction in turn.
        wants_y, wants_c: whether the output, and the state c, of every step are wanted.
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
    cdef int code, directions
    cdef bint batch_first, wants_y, wants_c
    cdef idx T                # of the arrays; the longest row may be shorter
    cdef Schedule schedule
    cdef bint restarts        # from given states
    cdef tuple packed
    cdef readonly idx segment, n_segments
    cdef size_t kept          # elements that a direction keeps
    cdef object kept_array    # what all directions keep
    cdef list returned        # what `forward` returned, whose memory `backward` reads
    cdef object between_array
    cdef object outputs_array
    cdef char *between        # states between segments, and what flows between them
    cdef idx outputs_are_of[MOST_DIRECTIONS] # the segment whose outputs `outputs_array` holds
    cdef rk_sequence s[MOST_DIRECTIONS]

    def __cinit__(self, str cell, str variant, str dtype, int n_threads, bint batch_first, x,
                  tuple initial, tuple weights, bint wants_y=True, bint wants_c=False,
                  Schedule schedule=None, tuple restart=None, idx segment=0, tuple packed=None):
        self.code = dtype_code(dtype)
        self.kernel = find_cell(cell, self.code)
        self.buffers = Buffers(self.code)
        self.batch_first = batch_first
        self.wants_y = wants_y
        self.wants_c = wants_c and self.kernel.n_states > 1
        self.schedule = schedule
        self.take_inputs(variant, n_threads, x, initial, weights)
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

    def forward(self, bint keep):
        """Run the layer.

        Args:
            keep: whether a backward pass may follow.

        Returns:
            y and c of every step, where they are wanted, and the states at each row's own end: h and,
            where the cell has it, c.
        """
        cdef rk_sequence *s = &self.s[0]
        cdef int n_states = self.kernel.n_states
        cdef idx width = self.directions * s.H
        cdef char *final[2]
        cdef char *outputs = NULL
        cdef char *kept = NULL
        cdef rk_grid y_at = rk_grid(NULL, 0, 0, 0)
        cdef rk_grid c_at = rk_grid(NULL, 0, 0, 0)
        cdef rk_sequence part
        cdef int d, i
        cdef idx k, size
        cdef list returned = []
        if self.wants_y:
            y = self.room_for_steps(width, True)
            y_at = self.own_grid(y, width)
            returned.append(y)
        if self.wants_c:
            c = self.room_for_steps(width, True)
            c_at = self.own_grid(c, width)
            returned.append(c)
        final[1] = NULL
        for i in range(n_states):
            state = self.buffers.room(3, self.directions, s.N, s.H)
            final[i] = <char *>memory_of(state)
            returned.append(state)
        self.returned = returned
        if keep and self.kept:
            self.kept_array = self.buffers.room(1, self.kept_size())
            kept = self.kept_at(self.kept_array)
        if self.n_segments > 1:
            size = self.n_segments * n_states * self.directions * s.N * s.H
            self.between_array = self.buffers.room(1, size)
            self.between = <char *>memory_of(self.between_array)
        if not self.wants_y:
            size = self.directions * self.segment * s.N * s.H
            self.outputs_array = self.buffers.room(1, size)
            outputs = <char *>memory_of(self.outputs_array)
        for d in range(self.directions):
            s = &self.s[d]
            s.h_n = self.state_of(final[0], d)
            s.c_n = self.state_of(final[1], d)
            s.y = self.in_order(y_at, d, d * s.H)
            s.c = self.in_order(c_at, d, d * s.H)
            if outputs != NULL:
                s.y = rk_grid(outputs + d * self.segment * s.N * s.H * self.buffers.itemsize,
                              s.N * s.H, s.H, 1)
            for k in range(self.n_segments):
                self.cut(&part, d, k)
                if k == self.n_segments - 1:
                    self.use_kept(kept, d, &part, &part.gates, &part.extra)
                run(self.kernel.forward, self.kernel.forward_workspace(&part), &part)
            self.outputs_are_of[d] = self.n_segments - 1
        return returned

    def backward(self, list d_outputs, needs, bint overwrite, tuple d_steps=()):
        """Gradients of what the layer was given, after `forward(True)`.

        Args:
            d_outputs: the gradient of each array that `forward` returned, or None.
            needs: whether the gradient of x, of each initial state, of each weight and of each state of
                restart is wanted, in this order.
            overwrite: whether this is the last backward pass: it may work in what `forward` has kept.
            d_steps: arrays like y, for all that flows into h and into c at every step.

        Returns:
            the gradients, None where one is not wanted.
        """
        cdef Buffers of_forward = self.buffers
        self.buffers = Buffers(self.code)
        try:
            return self.run_backward(d_outputs, needs, overwrite, d_steps)
        finally:
            self.buffers = of_forward

    cdef list run_backward(self, list d_outputs, needs, bint overwrite, tuple d_steps):
        cdef int n_states = self.kernel.n_states
        cdef rk_sequence *s = &self.s[0]
        cdef idx width = self.directions * s.H
        if s.y.at == NULL or (self.kept and self.kept_array is None):
            raise ValueError("forward: expected a run that keeps what a backward pass needs")
        cdef int n_steps = self.wants_y + self.wants_c
        self.length(d_outputs, "d_outputs", n_steps + n_states)
        cdef list grads = self.room_for_gradients(needs)
        cdef rk_grid d_y_at = self.grid_in(d_outputs[0] if self.wants_y else None, "d_y", width)
        cdef rk_grid d_c_at = self.grid_in(d_outputs[n_steps - 1] if self.wants_c else None, "d_c", width)
        cdef char *d_final[2]
        cdef char *d_initial[2]
        cdef char *d_restart[2]
        cdef int first_weight = 1 + n_states
        cdef int first_restart = first_weight + self.directions * WEIGHTS_EACH
        d_final[1] = d_initial[1] = d_restart[0] = d_restart[1] = NULL
        cdef int i
        for i in range(n_states):
            d_final[i] = self.states_in(d_outputs[n_steps + i], "d_final")
            d_initial[i] = <char *>memory_of(grads[1 + i])
            if self.restarts:
                d_restart[i] = <char *>memory_of(grads[first_restart + i])
        cdef rk_grid d_x_at = self.own_grid(grads[0], s.I)
        cdef rk_grid d_h_at = rk_grid(NULL, 0, 0, 0)
        cdef rk_grid d_c_all_at = rk_grid(NULL, 0, 0, 0)
        if d_steps:
            self.length(d_steps, "d_steps", n_states)
            d_h_at = self.grid_out(d_steps[0], "d_h", width)
            if n_states > 1:
                d_c_all_at = self.grid_out(d_steps[1], "d_c_all", width)
        cdef char *kept = NULL
        cdef char *work = NULL
        if self.kept:
            kept = self.kept_at(self.kept_array)
            if overwrite:
                work = kept
            else:
                work_array = self.buffers.room(1, self.kept_size())
                work = self.kept_at(work_array)
        cdef rk_sequence part
        cdef int d, first
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
            s.d_h_n = self.state_of(d_final[0], d)
            s.d_c_n = self.state_of(d_final[1], d)
            s.d_h_0 = self.state_of(d_initial[0], d)
            s.d_c_0 = self.state_of(d_initial[1], d)
            s.d_h_r = self.state_of(d_restart[0], d)
            s.d_c_r = self.state_of(d_restart[1], d)
            first = first_weight + d * WEIGHTS_EACH
            s.d_w_ih, s.d_w_hh = memory_of(grads[first]), memory_of(grads[first + 1])
            s.d_b_ih, s.d_b_hh = memory_of(grads[first + 2]), memory_of(grads[first + 3])
            for k in range(last, -1, -1):
                self.cut(&part, d, k)
                self.use_kept(work, d, &part, &part.d_gates, &part.d_extra)
                part.d_w_add = k < last
                outputs_gone = part.y.of_run and self.outputs_are_of[d] != k
                if k == last and not outputs_gone:
                    self.use_kept(kept, d, &part, &part.gates, &part.extra)
                else:
                    part.gates, part.extra = part.d_gates, part.d_extra
                    part.c.at = NULL
                    if self.kept or outputs_gone:
                        run(self.kernel.forward, self.kernel.forward_workspace(&part), &part)
                        self.outputs_are_of[d] = k
                run(self.kernel.backward, self.kernel.backward_workspace(&part), &part)
        return grads

    cdef list room_for_gradients(self, needs):
        """An array for every gradient that is wanted; those of restart begin at zero."""
        cdef rk_sequence *s = &self.s[0]
        cdef int n_states = self.kernel.n_states
        cdef idx rows = self.kernel.n_gates * s.H
        cdef int first_restart = 1 + n_states + self.directions * WEIGHTS_EACH
        cdef Buffers buffers = self.buffers
        cdef int i, which
        self.length(needs, "needs", first_restart + (n_states if self.restarts else 0))
        cdef list grads = []
        for i, need in enumerate(needs):
            which = (i - 1 - n_states) % WEIGHTS_EACH
            if not need:
                grads.append(None)
            elif i == 0:
                grads.append(self.room_for_steps(s.I, False))
            elif i <= n_states:
                grads.append(buffers.room(3, self.directions, s.N, s.H))
            elif i >= first_restart:
                grads.append(buffers.room(3, self.directions, s.N, s.H))
                grads[i].fill(0)
            elif which < 2:
                grads.append(buffers.room(2, rows, s.H if which else s.I))
            else:
                grads.append(buffers.room(1, rows))
        return grads

    cdef object room_for_steps(self, idx width, bint of_rows):
        """An array laid out as x, with zeros where no row reaches.

        of_rows: the forward pass writes it row by row, and zeros where rows have ended before the longest.
        It begins on a cache line where rows are ragged: those of one thread are between those of another, and a
        line that two write to goes back and forth.
        """
        cdef idx N = self.s[0].N
        cdef idx first = N if self.batch_first else self.T
        cdef idx second = self.T if self.batch_first else N
        if self.schedule is None or not self.schedule.pads():
            return self.buffers.room(3, first, second, width)
        cdef idx itemsize = self.buffers.itemsize
        cdef idx size = N * self.T * width
        cdef idx room = size + CACHE_LINE // itemsize if of_rows else size
        memory = self.buffers.room(1, room)
        cdef char *begin = <char *>memory_of(memory)
        cdef char *at = <char *>aligned(begin) if of_rows else begin
        if of_rows:
            self.schedule.clear_after(at, width * itemsize, self.batch_first)
        else:
            self.schedule.clear(at, width * itemsize, self.batch_first)
        return self.buffers.part(memory, at, first, second, width)

    cdef idx kept_size(self):
        """Elements of the vector for what all directions keep; a few are lost to alignment."""
        return self.directions * self.kept + CACHE_LINE // self.buffers.itemsize

    cdef char *kept_at(self, vector) noexcept:
        return <char *>aligned(memory_of(vector))

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

    cdef int take_inputs(self, str variant, int n_threads, x, tuple initial, tuple weights) except -1:
        cdef rk_sequence *s = &self.s[0]
        cdef int d
        self.directions = 2 if len(weights) == 2 * WEIGHTS_EACH else 1
        self.length(weights, "weights", self.directions * WEIGHTS_EACH)
        self.length(initial, "initial", self.kernel.n_states)
        cdef Py_buffer *view = self.buffers.take_in(require_array(x, "x"), "x", 3, True)
        cdef Py_buffer *h_0 = self.buffers.take_in(require_array(initial[0], "h_0"), "h_0", 3)
        cdef idx N = view.shape[not self.batch_first]
        self.T = view.shape[self.batch_first]
        cdef idx steps = self.T
        if self.schedule is not None:
            if self.schedule.T != self.T or self.schedule.N != N:
                raise ValueError(
                    f"schedule: expected T={self.T} N={N}, got T={self.schedule.T} N={self.schedule.N}"
                )
            steps = self.schedule.steps
        fill_sizes(s, self.kernel, variant, steps, N, view.shape[2], h_0.shape[2], n_threads)
        for d in range(1, self.directions):
            self.s[d] = s[0]

        cdef rk_grid x_at = self.grid_of(view, "x", s.I)
        cdef char *h = self.states_of(h_0, "h_0")
        cdef char *c = NULL
        if self.kernel.n_states > 1:
            c = self.states_in(require_array(initial[1], "c_0"), "c_0")
        for d in range(self.directions):
            s = &self.s[d]
            if self.schedule is not None:
                self.schedule.fill(&s.schedule, d)
            s.x = self.in_order(x_at, d, 0)
            s.h_0 = self.state_of(h, d)
            s.c_0 = self.state_of(c, d)
            self.take_weights(s, weights, d * WEIGHTS_EACH)
        return 0

    cdef int take_weights(self, rk_sequence *s, tuple weights, int first) except -1:
        cdef idx rows = self.kernel.n_gates * s.H
        cdef Buffers buffers = self.buffers
        s.w_ih = buffers.dense_in(require_array(weights[first], "w_ih"), "w_ih", rows, s.I)
        s.w_hh = buffers.dense_in(require_array(weights[first + 1], "w_hh"), "w_hh", rows, s.H)
        s.b_ih = buffers.dense_in(weights[first + 2], "b_ih", 0, rows)
        s.b_hh = buffers.dense_in(weights[first + 3], "b_hh", 0, rows)
        if (s.b_ih == NULL) != (s.b_hh == NULL):
            raise ValueError("b_ih, b_hh: expected both or neither")
        return 0

    cdef int take_restart(self, tuple restart) except -1:
        cdef int d
        self.length(restart, "restart", self.kernel.n_states)
        self.restarts = True
        cdef char *h = self.states_in(restart[0], "h_r")
        cdef char *c = self.states_in(restart[1], "c_r") if self.kernel.n_states > 1 else NULL
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

    cdef int length(self, arrays, str name, idx expected) except -1:
        if len(arrays) != expected:
            raise ValueError(f"{name}: expected {expected} arrays, got {len(arrays)}")
        return 0

    cdef rk_grid own_grid(self, array, idx width) noexcept:
        """That of an array from `room_for_steps`; None: none."""
        cdef idx t = width if self.batch_first else self.s[0].N * width
        cdef idx n = self.T * width if self.batch_first else width
        return rk_grid(memory_of(array), t, n, 0)

    cdef rk_grid grid_out(self, array, str name, idx width) except *:
        """That of an array that is written; None: none."""
        if array is None:
            return rk_grid(NULL, 0, 0, 0)
        return self.grid_of(self.buffers.take(array, name, 3, True), name, width)

    cdef rk_grid grid_in(self, array, str name, idx width) except *:
        """That of an array that is read, or of a copy that a kernel can take."""
        if array is None:
            return rk_grid(NULL, 0, 0, 0)
        return self.grid_of(self.buffers.take_in(array, name, 3, True), name, width)

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
        check_strides(view, name, 2, size)
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

    cdef char *states_in(self, array, str name) except? NULL:
        """A contiguous (D, N, H) array that is read, or a copy of another; None: NULL."""
        if array is None:
            return NULL
        return self.states_of(self.buffers.take_in(array, name, 3), name)

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
