# What the tables of a program must hold, so that the executor can follow every number in them.

cdef enum:
    LARGEST = 0x7FFFFFFF


def program_ops():
    """Names of the operations, in the order of their numbers."""
    names = []
    cdef int i = 0
    while rk_op_names[i] != NULL:
        names.append(rk_op_names[i].decode())
        i += 1
    return names


def operation_inputs():
    """How many operands each operation reads, by name."""
    names = program_ops()
    binary, ternary = names.index("add"), names.index("where")
    count = {name: 1 + (i >= binary) + (i >= ternary) for i, name in enumerate(names[:RK_OP_gather])}
    return {**dict.fromkeys(names[RK_OP_gather:], 1), **count, "fill": 0, "row_product": 2}


def check_count(name, arrays, count):
    if len(arrays) != count:
        raise ValueError(f"{name}: expected {count}, got {len(arrays)}")


def check_range(name, number, low, high):
    if not low <= number <= high:
        raise ValueError(f"{name}: expected {low} to {high}, got {number}")


def rows_of_table(bytes table, columns):
    """A copied table as lists of numbers."""
    return memoryview(table).cast("i", (len(table) // (4 * columns), columns)).tolist() if table else []


class TableCheck:
    """The tables of a program, gone through; ValueError where a number is out of range.

    Args:
        tables: name to bytes, as `Program` copies them; the others are its arguments.

    Attributes:
        is_backward: the program belongs to a backward pass.
        states_read: numbers of the states that it reads.
        kept_needed: how many elements of a row of what is kept it reaches.
    """

    def __init__(self, tables, sizes, invariant_sizes, sequence_widths, output_widths):
        self.invariant_sizes = invariant_sizes
        self.sequence_widths = sequence_widths
        self.output_widths = output_widths
        self.check_sizes(sizes)
        self.temp, self.wide, kept, self.summands, self.states_size, self.sums = sizes
        self.kept = kept or LARGEST
        self.states = rows_of_table(tables["states"], 3)
        self.is_backward = RK_FLOWED in [kind for kind, _, _ in self.states]
        self.bases = rows_of_table(tables["bases"], 2)
        self.weights = rows_of_table(tables["weights"], 5)
        products = rows_of_table(tables["products"], 6)
        instructions = rows_of_table(tables["instructions"], 24)
        self.check_states()
        # Of each base the elements that a row has, and how many of them are used.
        self.rooms = [self.room_of_base(f"bases {i}", kind, index) for i, (kind, index) in enumerate(self.bases)]
        self.used = [0] * len(self.bases)
        self.check_instructions(instructions)
        self.check_weights()
        self.check_products(products)
        check_stages(rows_of_table(tables["stages"], 4), len(instructions), len(products))
        self.states_read = frozenset([index for kind, index in self.bases if kind == RK_STATE])
        self.kept_needed = max(
            [offset + width for kind, offset, width in self.states if kind == RK_KEPT]
            + [reached for (kind, _), reached in zip(self.bases, self.used) if kind == RK_KEPT] + [0])

    def check_sizes(self, sizes):
        for name, size in zip(("temp", "wide", "kept", "summands", "states", "sums"), sizes):
            check_range(f"sizes: {name}", size, 0, LARGEST)
        for name, most in (("invariant_sizes", 256), ("sequence_widths", 64), ("output_widths", 64)):
            widths = getattr(self, name)
            if len(widths) > most:
                raise ValueError(f"{name}: expected at most {most}, got {len(widths)}")
            for i, width in enumerate(widths):
                check_range(f"{name} {i}", width, 0, LARGEST)

    def check_states(self):
        for i, (kind, offset, width) in enumerate(self.states):
            if kind != RK_FLOWED if self.is_backward else kind not in (RK_KEPT, RK_NEXT, RK_STATE):
                raise ValueError(f"states {i}: base kind {kind} has no states")
            room = self.kept if kind == RK_KEPT else width if kind == RK_STATE else self.states_size
            check_range(f"states {i}: width", width, 1, room)
            check_range(f"states {i}: offset", offset, 0, room - width)

    def room_of_base(self, name, kind, index):
        """The elements of a row of it."""
        check_range(f"{name}: kind", kind, RK_TEMP, RK_SUMS)
        widths = {RK_INVARIANT: self.invariant_sizes, RK_SEQUENCE: self.sequence_widths,
                  RK_OUTPUT: self.output_widths, RK_STATE: [width for _, _, width in self.states]}.get(kind)
        if widths is not None:
            check_range(f"{name}: index", index, 0, len(widths) - 1)
            return widths[index]
        return {RK_TEMP: self.temp, RK_WIDE: self.wide, RK_KEPT: self.kept, RK_SUMMANDS: self.summands,
                RK_SUMS: self.sums}.get(kind, self.states_size)

    def check_base(self, name, base, offset):
        check_range(f"{name}: base", base, 0, len(self.bases) - 1)
        check_range(f"{name}: offset", offset, 0, LARGEST)

    def check_place(self, name, base, first, last, writes):
        """That elements `first` to `last` of a row are there."""
        if writes and self.bases[base][0] in (RK_INVARIANT, RK_SEQUENCE, RK_STATE):
            raise ValueError(f"{name}: writes to what is only read (base {base})")
        if first < 0 or last >= self.rooms[base]:
            raise ValueError(
                f"{name}: elements {first} to {last} of a row of {self.rooms[base]} (base {base})")
        self.used[base] = max(self.used[base], last + 1)

    def check_operand(self, name, operand, sizes, strides, writes):
        base, offset = operand[:2]
        reach = [(n - 1) * stride for n, stride in zip(sizes, strides)]
        self.check_place(name, base, offset + sum([r for r in reach if r < 0]),
                         offset + sum([r for r in reach if r > 0]), writes)

    def check_instructions(self, instructions):
        operations = program_ops()
        arity = operation_inputs()
        for i, row in enumerate(instructions):
            check_range(f"instructions {i}: operation", row[0], 0, len(operations) - 1)
            op = operations[row[0]]
            out, *inputs = [row[4 + 5 * k : 9 + 5 * k] for k in range(4)]
            name = f"instructions {i} ({op})"
            for operand in (out, *inputs):
                self.check_base(name, operand[0], operand[1])
            self.check_instruction(name, op, row[0] < RK_OP_gather, row[1:4], out, inputs[:arity[op]])

    def check_instruction(self, name, op, is_elementwise, size, out, inputs):
        for n in size:
            check_range(f"{name}: size", n, 1, LARGEST)
        check_range(f"{name}: size of all axes", size[0] * size[1] * size[2], 1, LARGEST)
        to = out[2:]
        if is_elementwise:
            # The last axis is taken as a vector, or as one number for all.
            for operand in inputs:
                check_range(f"{name}: last stride", operand[4], 0, 1)
            if size[2] > 1:
                check_range(f"{name}: last stride of the result", to[2], 1, 1)
        sizes_of = [size] * len(inputs)
        if op.startswith("reduce_"):
            to = [to[0], 0, to[2]]
        elif op == "row_product":
            to = [to[0], 0, to[2]]
            sizes_of = [[size[0], size[1], 1], [size[1], size[2], 1]]
        self.check_operand(f"{name}: result", out, size, to, True)
        for k, (operand, own) in enumerate(zip(inputs, sizes_of)):
            self.check_operand(f"{name}: operand {k}", operand, own, operand[2:], False)

    def check_weights(self):
        for i, (invariant, K, M, k_stride, m_stride) in enumerate(self.weights):
            name = f"weights {i}"
            check_range(f"{name}: invariant", invariant, 0, len(self.invariant_sizes) - 1)
            for what, n in (("K", K), ("M", M)):
                check_range(f"{name}: {what}", n, 1, LARGEST)
            for what, stride in (("k_stride", k_stride), ("m_stride", m_stride)):
                check_range(f"{name}: {what}", stride, 1, LARGEST)
            if 1 not in (k_stride, m_stride):
                raise ValueError(f"{name}: one stride must be 1, got {k_stride} and {m_stride}")
            last, room = (K - 1) * k_stride + (M - 1) * m_stride, self.invariant_sizes[invariant]
            if last >= room:
                raise ValueError(f"{name}: element {last} of an invariant of {room}")

    def check_products(self, products):
        for i, (weight, adds, in_base, in_offset, out_base, out_offset) in enumerate(products):
            name = f"products {i}"
            check_range(f"{name}: weight", weight, 0, len(self.weights) - 1)
            self.check_base(name, in_base, in_offset)
            self.check_base(name, out_base, out_offset)
            K, M = self.weights[weight][1:3]
            self.check_place(f"{name}: input", in_base, in_offset, in_offset + K - 1, False)
            # Whole vectors are written, of 16 elements at most.
            self.check_place(f"{name}: result", out_base, out_offset, out_offset + -(-M // 16) * 16 - 1, True)


def check_stages(stages, n_instructions, n_products):
    for i, stage in enumerate(stages):
        for what, count, (first, last) in zip(("rows", "products"), (n_instructions, n_products),
                                              (stage[:2], stage[2:])):
            check_range(f"stages {i}: last of {what}", last, 0, count)
            check_range(f"stages {i}: first of {what}", first, 0, last)
