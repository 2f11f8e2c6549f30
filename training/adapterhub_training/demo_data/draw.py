"""Draws words at random and makes sentences of them."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from adapterhub_training.demo_data.words import Lexicon, Verb

Choice = TypeVar("Choice")
NUMBERS = (
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


class Draw:
    """A source of random words from one lexicon; the same seed gives the same words."""

    def __init__(self, words: Lexicon, seed: str) -> None:
        self.words = words
        self._random = random.Random(seed)  # noqa: S311  sentences, no secrets

    def one(self, choices: Sequence[Choice]) -> Choice:
        """Any of the choices."""
        return self._random.choice(choices)

    def two(self, choices: Sequence[Choice]) -> tuple[Choice, Choice]:
        """Two different ones."""
        first, second = self._random.sample(choices, 2)
        return first, second

    def either(self, first: Choice, second: Choice) -> tuple[Choice, Choice]:
        """Both, in any order."""
        return self.two((first, second))

    def chance(self, probability: float) -> bool:
        """Whether something with this probability happens."""
        return self._random.random() < probability

    def people(self) -> tuple[str, str]:
        """Two different ones who act."""
        first, second, _ = self.three_people()
        return first, second

    def three_people(self) -> tuple[str, str, str]:
        """Three different ones who act: names, or people by what they are."""
        names = self._random.sample(self.words.names, 3)
        roles = self._random.sample(
            [word for kind in self.words.kinds.values() for word in kind], 3
        )
        named = self._random.random()
        first, second, third = (
            name if self._random.random() < named else f"the {role}"
            for name, role in zip(names, roles, strict=True)
        )
        return first, second, third

    def person(self) -> str:
        """Someone who acts."""
        return self.three_people()[0]

    def kind(self, *, apart_from: str = "") -> tuple[str, str]:
        """A general word for those who act, and a special one under it."""
        general = self.one([kind for kind in self.words.kinds if kind != apart_from])
        return general, self.one(self.words.kinds[general])

    def thing(self) -> str:
        """Something with an article, at times with an adjective."""
        noun = self.one([word for things in self.words.things.values() for word in things])
        if self.chance(0.35):
            return f"the {self.one(self.words.adjectives)} {noun}"
        return f"the {noun}"

    def deed(self) -> Verb:
        """What can be done to a thing."""
        return self.one(self.words.deeds)

    def dealing(self) -> Verb:
        """What can be done to someone."""
        return self.one(self.words.dealings)

    def unrelated(self, verbs: Sequence[Verb]) -> tuple[Verb, Verb]:
        """Two verbs of which neither says or denies the other."""
        verb = self.one(verbs)
        words = {verb.past, verb.like, verb.against}
        others = [
            other for other in verbs if words.isdisjoint((other.past, other.like, other.against))
        ]
        return verb, self.one(others)

    def things(self) -> tuple[str, str]:
        """Two different things."""
        first = second = self.thing()
        while second.split()[-1] == first.split()[-1]:
            second = self.thing()
        return first, second

    def numbers(self) -> tuple[str, str]:
        """A smaller and a larger number, as words."""
        first, second = sorted(self._random.sample(range(len(NUMBERS)), 2))
        return NUMBERS[first], NUMBERS[second]

    def sentence(self, core: str, *details: str) -> str:
        """The core with its details, one of them in front at times; capital letter and full stop."""
        behind = [detail for detail in details if detail]
        front = ""
        if behind and self.chance(0.3):
            front = behind.pop(self._random.randrange(len(behind))) + ", "
        text = " ".join([front + core, *behind])
        return with_articles(text[0].upper() + text[1:]) + "."


def plural(noun: str) -> str:
    """More than one of them."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def with_articles(text: str) -> str:
    """The same with `an` where a vowel follows."""
    words = text.split(" ")
    for position, (word, following) in enumerate(pairwise(words)):
        if word in {"a", "A"} and following[0] in "aeiou":
            words[position] = word + "n"
    return " ".join(words)
