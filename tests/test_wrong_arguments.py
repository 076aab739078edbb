"""What makes no sense is refused before anything is done, by the name of the argument.

A row is a valid call. Each of its arguments in turn is replaced by an object that is nothing, and
where its default is a bool by a text, which would pass for true.
"""

import ast
import inspect
import sys

import numpy as np
import pytest

import rnnkit as rk
from rnnkit import cells, data, decoding, losses, nn, optim, train
from rnnkit.checks import check_bool, check_choice, check_kind, check_list, check_number, check_size
from rnnkit.errors import ArgumentError, RnnkitError, ShapeError
from rnnkit.optim import lr_scheduler

UNARY = """abs clone cos exp expm1 floor isfinite isnan log log1p neg ones_like rand_like randn_like
relu sigmoid sign sin softplus sqrt square tanh zeros_like"""
AXIS = """all any argmax argmin argsort chunk cumprod cumsum flip log_softmax logsumexp max mean min
norm softmax sort std sum topk unbind unsqueeze var"""
BINARY = """add div equal greater greater_equal less less_equal matmul maximum minimum mul not_equal
outer pow sub"""
LOGICAL = "logical_and logical_or logical_xor"
ROWS = """
rk.arange(0, 3, 1)
rk.as_tensor([1.0])
rk.backend("auto")
rk.astype(x, "float64")
rk.broadcast_to(x, (2, 3, 4))
rk.cat([x, x])
rk.clip(x, -1.0, 1.0)
rk.dropout(x)
rk.einsum("ij,ij->i", x, x)
rk.embedding(ids, x, 0)
rk.expand(x, 2, 3, 4)
rk.flatten(x, 0, 1)
rk.full((2, 3), 1.5)
rk.full_like(x, 1.5)
rk.gather(x, 0, np.zeros((1, 4), int))
rk.grad(p.sum(), p)
rk.gradcheck(rk.tanh, p)
rk.gradgradcheck(rk.tanh, p)
rk.layer_norm(x, 4, rk.ones(4), rk.ones(4))
rk.linear(x, rk.ones(2, 4), rk.ones(2))
rk.logical_not(x > 0)
rk.manual_seed(1)
rk.masked_fill(x, x > 0, 1.0)
rk.one_hot(ids, 4)
rk.ones(2, 3)
rk.permute(x, 1, 0)
rk.rand(2, 3)
rk.randint(0, 4, (2,))
rk.randn(2, 3)
rk.repeat(x, 2, 1)
rk.reshape(x, 4, 3)
rk.set_backend("auto")
rk.set_num_threads(1)
rk.split(x, 1)
rk.squeeze(x[:1], 0)
rk.stack([x, x])
rk.tensor([1.0])
rk.transpose(x, 0, 1)
rk.where(x > 0, x, x)
rk.why(1)
rk.zeros(2, 3)
rk.Tensor([1.0])
rk.recurrent.Stepper([nn.GRUCell(3, 4)])
rk.recurrent.run_layer([nn.GRUCell(3, 4)], rk.ones(2, 1, 3))
p.register_hook(rk.tanh)
p.sum().backward()
x.requires_grad_()
nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2, 5], 1.5)
nn.AdditiveAttention(4, 4, 3)
nn.AttentionPool(4, 3)
nn.AvgPool1d(2)
nn.BCELoss()
nn.BCEWithLogitsLoss()
nn.BatchNorm1d(4)
nn.CTCLoss()
nn.Conv1d(4, 2, 2)
nn.CrossEntropyLoss()
nn.Dropout(0.5)
nn.Embedding(5, 3)
nn.EncoderDecoder(5, 6, 3, 4, start_token=1)
nn.Flatten()
nn.Flatten(1)(x)
nn.GRU(3, 4)
nn.GRUCell(3, 4)
nn.GaussianNLLLoss()
nn.HuberLoss()
nn.KLDivLoss()
nn.L1Loss()
nn.LSTM(3, 4)
nn.LSTM(4, 4).stream(2)
nn.LSTM(4, 4).stream(2).load_state_dict(nn.LSTM(4, 4).stream(2).state_dict())
nn.LSTMCell(3, 4)
nn.LastPool()
nn.LayerNorm(4)
nn.Linear(3, 4)
nn.Linear(3, 4).apply(print)
nn.Linear(3, 4).load_state_dict(nn.Linear(3, 4).state_dict())
nn.Linear(3, 4).register_buffer("b", rk.ones(2))
nn.Linear(3, 4).requires_grad_()
nn.Linear(3, 4).to("float64")
nn.Linear(3, 4).train()
nn.Linear(3, 4).zero_grad()
nn.LogSoftmax()
nn.MSELoss()
nn.MaxPool1d(2)
nn.ModuleDict({"a": nn.Identity()})
nn.ModuleList([nn.Identity()])
nn.ModuleList().extend([nn.Identity()])
nn.MultiplicativeAttention(4, 4)
nn.NLLLoss()
nn.Parameter([1.0])
nn.ParameterList([[1.0]])
nn.ParameterList().extend([[1.0]])
nn.PoissonNLLLoss()
nn.RNN(3, 4)
nn.RNNCell(3, 4)
nn.Recurrent(nn.GRUCell(3, 4))
nn.Sequential(nn.Identity())
nn.SmoothL1Loss()
nn.Softmax()
nn.Softplus()
nn.functional.log_softmax(x)
nn.functional.logsigmoid(x)
nn.functional.softmax(x)
nn.init.calculate_gain("tanh")
nn.init.chrono_(nn.LSTM(3, 4), 10)
nn.init.constant_(x, 1.0)
nn.init.eye_(x)
nn.init.forget_bias_(nn.LSTM(3, 4))
nn.init.gate_by_gate_(rk.ones(4, 4), 2, nn.init.ones_)
nn.init.irnn_(nn.RNN(3, 4, nonlinearity="relu"))
nn.init.kaiming_normal_(x)
nn.init.normal_(x)
nn.init.orthogonal_(x)
nn.init.recurrent_orthogonal_(nn.LSTM(3, 4))
nn.init.uniform_(x)
nn.init.xavier_normal_(x)
nn.utils.clip_grad_norm_([p], 1.0)
nn.utils.clip_grad_value_([p], 1.0)
nn.utils.rnn.pad_packed_sequence(nn.utils.rnn.pack_sequence([x, x]))
nn.utils.rnn.pad_sequence([x, x])
nn.utils.scheduled_sampling.exponential(1, 0.5)
nn.utils.scheduled_sampling.inverse_sigmoid(1, 2.0)
nn.utils.scheduled_sampling.linear(1, 0.01)
nn.utils.spectral_norm_(nn.RNN(3, 4), 1.0)
nn.utils.spectral_norms(nn.RNN(3, 4))
nn.utils.spectral_radii(nn.RNN(3, 4))
optim.Adadelta([p])
optim.Adagrad([p])
optim.Adam([p])
optim.AdamW([p])
optim.Adamax([p])
optim.EMA([p])
optim.LBFGS([p])
optim.LBFGS([p]).step(p.sum)
optim.NAdam([p])
optim.RAdam([p])
optim.RMSprop([p])
optim.SGD([p])
optim.SGD([p]).load_state_dict(optim.SGD([p]).state_dict())
optim.SGD([p]).step()
optim.SGD([p]).zero_grad()
optim.parameter_groups(nn.Linear(3, 4), 0.1)
lr_scheduler.CosineAnnealingLR(o, 10)
lr_scheduler.CosineAnnealingLR(o, 10).lr_at(1, 0.1)
lr_scheduler.CosineAnnealingWarmRestarts(o, 10)
lr_scheduler.CosineAnnealingWarmRestarts(o, 10).lr_at(1, 0.1)
lr_scheduler.ExponentialLR(o, 0.9)
lr_scheduler.LambdaLR(o, float)
lr_scheduler.LambdaLR(o, float).lr_at(1, 0.1)
lr_scheduler.LinearLR(o)
lr_scheduler.MultiStepLR(o, [2, 4])
lr_scheduler.OneCycleLR(o, 0.1, None, 2, 3)
lr_scheduler.OneCycleLR(o, 0.1, 9).lr_at(1, 0.1)
lr_scheduler.ReduceLROnPlateau(o)
lr_scheduler.ReduceLROnPlateau(o).step(1.0)
lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [])
lr_scheduler.StepLR(o, 2)
lr_scheduler.StepLR(o, 2).lr_at(1, 0.1)
lr_scheduler.StepLR(o, 2).load_state_dict({"last_epoch": 1})
losses.DistributionSampler([0.5, 0.5])
losses.DistributionSampler([0.5, 0.5]).log_probability([1])
losses.DistributionSampler([0.5, 0.5]).sample(3, rng)
losses.LogUniformSampler(5)
losses.LogUniformSampler(5).log_probability([1])
losses.LogUniformSampler(5).sample(3, rng)
losses.bce(half, half)
losses.bce_with_logits(x, half)
losses.cross_entropy(x, ids)
losses.ctc(rk.log_softmax(steps), [[1], [2]], [3, 3], [1, 1])
losses.frame_nll(steps, rk.ones(3, 2, 4), [2, 3])
losses.gaussian_mixture_nll(rk.ones(3, 2, 5), rk.ones(3, 2, 2), [2, 3], components=1)
losses.gaussian_nll_loss(x, x, half)
losses.handwriting_nll(rk.ones(3, 2, 7), rk.ones(3, 2, 3), [2, 3])
losses.huber(x, x)
losses.kl_div(x, half)
losses.l1(x, x)
losses.linear_cross_entropy(x, rk.ones(5, 4), ids, rk.ones(5))
losses.mse(x, x)
losses.nll(x, ids)
losses.poisson_nll_loss(x, half)
losses.sample_gaussian_mixture(rk.ones(2, 5), rng, components=1)
losses.sample_handwriting(rk.ones(2, 7), rng)
losses.sampled_softmax_loss(x, rk.ones(5, 4), ids, rk.ones(5), samples=2)
losses.smooth_l1(x, x)
losses.valid_steps(steps, [2, 3])
decoding.beam_search(step, rk.zeros(2, 1), start=1, end=2, beam_width=2, max_length=3)
decoding.choose(x, 1.0, rng)
decoding.corpus_bleu(["a b c d"], ["a b c d"])
decoding.ctc_beam_search(rk.log_softmax(steps), [2, 3])
decoding.ctc_greedy(rk.log_softmax(steps), [2, 3])
decoding.edit_distance([1], [2])
decoding.greedy_search(step, rk.zeros(2, 1), start=1, end=2, max_length=3)
decoding.label_error_rate([[1]], [[2]])
decoding.tokenize_13a("a b")
data.ContinuousBatches(np.arange(20), 2, 3).batch(0)
data.LabelSet(["a", "b"]).encode(["a"])
data.Prefetched(data.ContinuousBatches(np.arange(20), 2, 3))
data.RaggedBatches([[1, 2], [3]], [0, 1], batch_size=2)
data.SeriesTransform(data.Scaler([0.0], [1.0]))
data.SeriesWindows(np.ones((9, 1)), window=3, batch_size=2)
data.SeriesWindows(np.ones((9, 1)), window=3, batch_size=2).truth([0])
data.Vocabulary("abc").decode([0, 1])
data.WordVocabulary(["a", "b"]).encode("a b")
data.drift([1.0, 2.0], 2)
data.group_duplicates(["a", "b"])
data.k_folds(2, 4, labels="aabb", groups="abcd")
data.mae([1.0], [2.0])
data.midi_bytes([])
data.naive([1.0], 2)
data.notes_roll([])
data.piano_roll([[60]])
data.roll_notes(np.zeros((2, 88)))
data.rolling_origins(20, 10, 2)
data.split_series(20, 0.2)
data.tokenize_words("a b")
rk.diagnostics.watch(nn.LSTM(3, 4))
train.Budget(steps=3)
train.LanguageModel(5, hidden=4, embedding=3)
train.SequenceClassifier(5, 2, symbols=True, hidden=4)
train.SequenceTagger(5, 2, symbols=True, hidden=4)
train.evaluate(lm(), data.ContinuousBatches(np.arange(20) % 5, 2, 3))
train.make_schedule("constant", o)
train.progress_on(stderr)
train.Trainer(lm(), o, data.ContinuousBatches(np.arange(20), 2, 3), budget=train.Budget(steps=1))
"""
BASES = {"Cell", "GatedCell", "Function", "Module", "Optimizer", "Primitive", "Tensor"}
# Without arguments, records, and activations.
WITHOUT = """Bleu Chunk Hypothesis Identity Labelling MaxPool MeanPool ReLU Sigmoid Tanh config
detach_state enable_grad generator get_backend get_num_threads is_grad_enabled no_grad primitive
set_matmul_kernel sum_to tbptt"""
CALLS = [
    *[f"rk.{name}(x)" for name in UNARY.split()],
    *[f"rk.{name}(x, 1)" for name in AXIS.split()],
    *[f"rk.{name}(v, v)" for name in BINARY.split()],
    *[f"rk.{name}(v > 0, v > 0)" for name in LOGICAL.split()],
    *[f"cells.{name}(3, 4)" for name in cells.__all__
      if name.endswith("Cell") and name not in BASES],
    *ROWS.split("\n")[1:-1],
]
# What has no effect here or may be anything, and what is told by its place instead.
EXCEPT = {
    ("argsort", "stable"), ("sort", "stable"), ("calculate_gain", "param"),
    ("RaggedBatches", "target_padding"), ("beam_search", "state"), ("greedy_search", "state"),
    ("register_buffer", "tensor"), ("Sequential", "modules"), ("piano_roll", "where"),
}


def language_model():
    return train.LanguageModel(5, hidden=4, embedding=3)


def names():
    """What the rows are made of, afresh for each call."""
    random = np.random.default_rng(0)
    p = nn.Parameter(random.normal(size=(3, 4)))
    return {
        **globals(), "p": p, "o": optim.SGD([p]), "rng": random, "lm": language_model,
        "stderr": sys.stderr,
        "x": rk.tensor(random.normal(size=(3, 4)).astype("f")), "v": rk.ones(4),
        "steps": rk.ones(3, 2, 4), "half": rk.full((3, 4), 0.5), "ids": np.array([0, 1, 2]),
        "step": lambda tokens, state: (rk.log_softmax(rk.ones(len(tokens), 4)), state),
    }  # fmt: skip


def prepared(row):
    """The function of a row, and its arguments bound to the names of its parameters."""
    here, call = names(), ast.parse(row, mode="eval").body

    def value(node):
        return eval(compile(ast.Expression(node), row, "eval"), here)

    function = value(call.func)
    asked = function.forward if isinstance(function, nn.Module) else function
    given = {each.arg: value(each.value) for each in call.keywords}
    signature = inspect.signature(asked)
    if isinstance(asked, type) and issubclass(asked, rk.Cell):
        # Of an inherited one early Pythons 3.11 show __new__, which takes anything.
        parameters = inspect.signature(asked.__init__).parameters.values()
        signature = signature.replace(parameters=list(parameters)[1:])
    bound = signature.bind(*map(value, call.args), **given)
    bound.apply_defaults()
    return function, bound


def called(function, bound):
    return function(*bound.args, **bound.kwargs)


@pytest.mark.parametrize("row", CALLS)
def test_an_argument_that_is_nothing_is_refused_by_its_name(row):
    function, bound = prepared(row)
    short = ast.unparse(ast.parse(row, mode="eval").body.func).rpartition(".")[2]
    called(function, bound)
    for parameter in bound.signature.parameters.values():
        name = parameter.name
        if (short, name) in EXCEPT or parameter.kind is parameter.VAR_KEYWORD:
            continue
        for wrong in [object(), *["no"] * isinstance(parameter.default, bool)]:
            function, bound = prepared(row)
            several = parameter.kind is parameter.VAR_POSITIONAL
            bound.arguments[name] = (wrong,) if several else wrong
            with pytest.raises((RnnkitError, TypeError)) as caught:
                called(function, bound)
            said = str(caught.value)
            assert name in said or said.startswith(f"{short}:"), (name, said)


def test_every_public_function_has_its_row():
    here = names()
    heads = [ast.parse(row, mode="eval").body.func for row in CALLS]
    known = {
        id(eval(compile(ast.Expression(head), "row", "eval"), here))
        for head in heads
        if isinstance(getattr(head, "value", None), ast.Name | ast.Attribute)
    }
    missing = {
        f"{module.__name__}.{name}"
        for module in (rk, nn, nn.utils, nn.functional, optim, losses, decoding, cells)
        for name in module.__all__
        if callable(getattr(module, name)) and id(getattr(module, name)) not in known
        if name not in {*WITHOUT.split(), *BASES}
    }
    assert not missing


def test_numbers_and_lists():
    for wrong in (np.ones(1), np.ones((1, 1)), rk.ones(1), [1.0], "1", True, 1j, None):
        with pytest.raises(ArgumentError, match=r"^lr: expected a number >= 0, got"):
            check_number("lr", wrong)
    for number in (0, 1.5, np.float32(1), np.int64(1), np.array(1.0)):
        check_number("lr", number)
    with pytest.raises(ArgumentError, match=r"^value: expected a number, got 'no'"):
        check_number("value", "no", -np.inf)
    with pytest.raises(ArgumentError, match=r"^value: expected a number < 3, got 3"):
        check_number("value", 3, -np.inf, 3, below_high=True)
    for kind, wanted in ((train.Budget, "a Budget"), (optim.Optimizer, "an Optimizer")):
        with pytest.raises(ArgumentError, match=f"^it: expected {wanted}, got 3"):
            check_kind("it", 3, kind)
    with pytest.raises(ArgumentError, match=f"^size: expected at most {2**63 - 1}, got 1000"):
        check_size("size", 10**30)
    assert check_bool("flag", np.True_) is True
    assert check_list("values", iter((1, 2)), "several") == [1, 2]
    for wrong in ("ab", b"ab", 3, None):
        with pytest.raises(ArgumentError, match=r"^values: expected several, got"):
            check_list("values", wrong, "several")
    for wrong in ("c", ["a"], np.array(["a", "b"])):
        with pytest.raises(ArgumentError, match=r"^word: expected 'a' or 'b', got"):
            check_choice("word", wrong, ("a", "b"))


def test_a_refusal_changes_nothing():
    row, table = nn.ModuleList([nn.Identity()]), nn.ModuleDict({"a": nn.Identity()})
    with pytest.raises(TypeError, match=r"ModuleList\[2\]: expected a Module, got str"):
        row.extend([nn.Identity(), "no"])
    with pytest.raises(TypeError, match=r"ModuleDict\['c'\]: expected a Module, got str"):
        table.update({"b": nn.Identity(), "c": "no"})
    for key in ("b.c", "", 3, "keys"):
        with pytest.raises(ArgumentError, match=r"^ModuleDict"):
            table.update({"b": nn.Identity(), key: nn.Identity()})
    with pytest.raises(ArgumentError, match=r"a non-empty string without '\.', got 'x\.y'"):
        table.update({"b": nn.Identity(), "x.y": nn.Identity()})
    for add in (row.extend, lambda added: table.update({"b": added[0], "c": added[1]})):
        with pytest.raises(ArgumentError, match="a module cannot contain itself"):
            add([nn.Identity(), nn.Sequential(row, table)])
    assert len(row) == len(table) == 1

    rnn = nn.RNN(3, 4, nonlinearity="relu")
    before = {name: value.copy() for name, value in rnn.state_dict().items()}
    with pytest.raises(ArgumentError, match=r"^gain: expected a finite number, got 'no'"):
        nn.init.irnn_(rnn, gain="no")
    assert all((before[name] == value).all() for name, value in rnn.state_dict().items())

    groups = [{"params": [nn.Parameter([1.0])], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = optim.SGD(groups, momentum=0.5)
    with pytest.raises(ArgumentError, match=r"^max_lr: expected a number >= 0 and < inf, got 'no'"):
        lr_scheduler.OneCycleLR(optimizer, [0.5, "no"], 10)
    with pytest.raises(ArgumentError, match=r"^base_momentum: expected a number .*, got 'no'"):
        lr_scheduler.OneCycleLR(optimizer, 0.5, 10, base_momentum="no")
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert all("initial_lr" not in group for group in optimizer.param_groups)


def test_milestones_of_a_generator_are_checked():
    optimizer = optim.SGD([nn.Parameter([1.0])])
    parts = [lr_scheduler.StepLR(optimizer, 1) for _ in range(3)]
    with pytest.raises(ArgumentError, match="milestones: expected them positive and rising"):
        lr_scheduler.SequentialLR(optimizer, parts, iter([4, 2]))


def test_a_whole_number_may_be_numpys():
    x, ids = rk.ones(2, 3), np.array([0, 1])
    for smoothing in (np.int64(1), np.float32(1), 1):
        loss = losses.linear_cross_entropy(x, rk.ones(4, 3), ids, label_smoothing=smoothing)
        assert loss.item() == pytest.approx(np.log(4))


def test_nested_lists_of_different_lengths():
    ragged, x = [[1.0], [1.0, [2.0]]], rk.ones(2)
    for call in (
        lambda: x + rk.stack([x, ragged]),
        lambda: rk.add(x, ragged),
        lambda: rk.where(ragged, x, x),
        lambda: rk.masked_fill(x, x > 0, ragged),
        lambda: rk.full((2,), ragged),
        lambda: x[ragged],
        lambda: decoding.choose(ragged, 1.0),
        lambda: losses.mse(ragged, x),
        lambda: nn.CrossEntropyLoss(ragged),
        lambda: data.naive(ragged, 1),
    ):
        with pytest.raises(ShapeError, match="expected a rectangular array of numbers"):
            call()


def test_a_schedule_that_cannot_go_on_stays_where_it_is():
    def factor(epoch):
        return 1 / (3 - epoch)

    optimizer = optim.SGD([nn.Parameter([1.0])], lr=0.1)
    schedule = lr_scheduler.LambdaLR(optimizer, factor)
    schedule.step()
    schedule.step()
    for go_on in (schedule.step, lambda: schedule.load_state_dict({"last_epoch": 3})):
        with pytest.raises(ZeroDivisionError):
            go_on()
        assert schedule.last_epoch == 2
        assert schedule.get_last_lr() == [0.1]

    optimizer = optim.SGD([nn.Parameter([1.0])], lr=0.1, momentum=0.5)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.5, 10)
    before = dict(optimizer.param_groups[0])
    schedule.max_momentum = "no"
    with pytest.raises(ArgumentError, match=r"^max_momentum: expected a number .*, got 'no'"):
        schedule.step()
    assert schedule.last_epoch == 0
    assert optimizer.param_groups[0] == before


HUGE = [
    ("num_layers", lambda n: nn.LSTM(3, 4, num_layers=n)),
    ("layers", lambda n: train.LanguageModel(5, layers=n)),
    ("layers", lambda n: train.SequenceTagger(5, 2, symbols=False, layers=n)),
    ("length", lambda n: data.rolling_origins(n, 1, 1)),
    ("count", lambda n: data.k_folds(2, n)),
    ("count", lambda n: data.split_at_random(n)),
    ("horizon", lambda n: data.naive(np.ones((3, 2)), n)),
    ("horizon", lambda n: data.drift([1.0, 2.0], n)),
    ("one_hot: num_classes", lambda n: rk.one_hot([0, 1], n)),
    ("arange: stop", rk.arange),
    ("arange: stop", lambda n: rk.arange(0.0, n, 0.5)),
    ("arange: stop", lambda n: rk.arange(n, dtype="int32")),
    ("randint: shape", lambda n: rk.randint(0, 4, (n, n))),
    ("zeros: shape", rk.zeros),
    ("ones: shape", lambda n: rk.ones(2, 0, n)),
    ("full: shape", lambda n: rk.full((n,), 1.0)),
    ("rand: shape", rk.rand),
    ("randn: shape", rk.randn),
    ("total_length", lambda n: nn.utils.rnn.pad_packed_sequence(
        nn.utils.rnn.pack_sequence([rk.ones(2, 3)]), total_length=n)),
    ("count", lambda n: losses.LogUniformSampler(5).sample(n, None)),
    ("(in_features|weight)", lambda n: nn.Linear(n, 4)),
    ("(out_features|weight)", lambda n: nn.Linear(4, n)),
    ("(num_embeddings|weight)", lambda n: nn.Embedding(n, 4)),
    ("(kernel_size|weight)", lambda n: nn.Conv1d(3, 4, n)),
    ("(normalized_shape|weight)", lambda n: nn.LayerNorm((4, n))),
    ("num_features", lambda n: nn.BatchNorm1d(n, affine=False)),
    ("(attention_size|weight)", lambda n: nn.AttentionPool(3, n)),
    ("(attention_size|weight_query)", lambda n: nn.AdditiveAttention(3, 4, n)),
    ("(key_size|weight)", lambda n: nn.MultiplicativeAttention(3, n)),
    ("(input_size|weight_ih)", lambda n: nn.GRU(n, 4)),
    ("(hidden_size|weight_ih)", lambda n: nn.LSTM(3, n)),
    ("beam_width", lambda n: decoding.beam_search(
        print, rk.ones(2, 3), start=0, end=1, beam_width=n, max_length=3)),
]


@pytest.mark.parametrize("size", [2**62, 10**30])
@pytest.mark.parametrize(("name", "call"), HUGE, ids=[name for name, _ in HUGE])
def test_a_size_that_nothing_can_have_is_refused_by_its_name(name, call, size):
    with pytest.raises((ArgumentError, ShapeError), match=rf"^{name}: expected"):
        call(size)


def test_a_size_that_is_larger_than_what_is_there():
    x, lengths = rk.ones(3, 2, 4).requires_grad_(), [3, 1]
    y = nn.MaxPool1d(2**40)(x, lengths)
    assert y.shape == (0, 2, 4)
    assert not rk.grad(y.sum(), x)[0].data.any()
    with pytest.raises(ArgumentError, match="lengths"):
        nn.MaxPool1d(2**40)(x, [4, 1])
    windows = data.SeriesWindows(np.ones((9, 1)), window=3, batch_size=2, stride=10**18)
    assert windows.origins.tolist() == [3]
    for size in ("window", "horizon"):
        with pytest.raises(ArgumentError, match="part: moments 0 to 9 hold no target"):
            data.SeriesWindows(np.ones((9, 1)), **{"window": 3, "batch_size": 2, size: 10**18})
    for size in ("window", "horizon", "stride"):
        with pytest.raises(ArgumentError, match=f"^{size}: expected at most {2**63 - 1}, got 1000"):
            data.SeriesWindows(np.ones((9, 1)), **{"window": 3, "batch_size": 2, size: 10**30})


def test_integers_beyond_64_bits():
    with pytest.raises(ArgumentError, match=r"^randint: high: expected an integer from"):
        rk.randint(0, 10**30, (2,))
    assert rk.randint(-(2**63), 2**63, (2,)).dtype == np.int64
    with pytest.raises(ArgumentError, match=r"^arange: start: expected an integer from"):
        rk.arange(10**30, 10**30 + 2)
    np.testing.assert_array_equal(rk.arange(254, 256, dtype="uint8").data, [254, 255])
    np.testing.assert_array_equal(rk.arange(3, 0, -1).data, [3, 2, 1])


BEYOND = [
    ("add", lambda n: rk.tensor(1.0) + n),
    ("pow", lambda n: n ** rk.tensor([2.0])),
    ("equal", lambda n: rk.arange(3) == n),
    ("where", lambda n: rk.where(rk.ones(2) > 0, rk.ones(2), n)),
    ("clip", lambda n: rk.ones(2).clip(-n, n)),
    ("var: correction", lambda n: rk.ones(2).var(correction=n)),
    ("full: value", lambda n: rk.full((2,), n)),
    ("lr", lambda n: optim.Adam([nn.Parameter([1.0])], lr=n)),
    ("norm_type", lambda n: nn.utils.clip_grad_norm_(rk.ones(2), 1.0, n)),
    ("a, b", lambda n: nn.init.uniform_(rk.ones(2), -1e308, 1e308)),
    ("arange: stop", lambda n: rk.arange(0.0, 3.0, 1e-320)),
    ("metrics", lambda n: lr_scheduler.ReduceLROnPlateau(
        optim.SGD([nn.Parameter([1.0])])).step(n)),
]


@pytest.mark.parametrize(("name", "call"), BEYOND, ids=[name for name, _ in BEYOND])
def test_a_number_that_no_float_holds_is_refused_by_its_name(name, call):
    for number in (10**400, np.iinfo("int64").max * 10**300):
        with pytest.raises(RnnkitError, match=rf"^{name}: expected"):
            call(number)
    assert (rk.tensor(1.0) + 10**38).item() == np.float32(1e38)
    check_number("lr", 10**308)
    with pytest.raises(ArgumentError, match=r"^lr: expected a number in the range of a float"):
        check_number("lr", 10**309)


def test_numbers_without_a_sign_have_a_negative():
    one, x = np.uint8(1), rk.tensor([-3.0, 0.5], requires_grad=True)
    losses.huber_loss(x, rk.zeros(2), "sum", delta=one).backward()
    assert x.grad.tolist() == [-1.0, 0.5]
    x.grad.data[:] = -3.0, 0.5
    nn.utils.clip_grad_value_(x, one)
    assert x.grad.tolist() == [-1.0, 0.5]
    inverse_sigmoid = nn.utils.scheduled_sampling.inverse_sigmoid
    assert inverse_sigmoid(np.uint64(3), 2.0) == inverse_sigmoid(3, 2.0)


def test_words_that_are_none():
    for wrong in (np.ones(2), 1.0):
        with pytest.raises(ArgumentError, match=r"^attention: expected one of"):
            nn.EncoderDecoder(5, 6, 3, 4, start_token=1, attention=wrong)
        with pytest.raises(ArgumentError, match=r"^no_decay: no parameter is called"):
            optim.parameter_groups(nn.Linear(3, 4), 0.1, [wrong])


def test_a_norm_of_several_orders():
    with pytest.raises(ArgumentError, match=r"^norm: p: expected a number >= 0, got array"):
        rk.ones(2).norm(np.ones(2))


def test_flags_of_modules_are_bools():
    module = nn.Linear(3, 4)
    for walk in (module.named_parameters, module.named_buffers, module.named_modules):
        with pytest.raises(ArgumentError, match=r"^remove_duplicate: expected a bool, got 'no'"):
            walk(remove_duplicate="no")
    for walk in (
        module.named_parameters, module.named_buffers, module.parameters, module.buffers
    ):
        with pytest.raises(ArgumentError, match=r"^recurse: expected a bool, got 'no'"):
            walk(recurse="no")


def test_what_reads_files_checks_its_own_arguments_first():
    for name, wrong in (("kinds", object()), ("kinds", "O"), ("finite", "no"), ("limit", "no")):
        for read in (data.read_array, data.read_arrays):
            with pytest.raises(ArgumentError, match=f"^{name}: expected"):
                read("no file", **{name: wrong})
    for shape in (1, "no", [2.5], [-1]):
        with pytest.raises(ArgumentError, match=r"^shape(\[0\])?: expected"):
            data.read_array("no file", shape=shape)
    for name, wrong in (
        ("delimiter", 1), ("delimiter", ";;"), ("header", "no"), ("columns", "price"),
        ("decimal", []), ("missing", []),
    ):
        with pytest.raises(ArgumentError, match=f"^{name}: expected"):
            data.read_table("no file", **{name: wrong})


def test_objects_of_a_wrong_kind():
    decoder = nn.EncoderDecoder(5, 6, 3, 4, start_token=1)
    state = decoder.start([[1], [2]])
    model = language_model()
    for name, call in (
        ("state", lambda: decoder.step([1], 1)),
        ("state", lambda: decoder.step([1], state[1:])),
        ("name", lambda: rk.primitive(1, print)),
        ("forward", lambda: rk.primitive("nothing", 1)),
        ("differentiable", lambda: rk.primitive("nothing", print, differentiable="no")),
        ("model", lambda: train.KeepBest("no", train.RunFolder("no"))),
        ("folder", lambda: train.KeepBest(model, "no")),
        ("ids", lambda: losses.LogUniformSampler(5).log_probability([5])),
        ("ids", lambda: losses.DistributionSampler([1, 1]).log_probability([-1])),
        ("size", lambda: train.SequenceTagger("no", 2, symbols=True)),
        ("symbols", lambda: train.SequenceTagger(5, 2, symbols="no")),
        ("notes", lambda: data.midi_bytes([1])),
        ("items", lambda: data.group_duplicates([{}])),
        ("labels", lambda: data.k_folds(2, 10, labels=1)),
    ):
        with pytest.raises(ArgumentError, match=rf"^(log_probability: )?{name}: expected"):
            call()
    assert "nothing" not in rk.PRIMITIVES
