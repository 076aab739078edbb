"""rnnkit's benchmarks: ``python -m benchmarks --help``.

    cli.py          options, one worker process per thread count, output files
    worker.py       runs the suites in a process whose thread counts were fixed before it began
    suite_cells.py  the cells over a grid of shapes, inference and training step
    problem.py      one problem: cell, shape, dtype, weights, inputs
    sides.py        what is compared: the native path, the Python path, a peer
    peer_torch.py   PyTorch as a side
    timing.py       interleaved samples, medians, quartiles
    report.py       the table and the geometric means        plot.py     the picture
    machine.py      what it all ran on

A further suite is a file with ``run(options, emit)`` and a line in ``worker.SUITES``; a further
peer is a file like ``peer_torch.py`` and a line in ``sides.PEERS``.
"""
