# What a training step touches besides the recurrent layers; csrc/training.h tells what each part is.

# Characters that stand for a dtype in the buffer protocol; int64 has a name of its own per platform.
cdef dict FORMATS = {"float32": b"f", "float64": b"d", "int64": b"lq", "bool": b"?"}


cdef class Loans:
    """Contiguous arrays of any number and shape, each checked as it is taken, held for one call."""

    cdef Py_buffer *views
    cdef idx count, room

    def __cinit__(self, idx room):
        self.count = 0
        self.views = <Py_buffer *>PyMem_RawMalloc(<size_t>max(room, 1) * sizeof(Py_buffer))
        if self.views == NULL:
            raise MemoryError()
        self.room = room

    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])
        PyMem_RawFree(self.views)

    cdef Py_buffer *take(self, object array, name, str dtype, idx size, bint writable) except NULL:
        """Any size will do where `size` is negative."""
        if self.count == self.room:
            raise ValueError(f"{name}: more arrays than were announced")
        cdef Py_buffer *view = &self.views[self.count]
        cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
        if writable:
            flags |= PyBUF_WRITABLE
        try:
            PyObject_GetBuffer(array, view, flags)
        except (ValueError, TypeError, BufferError) as error:
            raise type(error)(f"{name}: {error}") from None
        self.count += 1
        if view.format == NULL or strlen(view.format) != 1 or view.format not in FORMATS[dtype]:
            raise TypeError(f"{name}: expected {dtype}, got format {view.format!r}")
        if <uintptr_t>view.buf % <size_t>view.itemsize:
            raise ValueError(f"{name}: not aligned to its elements")
        if size >= 0 and view.len != size * view.itemsize:
            raise ValueError(
                f"{name}: expected {size} elements, got {view.len // view.itemsize}"
            )
        return view


cdef idx size_of(const Py_buffer *view) noexcept:
    return view.len // view.itemsize


cdef bint overlap(list ranges) except -1:
    """Whether any two of the (start, end) share memory."""
    ranges.sort()
    for k in range(1, len(ranges)):
        if ranges[k][0] < ranges[k - 1][1]:
            return True
    return False


# ---- optimisers ---------------------------------------------------------------------------------

cdef const rk_rule *find_rule(str name, int dtype) except NULL:
    cdef const rk_rule *rule = kernels.training[dtype].rules
    cdef bytes wanted = name.encode()
    while rule.name != NULL:
        if not strcmp(rule.name, wanted):
            return rule
        rule += 1
    raise KeyError(f"no optimiser named {name!r}")


def update(str rule, str dtype, int n_threads, list params, list grads, list states,
           list coefficients):
    """One step of an optimiser, in place, over all parameters; csrc/kernels/update.h has the rules.

    params, grads: contiguous arrays, pairwise of one size. states: per parameter a tuple with an
    array for each state of the rule, None for an optional one that is off. coefficients: per
    parameter a tuple of numbers.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef int code = dtype_code(dtype)
    cdef const rk_rule *kernel = find_rule(rule, code)
    cdef idx count = len(params)
    cdef tuple given, numbers
    cdef Py_buffer *view
    cdef rk_parameter *q
    if len(grads) != count or len(states) != count or len(coefficients) != count:
        raise ValueError(
            f"grads, states, coefficients: expected {count} each as params, got {len(grads)}, "
            f"{len(states)} and {len(coefficients)}"
        )
    cdef Loans loans = Loans(count * (2 + RK_RULE_STATES))
    cdef rk_parameter *parameters = <rk_parameter *>PyMem_RawMalloc(
        <size_t>max(count, 1) * sizeof(rk_parameter))
    if parameters == NULL:
        raise MemoryError()
    cdef rk_parameters every
    cdef list ranges = []
    try:
        for k in range(count):
            q = &parameters[k]
            memset(q, 0, sizeof(rk_parameter))
            view = loans.take(params[k], f"params[{k}]", dtype, -1, True)
            q.size, q.p = size_of(view), view.buf
            ranges.append((<uintptr_t>view.buf, <uintptr_t>view.buf + <size_t>view.len))
            q.d_p = loans.take(grads[k], f"grads[{k}]", dtype, q.size, False).buf
            given = states[k]
            if len(given) != kernel.n_states:
                raise ValueError(
                    f"states[{k}]: expected {kernel.n_states} arrays or None, got {len(given)}"
                )
            for i in range(kernel.n_states):
                if given[i] is not None:
                    q.state[i] = loans.take(
                        given[i], f"states[{k}][{i}]", dtype, q.size, True).buf
                elif not kernel.optional >> i & 1:
                    raise ValueError(f"states[{k}][{i}]: missing")
            numbers = coefficients[k]
            if len(numbers) != kernel.n_coefficients:
                raise ValueError(
                    f"coefficients[{k}]: expected {kernel.n_coefficients} numbers, "
                    f"got {len(numbers)}"
                )
            for i in range(kernel.n_coefficients):
                q.c[i] = numbers[i]
        every.n_threads = 1 if overlap(ranges) else n_threads
        every.count = count
        every.parameters = parameters
        with nogil:
            kernel.update(&every)
    finally:
        PyMem_RawFree(parameters)


# ---- several arrays as one vector ---------------------------------------------------------------

cdef class Several:
    """Arrays of one dtype, taken for one call."""

    cdef rk_arrays all
    cdef Loans loans
    cdef void **pointers
    cdef idx *sizes

    def __cinit__(self, str dtype, int n_threads, list arrays, bint writable):
        cdef idx count = len(arrays)
        cdef Py_buffer *view
        cdef list ranges = []
        self.loans = Loans(count)
        self.pointers = <void **>PyMem_RawMalloc(<size_t>max(count, 1) * sizeof(void *))
        self.sizes = <idx *>PyMem_RawMalloc(<size_t>max(count, 1) * sizeof(idx))
        if self.pointers == NULL or self.sizes == NULL:
            raise MemoryError()
        for k in range(count):
            view = self.loans.take(arrays[k], f"arrays[{k}]", dtype, -1, writable)
            self.pointers[k], self.sizes[k] = view.buf, size_of(view)
            ranges.append((<uintptr_t>view.buf, <uintptr_t>view.buf + <size_t>view.len))
        self.all.count = count
        self.all.arrays = self.pointers
        self.all.sizes = self.sizes
        self.all.n_threads = 1 if writable and overlap(ranges) else n_threads

    def __dealloc__(self):
        PyMem_RawFree(self.pointers)
        PyMem_RawFree(self.sizes)


def squared_norm(str dtype, int n_threads, list arrays):
    """The sum of the squares of all elements of contiguous arrays, in double precision.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef rk_training training = kernels.training[dtype_code(dtype)]
    cdef Several several = Several(dtype, n_threads, arrays, False)
    cdef size_t size = 0
    cdef double total
    several.all.sums = <double *>borrow_workspace(
        <size_t>(training.norm_blocks(&several.all) + 1) * sizeof(double), &size)
    with nogil:
        total = training.squared_norm(&several.all)
    return_workspace(several.all.sums, size)
    return total


def scale(str dtype, int n_threads, list arrays, double factor):
    """Multiply contiguous arrays by a number, in place.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef rk_training training = kernels.training[dtype_code(dtype)]
    cdef Several several = Several(dtype, n_threads, arrays, True)
    several.all.factor = factor
    with nogil:
        training.scale(&several.all)


# ---- cross entropy ------------------------------------------------------------------------------

cdef idx first_outside(const int64_t *ids, idx n, idx end) noexcept nogil:
    """The place of the first id outside [0, end), or -1."""
    for i in range(n):
        if ids[i] < 0 or ids[i] >= end:
            return i
    return -1


cdef int take_rows_of_classes(rk_cross_entropy *c, Loans loans, str dtype, int n_threads, x, target,
                              kept, hit, total, rest, double spread) except -1:
    memset(c, 0, sizeof(rk_cross_entropy))
    cdef Py_buffer *view = loans.take(target, "target", "int64", -1, False)
    c.n_threads = n_threads
    c.rows, c.target = size_of(view), <const int64_t *>view.buf
    c.classes = x.shape[len(x.shape) - 1] if len(x.shape) else 0
    if c.classes < 1:
        raise ValueError("x: expected at least one class")
    if <double>c.rows * c.classes >= 1e15:  # which may wrap around
        raise ValueError(f"x: expected rows for {c.rows} targets, got {c.classes} classes in each")
    cdef idx wrong
    with nogil:
        wrong = first_outside(c.target, c.rows, c.classes)
    if wrong >= 0:
        raise ValueError(f"target: expected ids in [0, {c.classes}), got {c.target[wrong]}")
    c.x = loans.take(x, "x", dtype, c.rows * c.classes, False).buf
    c.kept = <const unsigned char *>loans.take(kept, "kept", "bool", c.rows, False).buf
    c.hit = loans.take(hit, "hit", dtype, c.rows, False).buf
    c.total = loans.take(total, "total", dtype, c.rows, False).buf
    if rest is not None:
        c.rest = loans.take(rest, "rest", dtype, c.classes, False).buf
    c.spread = spread
    return 0


def cross_entropy(str dtype, int n_threads, *, x, target, kept, hit, total, rest, double spread,
                  loss, top, others):
    """Losses of rows of logits x (..., C); csrc/training.h tells what each array is.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(9)
    cdef rk_cross_entropy c
    take_rows_of_classes(&c, loans, dtype, n_threads, x, target, kept, hit, total, rest, spread)
    c.loss = loans.take(loss, "loss", dtype, c.rows, True).buf
    c.top = loans.take(top, "top", dtype, c.rows, True).buf
    c.others = loans.take(others, "others", dtype, c.rows, True).buf
    with nogil:
        kernels.training[code].cross_entropy_forward(&c)


def cross_entropy_gradient(str dtype, int n_threads, *, x, target, kept, hit, total, rest,
                           double spread, top, others, d_loss, d_x):
    """Gradient d_x (..., C) of `cross_entropy`, which found top and others.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(10)
    cdef rk_cross_entropy c
    take_rows_of_classes(&c, loans, dtype, n_threads, x, target, kept, hit, total, rest, spread)
    c.top = loans.take(top, "top", dtype, c.rows, False).buf
    c.others = loans.take(others, "others", dtype, c.rows, False).buf
    c.d_loss = loans.take(d_loss, "d_loss", dtype, c.rows, False).buf
    c.d_x = loans.take(d_x, "d_x", dtype, c.rows * c.classes, True).buf
    with nogil:
        kernels.training[code].cross_entropy_backward(&c)


# ---- connectionist temporal classification -------------------------------------------------------

def ctc_alphas_shape(idx T, idx N, idx labels):
    """Shape of what `ctc` keeps for `ctc_gradient`, for rows of at most so many labels."""
    if min(T, N, labels) < 0:
        raise ValueError(f"T, N, labels: expected 0 or more, got {T}, {N} and {labels}")
    return N, T, 2 * rk_ctc_width(labels)


cdef int take_labelled_rows(rk_ctc *c, Loans loans, str dtype, int n_threads, x, target,
                            input_length, target_length, idx blank) except -1:
    memset(c, 0, sizeof(rk_ctc))
    cdef Py_buffer *view = loans.take(x, "x", dtype, -1, False)
    if view.ndim != 3 or view.shape[2] < 1:
        raise ValueError("x: expected (T, N, C) with a class or more")
    c.n_threads = n_threads
    c.x, c.T, c.N, c.C = view.buf, view.shape[0], view.shape[1], view.shape[2]
    if not 0 <= blank < c.C:
        raise ValueError(f"blank: expected an id in [0, {c.C}), got {blank}")
    c.blank = blank
    view = loans.take(target, "target", "int64", -1, False)
    if view.ndim != 2 or view.shape[0] != c.N:
        raise ValueError(f"target: expected shape ({c.N}, any number of labels)")
    c.target, c.labels = <const int64_t *>view.buf, view.shape[1]
    cdef idx n, wrong
    c.input_length = <const int64_t *>loans.take(
        input_length, "input_length", "int64", c.N, False).buf
    c.target_length = <const int64_t *>loans.take(
        target_length, "target_length", "int64", c.N, False).buf
    for n in range(c.N):
        if not 0 <= c.input_length[n] <= c.T:
            raise ValueError(
                f"input_length: expected numbers from 0 to {c.T}, got {c.input_length[n]}"
            )
        if not 0 <= c.target_length[n] <= c.labels:
            raise ValueError(
                f"target_length: expected numbers from 0 to {c.labels}, got {c.target_length[n]}"
            )
        wrong = first_outside(c.target + n * c.labels, c.target_length[n], c.C)
        if wrong >= 0:
            raise ValueError(
                f"target: expected ids in [0, {c.C}), got {c.target[n * c.labels + wrong]}"
            )
    return 0


cdef int run_ctc(rk_ctc *c, size_t (*workspace)(const rk_ctc *) noexcept nogil,
                 void (*run)(const rk_ctc *) noexcept nogil) except -1:
    cdef size_t size = 0
    cdef void *memory = borrow_workspace(workspace(c) + CACHE_LINE, &size)
    c.workspace = aligned(memory)
    with nogil:
        run(c)
    return_workspace(memory, size)
    return 0


cdef idx alphas_size(const rk_ctc *c) noexcept:
    return c.N * c.T * 2 * rk_ctc_width(c.labels)


def ctc(str dtype, int n_threads, *, x, target, input_length, target_length, idx blank, alphas,
        loss):
    """Losses of labelled rows x (T, N, C); csrc/training.h tells what each array is.

    alphas: None, or an array of `ctc_alphas_shape`.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(6)
    cdef rk_ctc c
    take_labelled_rows(&c, loans, dtype, n_threads, x, target, input_length, target_length,
                       blank)
    if alphas is not None:
        c.alphas = loans.take(alphas, "alphas", dtype, alphas_size(&c), True).buf
    c.loss = loans.take(loss, "loss", dtype, c.N, True).buf
    run_ctc(&c, kernels.training[code].ctc_workspace, kernels.training[code].ctc_forward)


def ctc_gradient(str dtype, int n_threads, *, x, target, input_length, target_length,
                 idx blank, alphas, loss, d_loss, d_x):
    """Gradient d_x (T, N, C) of `ctc`, which found alphas and loss.

    Raises TypeError or ValueError naming the array for anything a kernel could not take.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(8)
    cdef rk_ctc c
    take_labelled_rows(&c, loans, dtype, n_threads, x, target, input_length, target_length,
                       blank)
    c.alphas = loans.take(alphas, "alphas", dtype, alphas_size(&c), False).buf
    c.loss = loans.take(loss, "loss", dtype, c.N, False).buf
    c.d_loss = loans.take(d_loss, "d_loss", dtype, c.N, False).buf
    c.d_x = loans.take(d_x, "d_x", dtype, c.T * c.N * c.C, True).buf
    run_ctc(&c, kernels.training[code].ctc_workspace, kernels.training[code].ctc_backward)


# ---- rows of a table ----------------------------------------------------------------------------

cdef int take_table(rk_rows *r, Loans loans, str dtype, int n_threads, table, ids, rows,
                    bint adding) except -1:
    cdef Py_buffer *view = loans.take(ids, "ids", "int64", -1, False)
    r.n_threads = n_threads
    r.count, r.ids = size_of(view), <const int64_t *>view.buf
    view = loans.take(table, "table", dtype, -1, adding)
    if view.ndim != 2:
        raise ValueError(f"table: expected 2 axes, got {view.ndim}")
    r.width, r.table = view.shape[1], view.buf
    cdef idx end = view.shape[0]
    cdef idx wrong
    with nogil:
        wrong = first_outside(r.ids, r.count, end)
    if wrong >= 0:
        raise IndexError(f"ids: expected values in [0, {end}), got {r.ids[wrong]}")
    r.rows = loans.take(rows, "rows", dtype, r.count * r.width, not adding).buf
    return 0


def take_rows(str dtype, int n_threads, table, ids, rows):
    """rows[i] = table[ids[i]] for a table (V, E), any number n of ids, and rows (n, E).

    Raises IndexError for an id outside [0, V), else TypeError or ValueError naming the array.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(3)
    cdef rk_rows r
    take_table(&r, loans, dtype, n_threads, table, ids, rows, False)
    with nogil:
        kernels.training[code].take_rows(&r)


def add_rows(str dtype, int n_threads, table, ids, rows):
    """table[ids[i]] += rows[i], one after the other, for arrays as `take_rows` has them.

    Raises as `take_rows` does.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(3)
    cdef rk_rows r
    take_table(&r, loans, dtype, n_threads, table, ids, rows, True)
    with nogil:
        kernels.training[code].add_rows(&r)


# ---- dropout ------------------------------------------------------------------------------------

def dropout(str dtype, int n_threads, x, y, uint64_t seed, uint32_t threshold, double scale):
    """y = x * mask, where the mask is 0 or scale as the bits of each place say; y may be x.

    Raises TypeError or ValueError naming the array, OverflowError for a seed beyond 64 or a
    threshold beyond 32 bits.
    """
    cdef int code = dtype_code(dtype)
    cdef Loans loans = Loans(2)
    cdef rk_dropout d
    cdef Py_buffer *view = loans.take(x, "x", dtype, -1, False)
    d.n_threads = n_threads
    d.size, d.x = size_of(view), view.buf
    d.y = loans.take(y, "y", dtype, d.size, True).buf
    d.seed, d.threshold, d.scale = seed, threshold, scale
    with nogil:
        kernels.training[code].dropout(&d)
