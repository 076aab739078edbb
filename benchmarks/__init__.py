"""rnnkit's benchmarks: ``python -m benchmarks --help``.

    cli.py             options, one worker process per thread count, output files
    worker.py          the suites, and the process that runs them with its thread counts fixed

    suite_limits.py    the machine: FMA peak, read bandwidth of every memory
    suite_cells.py     the cells over a grid of shapes, inference and training step
    suite_stream.py    one step at a time, batch 1, from Python
    suite_matmul.py    products of tensors against NumPy's
    suite_results.py   equal bits for any threads, batch and streaming
    suite_language.py  language models end to end
    suite_scaling.py   time against T, H, N and threads
    suite_footprint.py import time, size, memory
    suite_sequences.py lengths, restarts, budgets of memory
    suite_programs.py  cells without a fused kernel, as users write them

    grid.py            the shapes                      problem.py    one problem and its arrays
    sides.py           what is compared                peer_*.py     the other libraries as sides
    comparison.py      check, time, make a row         timing.py     interleaved samples, medians
    limits.py, .c      measuring the machine           roofline.py   what a layer must at least do
    language_*.py      the language models             footprint_step.py  one step, its memory
    program_cells.py   the users' cells                program_*.py       the same in the others
    report.py          tables                          pictures.py   pictures
    targets.py         what is promised, next to what was measured
    machine.py         what it all ran on

A suite is a module with ``run(options, emit)``, ``line(row)`` and ``tables(rows)``, and a line in
``worker.SUITES``. A peer is a module with ``make_sides`` and ``make_steppers``, and a line in
``sides.PEERS``. Nothing is timed before all sides of a comparison agree in their results.
"""
