"""Data of every kind as batches: text, labelled sequences, pairs, series and piano rolls."""

from rnnkit.data.baselines import mae, mase, naive, rmse, seasonal_naive
from rnnkit.data.batches import Batch, Batches, PositionedBatches, SequenceBatch
from rnnkit.data.continuous import ContinuousBatches, Window
from rnnkit.data.corpus import Corpus, default_corpus, docstring_corpus, topics_corpus
from rnnkit.data.labels import LabelSet
from rnnkit.data.mapped import MappedCorpus
from rnnkit.data.midi import Midi, Note, midi_bytes, notes_roll, read_midi, roll_notes, write_midi
from rnnkit.data.prefetch import Prefetched
from rnnkit.data.ragged import RaggedBatches
from rnnkit.data.readers.arrays import map_array, read_array, read_arrays
from rnnkit.data.readers.json_lines import read_json, read_json_lines
from rnnkit.data.readers.labelled import Labelled, read_labelled
from rnnkit.data.readers.parallel import Pairs, read_pairs
from rnnkit.data.readers.piano_rolls import piano_roll, read_piano_rolls, roll_pitches
from rnnkit.data.readers.table import Table, TextTable, read_table, read_text_table
from rnnkit.data.readers.text import read_text, read_texts, stream_text
from rnnkit.data.series import (
    Scaler,
    SeriesTransform,
    SeriesWindows,
    rolling_origins,
    split_series,
)
from rnnkit.data.split import Parts, group_duplicates, k_folds, split_at_random, split_by_position
from rnnkit.data.vocabulary import Codec, Vocabulary
from rnnkit.data.words import WordVocabulary, join_words, tokenize_words, vocabulary_from_record

__all__ = [
    "Batch",
    "Batches",
    "Codec",
    "ContinuousBatches",
    "Corpus",
    "LabelSet",
    "Labelled",
    "MappedCorpus",
    "Midi",
    "Note",
    "Pairs",
    "Parts",
    "PositionedBatches",
    "Prefetched",
    "RaggedBatches",
    "Scaler",
    "SequenceBatch",
    "SeriesTransform",
    "SeriesWindows",
    "Table",
    "TextTable",
    "Vocabulary",
    "Window",
    "WordVocabulary",
    "default_corpus",
    "docstring_corpus",
    "group_duplicates",
    "join_words",
    "k_folds",
    "mae",
    "map_array",
    "mase",
    "midi_bytes",
    "naive",
    "notes_roll",
    "piano_roll",
    "read_array",
    "read_arrays",
    "read_json",
    "read_json_lines",
    "read_labelled",
    "read_midi",
    "read_pairs",
    "read_piano_rolls",
    "read_table",
    "read_text",
    "read_text_table",
    "read_texts",
    "rmse",
    "roll_notes",
    "roll_pitches",
    "rolling_origins",
    "seasonal_naive",
    "split_at_random",
    "split_by_position",
    "split_series",
    "stream_text",
    "tokenize_words",
    "topics_corpus",
    "vocabulary_from_record",
    "write_midi",
]
