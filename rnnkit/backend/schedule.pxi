# Which rows of a batch take which step, and where they restart: rk_schedule, for both directions.

cdef class Schedule:
    """The schedule of a batch, for any layers that run over it.

    Args:
        T, N: steps and rows of the arrays.
        lengths: int64 (N,), each from 0 to T; None: all T.
        reset: bool or uint8 (T, N), not 0 where a sequence begins: the forward direction restarts before that
            step, the reverse direction before the step that precedes it in time. None: nowhere. It must
            stay as it is.

    Attributes:
        steps: of the longest row.
        rows: of all steps together.

    Raises ValueError where an array has another size or a length is out of range.
    """

    cdef readonly idx steps, rows
    cdef readonly idx T, N
    cdef bint ragged, resets
    cdef idx *memory          # what the next five share
    cdef idx *order
    cdef idx *length
    cdef idx *lag
    cdef idx *active
    cdef idx *before
    cdef unsigned char *flags # per direction, once `make_flags` has made them
    cdef bint has_flags[2]
    cdef const unsigned char *restart[2] # where those of each row then are
    cdef Py_buffer reset      # held where there are resets
    cdef const unsigned char *begins # (T, N), in it

    def __cinit__(self, idx T, idx N, lengths, reset):
        cdef Py_buffer of_row
        self.T, self.N = T, N
        self.steps, self.rows = T, T * N
        if lengths is not None:
            take_plain(&of_row, lengths, "lengths", b"lq", 1, False)
            try:
                if of_row.shape[0] != N:
                    raise ValueError(f"lengths: expected {N}, got {of_row.shape[0]}")
                self.take_lengths(<const int64_t *>of_row.buf)
            finally:
                PyBuffer_Release(&of_row)
        if reset is not None:
            take_plain(&self.reset, reset, "reset", b"?B", 2, False)
            self.resets = True
            if self.reset.shape[0] != T or self.reset.shape[1] != N:
                raise ValueError(
                    f"reset: expected {(T, N)}, got {(self.reset.shape[0], self.reset.shape[1])}"
                )
            self.begins = <const unsigned char *>self.reset.buf
            self.take_resets()

    def __dealloc__(self):
        if self.resets:
            PyBuffer_Release(&self.reset)
        PyMem_RawFree(self.memory)
        PyMem_RawFree(self.flags)

    cdef int take_lengths(self, const int64_t *lengths) except -1:
        cdef idx T = self.T, N = self.N, n, t, longest = 0, shortest = T, rows = 0
        for n in range(N):
            if lengths[n] < 0 or lengths[n] > T:
                raise ValueError(f"lengths: expected 0 to {T}, got {lengths[n]}")
            longest = max(longest, <idx>lengths[n])
            shortest = min(shortest, <idx>lengths[n])
        self.steps, self.rows = longest, longest * N
        if longest == shortest:
            return 0
        self.ragged = True
        self.memory = <idx *>PyMem_RawCalloc(3 * N + 2 * longest + 2, sizeof(idx))
        if self.memory == NULL:
            raise MemoryError
        self.order = self.memory
        self.length = self.order + N
        self.lag = self.length + N
        self.active = self.lag + N
        self.before = self.active + longest
        # How many rows are longer than t: counted, then summed from the end.
        for n in range(N):
            if lengths[n]:
                self.active[lengths[n] - 1] += 1
        for t in range(longest - 2, -1, -1):
            self.active[t] += self.active[t + 1]
        # A row's place: after all longer ones, in their order among those of its length.
        for t in range(longest):
            self.before[t] = self.active[t]
        self.before[longest] = 0
        for n in range(N):
            place = self.before[lengths[n]]
            self.before[lengths[n]] += 1
            self.order[place] = n
            self.length[place] = lengths[n]
            self.lag[place] = longest - lengths[n]
        rows = 0
        for t in range(longest):
            self.before[t] = rows
            rows += self.active[t]
        self.before[longest] = self.rows = rows
        return 0

    cdef int take_resets(self) except -1:
        self.flags = <unsigned char *>PyMem_RawMalloc(2 * (self.rows + self.steps) + 1)
        if self.flags == NULL:
            raise MemoryError
        self.make_flags(0)
        return 0

    cdef void make_flags(self, int direction) noexcept:
        """One for each row of each step, then one for each step, in the direction's order."""
        cdef unsigned char *flags = self.flags + direction * (self.rows + self.steps)
        cdef unsigned char *any_of_step = flags + self.rows
        cdef unsigned char restart, some
        cdef idx n, t, row, active
        self.has_flags[direction] = True
        if not self.ragged and not direction:
            # As they stand.
            self.restart[0] = self.begins if self.rows else NULL
            for t in range(self.steps):
                any_of_step[t] = has_any(self.begins + t * self.N, self.N)
            return
        self.restart[direction] = flags
        for t in range(self.steps):
            active = self.active[t] if self.ragged else self.N
            some = 0
            for n in range(active):
                restart = 0
                if t or not direction:
                    row = self.order[n] if self.ragged else n
                    restart = self.begins[self.time_of(t, n, direction) * self.N + row] != 0
                flags[n] = restart
                some |= restart
            any_of_step[t] = some
            flags += active

    cdef inline idx time_of(self, idx t, idx n, int direction) noexcept:
        """Of the step before which the row's state restarts, if a sequence begins there."""
        if not direction:
            return t
        # The step taken before this one is a later one in time.
        return (self.length[n] if self.ragged else self.steps) - t

    def clear_padding(self, cells, bint batch_first):
        """Set to zero what no row reaches, in a real (T, N, width) or (N, T, width) array."""
        cdef Py_buffer view
        cdef idx t_axis = 1 if batch_first else 0
        take_plain(&view, cells, "cells", b"fd", 3, True)
        try:
            if view.shape[t_axis] != self.T or view.shape[1 - t_axis] != self.N:
                raise ValueError(
                    f"cells: expected T={self.T} N={self.N}, got {view.shape[t_axis]} and "
                    f"{view.shape[1 - t_axis]}"
                )
            self.clear(<char *>view.buf, view.shape[2] * view.itemsize, batch_first)
        finally:
            PyBuffer_Release(&view)

    cdef bint pads(self) noexcept:
        """Whether there is anything that no row reaches."""
        return self.ragged or self.steps < self.T

    cdef void clear(self, char *cells, idx width, bint batch_first) noexcept:
        """The same for cells of `width` bytes."""
        cdef idx i, n, t, T = self.T, N = self.N
        self.clear_after(cells, width, batch_first)
        if not self.ragged:
            return
        if batch_first:
            for n in range(N):
                t = self.length[n]
                memset(cells + (self.order[n] * T + t) * width, 0, (self.steps - t) * width)
            return
        # In the order of memory.
        for t in range(self.steps):
            for i in range(self.active[t], N):
                memset(cells + (t * N + self.order[i]) * width, 0, width)

    cdef void clear_after(self, char *cells, idx width, bint batch_first) noexcept:
        """Only what comes after the end of the longest row."""
        cdef idx n, T = self.T, N = self.N
        if self.steps == T:
            return
        if not batch_first:
            memset(cells + self.steps * N * width, 0, (T - self.steps) * N * width)
            return
        for n in range(N):
            memset(cells + (n * T + self.steps) * width, 0, (T - self.steps) * width)

    cdef void fill(self, rk_schedule *schedule, int direction) noexcept:
        if self.ragged:
            schedule.order, schedule.length = self.order, self.length
            schedule.active, schedule.rows_before = self.active, self.before
            schedule.lag = self.lag if direction else NULL
        if self.resets:
            if not self.has_flags[direction]:
                self.make_flags(direction)
            schedule.restart = self.restart[direction]
            schedule.restarting = self.flags + direction * (self.rows + self.steps) + self.rows


cdef unsigned char has_any(const unsigned char *flags, idx n) noexcept:
    """Whether one of them is not 0."""
    cdef uint64_t some = 0, eight
    cdef idx i = 0
    while i + 8 <= n:
        memcpy(&eight, flags + i, 8)
        some |= eight
        i += 8
    while i < n:
        some |= flags[i]
        i += 1
    return some != 0


cdef void cut_schedule(rk_schedule *schedule, idx N, idx t) noexcept:
    """The schedule of a run that begins at step t of another."""
    cdef idx rows = t * N
    if schedule.rows_before != NULL:
        rows = schedule.rows_before[t] - schedule.rows_before[0]
        schedule.rows_before += t
        schedule.active += t
    schedule.begins += t
    if schedule.restart != NULL:
        schedule.restart += rows
        schedule.restarting += t
