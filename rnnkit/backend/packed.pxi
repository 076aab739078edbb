# Weights of a fused cell, packed once for many runs.

cdef class PackedWeights:
    """The weights of one cell as its kernel takes them; any number of runs may use them at the same time.

    Args:
        cell, variant, dtype: the kernel.
        I, H: features of the input, and units.
        weights: w_ih, w_hh, b_ih and b_hh, the biases None where there are none. They are copied.

    Raises TypeError or ValueError naming the array for anything the kernel could not take; MemoryError.
    """

    cdef const rk_kernels *of
    cdef const rk_cell *kernel
    cdef int code
    cdef rk_sequence s        # what packing knows of a run
    cdef void *block
    cdef void *at             # aligned inside the block

    def __cinit__(self, str cell, str variant, str dtype, idx I, idx H, tuple weights):
        self.code = dtype_code(dtype)
        self.of, self.kernel = kernels, find_cell(cell, self.code)
        fill_sizes(&self.s, self.kernel, variant, 1, 1, I, H, 1)
        self.block = PyMem_RawMalloc(self.kernel.packed_size(&self.s) + CACHE_LINE)
        if self.block == NULL:
            raise MemoryError
        self.at = aligned(self.block)
        self.pack(weights)

    def __dealloc__(self):
        PyMem_RawFree(self.block)

    @property
    def serves(self):
        """Whether the instruction set in use is still the one that they were packed for."""
        return self.of == kernels

    def pack(self, tuple weights):
        """Take other values, of the same shapes. No run may be using the old ones."""
        cdef Buffers buffers = Buffers(self.code)
        cdef rk_sequence s = self.s
        cdef idx rows = self.kernel.n_gates * s.H
        if len(weights) != WEIGHTS_EACH:
            raise ValueError(f"weights: expected {WEIGHTS_EACH} arrays, got {len(weights)}")
        s.w_ih = buffers.dense(weights[0], "w_ih", rows, s.I, False)
        s.w_hh = buffers.dense(weights[1], "w_hh", rows, s.H, False)
        s.b_ih = buffers.dense(weights[2], "b_ih", 0, rows, False)
        s.b_hh = buffers.dense(weights[3], "b_hh", 0, rows, False)
        require(s.w_ih, "w_ih")
        require(s.w_hh, "w_hh")
        s.packed = self.at
        with nogil:
            self.kernel.pack(&s)

    cdef int lend(self, rk_sequence *s, const rk_cell *kernel) except -1:
        """To a run, which must be of the same kernel and sizes."""
        if kernel != self.kernel or s.variant != self.s.variant:
            raise ValueError("packed: expected weights packed for the kernel of the run")
        if s.I != self.s.I or s.H != self.s.H:
            raise ValueError(f"packed: expected I={s.I} H={s.H}, got I={self.s.I} H={self.s.H}")
        s.packed = self.at
        return 0
