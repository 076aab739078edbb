"""Translating, with a look at what the network looks at: many-to-many of different lengths.

An encoder reads the English sentence from both ends; a decoder writes the French one, word by
word, and before each word looks back at all that was read, with weights that it has learnt to
choose: attention. The picture it leaves shows them, a row for each French word.

**Data.** English and French sentences from Tatoeba (CC BY 2.0): the file fra-eng.zip, or fra.txt
in it, of manythings.org/anki, one pair a line with a tabulator between. Pairs of up to six English
words are used. No English sentence is on both sides of the cut; one that was translated in several
ways has several references. Without a file the two sides are numbers below 100,000, spelled out.
French counts to sixteen, then by tens and ones, from sixty on by twenties, and there is more to
get wrong: *quatre-vingt mille* has no s.

**Model.** GRUs of 256 units, with the attention of Bahdanau et al. 2015, put between the decoder
and its words as Luong, Pham and Manning 2015 do. Rare words (all but the 6,000 most frequent) are
one and the same to it. It is judged by BLEU as sacreBLEU defines it, without regard to capitals.

With --torch the same network is trained in PyTorch as well: the same sizes, from the same weights,
on the same batches, for as many updates (with --torch seconds: for as many seconds of CPU), and
read out in the same way (torch_twins.py).

    python examples/translate.py                                 # numbers, a minute
    python examples/translate.py --data fra-eng.zip              # some minutes
    python examples/translate.py --data fra-eng.zip --torch      # and PyTorch's
"""

import argparse
import sys
import time
import zipfile
from collections import defaultdict

import numpy as np

import rnnkit as rk
from rnnkit import nn, optim
from rnnkit.data import RaggedBatches, WordVocabulary, read_text, split_at_random, tokenize_words
from rnnkit.decoding import beam_search, corpus_bleu
from rnnkit.train import Budget, Loss, Trainer, progress_on

parser = argparse.ArgumentParser(description="English into French.")
parser.add_argument("--data", help="fra-eng.zip or fra.txt; numbers in words without")
parser.add_argument("--torch", nargs="?", const="updates", choices=["updates", "seconds"],
                    help="train a twin in PyTorch with as many updates, or as long")  # fmt: skip
parser.add_argument("--epochs", type=float, default=4.0)
parser.add_argument("--hidden", type=int, default=256)
parser.add_argument("--longest", type=int, default=6, help="words of an English sentence")
parser.add_argument("--numbers", type=int, default=12000, help="pairs, without a file")
parser.add_argument("--picture", default="attention.png", help="file to draw to")
parser.add_argument("--seed", type=int, default=0)

RATE = 2e-3
ONES = {
    "English": "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen",
    "French": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze "
    "quinze seize dix-sept dix-huit dix-neuf",
}
TENS = {
    "English": "twenty thirty forty fifty sixty seventy eighty ninety",
    "French": "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt",
}


def spelled(n, language):
    """``n`` below 100,000 in words."""
    french = language == "French"
    if n < 20:
        return ONES[language].split()[n]
    if n < 100:
        rest = n % (20 if french and n >= 60 else 10)
        words = [TENS[language].split()[n // 10 - 2] + "s" * (french and n == 80)]
        words += ["et"] * (french and rest in (1, 11) and n < 80)
    else:
        size = 1000 if n >= 1000 else 100
        count, rest = divmod(n, size)
        unit = {1000: ("thousand", "mille"), 100: ("hundred", "cent")}[size][french]
        many = spelled(count, language)
        if french and n >= 1000:
            many = many.replace("vingts", "vingt")
        words = [unit] if french and count == 1 else [many, unit]
        if unit == "cent" and count > 1 and not rest:
            words[-1] = "cents"
    return " ".join(words + [spelled(rest, language)] * (rest > 0))


def read_sentences(options):
    """Pairs (English, French)."""
    if options.data is None:
        random = np.random.default_rng(0)
        numbers = [int(10**digits) for digits in random.uniform(0, 5, options.numbers)]
        return [tuple(spelled(n, language) for language in ONES) for n in numbers]
    if zipfile.is_zipfile(options.data):
        with zipfile.ZipFile(options.data) as archive:
            lines = archive.read("fra.txt").decode("utf-8").splitlines()
    else:
        lines = read_text(options.data).splitlines()
    pairs = [tuple(line.lower().split("\t")[:2]) for line in lines if "\t" in line]
    marks = set(".,!?;:\"'")
    return [
        pair for pair in pairs
        if sum(token not in marks for token in tokenize_words(pair[0])) <= options.longest
    ]  # fmt: skip


def translate(model, english, french, sentences, beam_width):
    """A translation of each sentence, 100 at a time."""
    model.eval()
    said = []

    def step(tokens, state):
        log_probabilities, *after = model.step(tokens, state)
        log_probabilities.data[:, french.unknown] = -np.inf  # no answer to give
        return log_probabilities, *after

    sources = [english.encode(sentence) for sentence in sentences]
    for batch in RaggedBatches(sources, batch_size=100, shuffle=False, bucket=False).epoch():
        found = beam_search(
            step, model.start(batch.inputs, batch.lengths), batch_axis=model.state_axes,
            start=model.start_token, end=french.end, beam_width=beam_width, max_length=30,
            length_penalty=1.0,
        )  # fmt: skip
        said += [french.decode(hypotheses[0].tokens) for hypotheses in found]
    return said


def draw_attention(model, path, english, french, sentence, translation):
    """What was looked at, as a picture, or in numbers where matplotlib is missing."""
    source, target = english.encode(sentence), french.encode(translation, end=True)
    with rk.no_grad():
        _, weights = model(source[:, None], target[:, None])
    weights = weights.data[:, 0]
    source_words, target_words = english.tokens(source), french.tokens(target)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("where it looked, in per cent (install matplotlib for a picture):")
        print(f"{'':16}" + "".join(f"{word:>10}" for word in source_words))
        for word, row in zip(target_words, weights, strict=True):
            print(f"{word:16}" + "".join(f"{100 * weight:10.0f}" for weight in row))
        return
    size = (2 + 0.6 * len(source_words), 1.5 + 0.45 * len(target_words))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source_words)), source_words, rotation=45, ha="right")
    axes.set_yticks(range(len(target_words)), target_words)
    figure.savefig(path)
    print(f"where it looked: {path}")


def main():
    options = parser.parse_args()
    rk.manual_seed(options.seed)
    pairs = read_sentences(options)
    parts = split_at_random(len(pairs), 0.05, groups=[source for source, _ in pairs])
    known = [pairs[row] for row in parts.training]
    symbols = ("start", "end")
    english = WordVocabulary.of((s for s, _ in known), max_size=6000, specials=symbols)
    french = WordVocabulary.of((t for _, t in known), max_size=6000, specials=symbols)

    def batches_of(rows, batch_size=64):
        return RaggedBatches(
            [english.encode(pairs[row][0]) for row in rows],
            [french.encode(pairs[row][1], end=True) for row in rows],
            aligned=False, batch_size=batch_size, seed=options.seed,
        )  # fmt: skip

    def network():
        rk.manual_seed(options.seed)
        return nn.EncoderDecoder(
            len(english), len(french), 128, options.hidden, start_token=french.start,
            attention="additive", tied=True, dropout=0.2,
        )  # fmt: skip

    model = network()
    count = sum(parameter.size for parameter in model.parameters())
    print(f"{len(known):,} pairs of {len(english):,} and {len(french):,} words, {count:,} weights")

    def objective(batch, state):
        value = model.loss(batch.inputs, batch.targets, batch.lengths, batch.target_lengths)
        return Loss(value, int(batch.target_lengths.sum()))

    training = batches_of(parts.training)
    began = time.process_time()
    outcome = Trainer(
        model, optim.AdamW(model.parameters(), lr=RATE), training, batches_of(parts.held_out[:500]),
        budget=Budget(epochs=options.epochs), objective=objective, schedule="cosine",
        validations=5, observers=[progress_on(sys.stderr)],
    ).fit()  # fmt: skip
    seconds = time.process_time() - began
    trained = [("rnnkit", model, outcome.steps, seconds)]
    if options.torch:
        import torch_twins

        other = network()
        twin = torch_twins.TranslatorTwin(other, dropout=0.2)
        steps = outcome.steps if options.torch == "updates" else None
        trained.append(("PyTorch", other, *torch_twins.train(twin, training, steps, RATE, seconds)))
        twin.hand_over(other)

    references = defaultdict(list)
    for row in parts.held_out:
        references[pairs[row][0]].append(pairs[row][1])
    asked = list(references)[:2000]
    for name, each, steps, seconds in trained:
        print(f"{name}: {steps:,} updates, {seconds:.0f} s of CPU")
        for beam_width in (1, 5):
            said = translate(each, english, french, asked, beam_width)
            score = corpus_bleu(said, [references[s] for s in asked], lower=True).score
            whole = np.mean([text in references[s] for s, text in zip(asked, said, strict=True)])
            print(f"  beam of {beam_width}: BLEU {score:.2f}, {whole:.1%} of {len(asked):,} "
                  "sentences as in a reference")  # fmt: skip
    said = translate(model, english, french, asked, 5)
    for place in range(0, len(asked), max(1, len(asked) // 6)):
        print(f"  {asked[place]}  ->  {said[place]}")
    right = [row for row, text in enumerate(said) if text in references[asked[row]]]
    place = max(right or range(len(asked)), key=lambda row: len(asked[row]))
    draw_attention(model, options.picture, english, french, asked[place], said[place])


if __name__ == "__main__":
    main()
