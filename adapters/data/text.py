"""Text that Python carries: the help on its language, about 460,000 characters of English with
code (`pydoc_data.topics`). As characters, as tokens, and as BERT's masked pairs.

The text differs between Python's releases. Results of different releases are comparable where
`checksum()` is the same; it belongs into a run's record.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache

import numpy as np

from adapters.data.common import check, repeated

#: Python's release -> SHA-256 of its text as `_text` puts it together.
TEXT_SHA256 = {
    "3.11.7": "ac1e3cf037a85ab63e5829268ac25d99aec2ce528b791eb57a1d6735813bfd14",
    "3.12.1": "3c972ce7428731b5de4da1fd8b4a1a6ab52265e0dfe63ed83da035a48eb19809",
    "3.13.0": "c6116ffeeb8bcd2b921d2e9a9b9a179ba0c4b95c8d31d8c18445bec74471fea7",
}
OTHER = "\N{REPLACEMENT CHARACTER}"  # stands for what is not in the alphabet
#: What an id of a character means: another character, the line feed, and printable ASCII.
ALPHABET = OTHER + "\n" + "".join(map(chr, range(32, 127)))
CHARACTERS = len(ALPHABET)  # 97
HELD_OUT = 0.1  # the last tenth of the text
BYTES = 256  # the smallest vocabulary of a byte-level tokenizer
PAD, CLASS, SEPARATOR, MASK = range(4)  # the special tokens of `masked_text`
SPECIAL = 4
SEED = 0


def characters(length: int, batch: int) -> dict[str, np.ndarray]:
    """Consecutive pieces of the text: x (batch, length) int64 ids of characters and y (batch,
    length) int64, the id that follows each. Ids are below `CHARACTERS`, places in `ALPHABET`.
    Examples repeat when the text is used up."""
    return _first(_windows(_characters(), length), batch)


def characters_split(length: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set), each as `characters` returns it: all pieces of the first nine
    tenths of the text and all pieces of the rest."""
    ids = _characters()
    border = round((1 - HELD_OUT) * len(ids))
    return _windows(ids[:border], length), _windows(ids[border:], length)


def bpe(vocabulary: int, length: int, batch: int) -> dict[str, np.ndarray]:
    """Consecutive pieces of the text as tokens: x (batch, length) int64 ids and y (batch, length)
    int64, the id that follows each. Examples repeat when the text is used up.

    The tokens are those of a byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al.
    2019) that the library `tokenizers` trains on the text itself. Ids are below `vocabulary`. A
    text of this size gives no more than about 6,700 tokens; in a larger vocabulary, like GPT-2's
    50,257, higher ids never occur. Raises ValueError for less than 256 tokens, which
    single bytes need.
    """
    return _first(_windows(_tokens(vocabulary), length), batch)


def masked_text(
    vocabulary: int, length: int, batch: int, *, rate: float = 0.15
) -> dict[str, np.ndarray]:
    """Pairs of pieces of the text with tokens to be restored, as BERT is pretrained (Devlin et
    al. 2019): [CLS] A [SEP] B [SEP], and padding in every fourth example.

    Returns
      x/ids       (batch, length) int64 below `vocabulary`: 0..3 are [PAD], [CLS], [SEP], [MASK],
                  then come the tokens of `bpe`
      x/segments  (batch, length) int64: 1 on B and its [SEP], else 0
      x/mask      (batch, length) bool: False on padding
      y/tokens    (batch, length) int64: the original token where it is asked for, else -1
      y/class     (batch,) int64: 1 where B follows A in the text, as in half of the examples;
                  0 where it is from elsewhere

    About `rate` of A's and B's tokens are asked for, at least one: of these 80% are replaced by
    [MASK], 10% by a random token, and 10% stay. Examples repeat when the text is used up. Raises
    ValueError for less than 260 tokens or a length below 8.
    """
    if length < 8:
        raise ValueError(f"length {length}, but should be 8 or more")
    tokens = _tokens(vocabulary - SPECIAL) + SPECIAL
    count = len(tokens) // length - 2
    if count < 1:
        raise ValueError(f"length {length}, but the text has {len(tokens)} tokens: a third at most")
    examples = [
        _masked_pair(i, tokens, vocabulary=vocabulary, length=length, rate=rate)
        for i in range(min(batch, count))
    ]
    every = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    return _first(every, batch)


def masked_text_split(
    vocabulary: int, length: int, examples: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set) of `masked_text`: of so many examples, the first nine tenths and
    the rest. Pairs whose second piece is from elsewhere may share that piece with the other
    set."""
    every = masked_text(vocabulary, length, examples)
    border = round((1 - HELD_OUT) * examples)
    train, held = ({n: v[part] for n, v in every.items()}
                   for part in (slice(border), slice(border, None)))  # fmt: skip
    return train, held


def checksum() -> str:
    """The SHA-256 of the text. Raises DataError where the release is known to have another."""
    return hashlib.sha256(_text().encode()).hexdigest()


@cache
def _text() -> str:
    from pydoc_data.topics import topics  # here, because a worker never loads data

    text = "\n\n".join(f"{name}\n\n{topics[name]}" for name in sorted(topics))
    release = platform.python_version()
    if release in TEXT_SHA256:
        check(f"the help texts of Python {release}", text.encode(), TEXT_SHA256[release])
    return text


@cache
def _characters() -> np.ndarray:
    """(characters of the text,) int64 places in ALPHABET; not writable."""
    place = {character: i for i, character in enumerate(ALPHABET)}
    ids = np.array([place.get(character, 0) for character in _text()], np.int64)
    ids.flags.writeable = False
    return ids


@cache
def _tokens(vocabulary: int) -> np.ndarray:
    """(tokens of the text,) int64 below `vocabulary`; not writable."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if vocabulary < BYTES:
        raise ValueError(f"{vocabulary} tokens for text, but single bytes need {BYTES}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_text()], trainer)
    ids = np.array(tokenizer.encode(_text()).ids, np.int64)
    ids.flags.writeable = False
    return ids


def _windows(ids: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """All consecutive pieces of `length` ids, and the ids that follow them."""
    count = (len(ids) - 1) // length
    if not count:
        raise ValueError(f"length {length}, but the text has {len(ids)} ids: one less at most")
    places = np.arange(count * length).reshape(count, length)
    return {"x": ids[places], "y": ids[places + 1]}


def _first(examples: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    return {name: v[repeated(batch, len(v))] for name, v in examples.items()}


def _masked_pair(
    example: int, tokens: np.ndarray, *, vocabulary: int, length: int, rate: float
) -> dict[str, np.ndarray]:
    """One example of `masked_text`, without its leading axis."""
    rng = np.random.default_rng([SEED, example])
    used = length if example % 4 != 3 else 3 * length // 4
    a, b = (used - 3) // 2, used - 3 - (used - 3) // 2
    start = example * length
    follows = (example + example // 4) % 2 == 0  # as often with padding as without
    away = 0 if follows else int(rng.integers(length, len(tokens) - length))
    ids = np.concatenate([
        [CLASS], tokens[start : start + a],
        [SEPARATOR], np.take(tokens, start + a + away + np.arange(b), mode="wrap"),
        [SEPARATOR], np.full(length - used, PAD),
    ])  # fmt: skip
    place = np.arange(length)
    score = np.where(ids < SPECIAL, np.inf, rng.random(length))
    asked = (score < rate) | (score == score.min())
    fate, random = rng.random(length), rng.integers(SPECIAL, vocabulary, length)
    shown = np.where(fate < 0.8, MASK, np.where(fate < 0.9, random, ids))
    return {
        "x/ids": np.where(asked, shown, ids),
        "x/segments": ((place >= a + 2) & (place < used)).astype(np.int64),
        "x/mask": place < used,
        "y/tokens": np.where(asked, ids, -1),
        "y/class": np.array(follows, np.int64),
    }
