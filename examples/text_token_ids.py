"""In which language is this? A text classifier on token ids, watched by ModelDistillation through typing errors.

    python examples/text_token_ids.py [--small] [--out FILE]

The texts are what Django says to its users, as its translators wrote them: real, labelled by the catalogue they come
from, and part of the package. None that is tested on is a translation of one that was learned from. A token is a
character; a row is a dict of two arrays, the ids and the mask of those that are characters, for the classifier and for
its student alike.
"""

import ast
import os
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # of both networks; any will do

import common
import django
import keras
import numpy as np
from keras import layers

from demur import ModelDistillation

LANGUAGES = "af ca cs cy da de es et eu fi fr ga gl hr hu id is it lt lv nb nl pl pt ro sk sl sq sv tr"
FEW = "cs da de es fi fr pt sk"
LENGTH = 64
MESSAGE = re.compile(r'^msgid ((?:".*"\n)+)msgstr ((?:".*"\n)+)', re.MULTILINE)
NO_TEXT = re.compile(r"%(\(\w+\))?[sdi]|<[^>]*>|\{[^}]*\}|&\w+;")


def messages(language: str) -> dict[str, list[str]]:
    """Every message in one language, by the English one, in pieces that fit and have at least three words."""
    found = {}
    for path in sorted(Path(django.__file__).parent.glob(f"**/locale/{language}/LC_MESSAGES/django.po")):
        for message in MESSAGE.findall(path.read_text(encoding="utf-8")):
            english, text = ("".join(map(ast.literal_eval, part.splitlines())) for part in message)
            if english and text != english:
                pieces = textwrap.wrap(" ".join(NO_TEXT.sub(" ", text).split()), LENGTH)
                found[english] = [piece for piece in pieces if len(piece.split()) >= 3]
    return found


def split(languages: list[str], rng: np.random.Generator) -> list[tuple[list[str], np.ndarray]]:
    """Texts and their languages' numbers, to train on, to set the threshold on and to test on."""
    catalogues = [messages(language) for language in languages]
    every = sorted(set().union(*catalogues))
    parts: list[tuple[list[str], np.ndarray]] = []
    for chosen in np.split(rng.permutation(len(every)), [int(0.6 * len(every)), int(0.8 * len(every))]):
        rows = {
            (text, label) for label, found in enumerate(catalogues) for i in chosen for text in found.get(every[i], [])
        }
        learned = set(parts[0][0]) if parts else set()
        texts = sorted(row for row in rows if row[0] not in learned)
        parts.append(([text for text, _ in texts], np.array([label for _, label in texts])))
    return parts


def tokens(texts: list[str], alphabet: dict[str, int]) -> dict[str, np.ndarray]:
    """Ids `(n, LENGTH)` of the characters, 1 for one that is not in the alphabet, and their mask."""
    ids = np.zeros((len(texts), LENGTH), "int32")
    for row, text in zip(ids, texts, strict=True):
        row[: len(text[:LENGTH])] = [alphabet.get(character, 1) for character in text[:LENGTH]]
    return {"ids": ids, "mask": (ids > 0).astype("float32")}


def network(name: str, alphabet: int, classes: int, *, units: int, filters: int, width: int, drop: float) -> Any:
    """Embeds the characters, looks for `filters` strings of `width` of them, and keeps how well each was found."""
    ids, mask = keras.Input((LENGTH,), dtype="int32", name="ids"), keras.Input((LENGTH,), name="mask")
    weights = layers.Reshape((LENGTH, 1))(mask)
    characters = layers.Multiply()([layers.Embedding(alphabet, units)(ids), weights])
    strings = layers.Conv1D(filters, width, padding="same", activation="relu")(characters)
    found = layers.GlobalMaxPooling1D()(layers.Multiply()([strings, weights]))
    languages = layers.Dense(classes, activation="softmax")(layers.Dropout(drop)(found))
    return keras.Model({"ids": ids, "mask": mask}, languages, name=name)


def mistyped(share: float, rng: np.random.Generator) -> Callable[[str], str]:
    """Leaves out, doubles or replaces each letter with some probability, evenly."""

    def change(text: str) -> str:
        kinds = np.where(rng.random(len(text)) < share, rng.integers(1, 4, len(text)), 0)
        others = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), len(text))
        return "".join(("", c, c + c, o)[(1, 0, 2, 3)[k]] for c, o, k in zip(text, others, kinds, strict=True))

    return change


def without_accents(text: str) -> str:
    """As an old system, or someone in a hurry, writes it."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def main() -> None:
    """Train, watch, mistype, measure."""
    arguments = common.options(__doc__)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    codes, filters, epochs = (FEW, 192, 24) if arguments.small else (LANGUAGES, 512, 40)
    languages = codes.split()
    (train, y_train), (held_out, _), (test, y_test) = split(languages, rng)
    frequent = Counter("".join(train)).most_common(200)
    alphabet = {character: i for i, (character, _) in enumerate(frequent, start=2)}
    x_train, x_held_out = tokens(train, alphabet), tokens(held_out, alphabet)

    model = network("classifier", len(alphabet) + 2, len(languages), units=32, filters=filters, width=4, drop=0.5)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=epochs, batch_size=64, verbose=2)
    student = network("student", len(alphabet) + 2, len(languages), units=16, filters=filters // 2, width=3, drop=0.2)
    detector = ModelDistillation(model=model, distilled_model=student, data_type="text")
    detector.fit(x_train, epochs=epochs, batch_size=64, verbose=2)
    detector.infer_threshold(x_held_out, fpr=common.FPR)

    changes: dict[str, Callable[[str], str]] = {
        "accents left out": without_accents,
        "in capitals": str.upper,
        "every second word left out": lambda text: " ".join(text.split()[::2]),
        "one letter in 20 mistyped": mistyped(0.05, rng),
        "one letter in 5 mistyped": mistyped(0.2, rng),
    }
    changed = {title: tokens([change(text) for text in test], alphabet) for title, change in changes.items()}
    results = {
        "backend": keras.backend.backend(),
        "rows": {"train": len(train), "held out": len(held_out), "test": len(test)},
        "detectors": {"ModelDistillation": common.measure(detector, tokens(test, alphabet), y_test, changed)},
    }
    common.report(results, ["django"], arguments.out)


if __name__ == "__main__":
    main()
