"""Run as a script: forward and backward passes of many kinds, and a digest of all their bits.

The argument is "compiled" or "interpreted": whether the modules of Python that were compiled are
taken so, or from their sources.
"""

import hashlib
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path


class Interpreted:
    @staticmethod
    def find_spec(name, path, target=None):
        spec = PathFinder.find_spec(name, path)
        if spec is None or not name.startswith("rnnkit.") or name == "rnnkit.backend._native":
            return spec
        source = Path(spec.origin).name.partition(".")[0] + ".py"
        return spec_from_file_location(
            name, Path(spec.origin).with_name(source),
            submodule_search_locations=spec.submodule_search_locations,
        )


def main(way: str) -> None:
    if way == "interpreted":
        sys.meta_path.insert(0, Interpreted)

    import numpy as np

    import rnnkit as rk
    from rnnkit import cells, losses, nn

    assert rk.config()["compiled_python"] == (way == "compiled")
    rng = np.random.default_rng(5)
    digest = hashlib.sha256()

    def note(*tensors):
        for tensor in tensors:
            digest.update(tensor.numpy().tobytes())

    def draw(*shape):
        return rk.tensor(rng.normal(size=shape).astype(np.float32), requires_grad=True)

    rk.manual_seed(3)
    modules = [
        nn.LSTM(5, 7, num_layers=2, bidirectional=True, dropout=0.3),
        nn.GRU(5, 7, batch_first=True, memory="20KB"),
        nn.Recurrent(cells.IndRNNCell(5, 7)),
        nn.Recurrent(cells.LayerNormLSTMCell(5, 7), num_layers=2),
    ]
    lengths = np.array([6, 1, 4, 2, 5, 3])
    for backend in ("auto", "python"):
        rk.set_backend(backend)
        for module in modules:
            x, x_2 = draw(6, 6, 5), draw(6, 6, 5)
            y, _ = module(x, lengths=lengths)
            loss = losses.cross_entropy(y.reshape(-1, y.shape[-1]) * 2 + 1, np.arange(36) % 7)
            loss.backward()
            note(y, loss, x.grad, *[p.grad for p in module.parameters()])
            module.zero_grad()
            y, _ = module(x_2)
            first = rk.grad(y.sum(), x_2, create_graph=True)[0]
            wanted = [x_2, *module.parameters()]
            second = rk.grad((first * first).sum(), wanted, allow_unused=True)
            note(*[each for each in second if each is not None])
            with rk.no_grad():
                note(module.eval()(x)[0])
            module.train()
    rk.set_backend("auto")
    stepper = nn.GRU(3, 4).stream(2)
    for _ in range(3):
        digest.update(stepper(rng.normal(size=(2, 3)).astype(np.float32)).tobytes())
    print(digest.hexdigest(), *rk.why(), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
