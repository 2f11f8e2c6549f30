"""Sentences that speak well or ill of something, one function per pattern.

Each takes a `Draw` for the time and place, its own `Opinions`, and whether the verdict shall be good.
"""

from collections.abc import Callable

import msgspec

from adapterhub_training.demo_data.draw import Draw
from adapterhub_training.demo_data.words import Words, listed, part


class Opinions(msgspec.Struct, frozen=True):
    """Words of praise and blame, as far as a split may use them."""

    good: Words
    bad: Words
    subjects: Words
    good_ends: Words
    bad_ends: Words
    good_verbs: Words
    bad_verbs: Words

    def part(self, split: str) -> "Opinions":
        """The words a split may use."""
        return Opinions(*(part(getattr(self, field), split) for field in self.__struct_fields__))

    def sides(self, good: bool) -> tuple[Words, Words]:  # noqa: FBT001  the label
        """Adjectives on the side of the verdict, and on the other one."""
        return (self.good, self.bad) if good else (self.bad, self.good)


OPINIONS = Opinions(
    good=listed(
        "wonderful, delightful, charming, brilliant, superb, moving, clever, comfortable, tasty, friendly, gripping, "
        "elegant, reliable, spotless, refreshing, generous, hilarious, touching, impressive, fresh, cosy, thoughtful, "
        "lovely, inspiring, flawless, warm, graceful, rewarding, polished, memorable, crisp, lively"
    ),
    bad=listed(
        "dreadful, boring, dull, clumsy, awful, tedious, noisy, greasy, rude, predictable, ugly, unreliable, filthy, "
        "stale, overpriced, pointless, sloppy, lifeless, disappointing, bland, cramped, careless, horrible, "
        "depressing, broken, cold, stiff, tiresome, shabby, forgettable, soggy, chaotic"
    ),
    subjects=listed(
        "film, novel, hotel, restaurant, concert, course, exhibition, play, boat trip, café, phone, bicycle, "
        "guided tour, cookery book, bakery, campsite, radio drama, keyboard, sofa bed, hiking map, circus, podcast, "
        "mattress, language app, soup, opera, train ride, spa, museum shop, vacuum cleaner, garden fair, dance class"
    ),
    good_ends=(
        "I would go again tomorrow",
        "I have told all my friends about it",
        "worth every penny",
        "we stayed longer than planned",
        "the evening flew by",
        "I could not stop smiling",
        "we are already planning the next time",
        "it left nothing to be desired",
        "my children ask for it every day",
        "it beat all we had hoped for",
        "I only wish I had known it sooner",
        "hats off to everyone involved",
    ),
    bad_ends=(
        "I asked for my money back",
        "never again",
        "we left before the end",
        "it was a waste of an evening",
        "I could hardly stay awake",
        "do yourself a favour and stay at home",
        "we have regretted it ever since",
        "it fell apart within a week",
        "nobody answered our complaints",
        "it fell short of all we had hoped for",
        "I only wish someone had warned me",
        "shame on everyone involved",
    ),
    good_verbs=(
        "enjoyed",
        "loved",
        "was delighted with",
        "fell for",
        "was won over by",
        "could not get enough of",
        "treasured",
        "was impressed by",
    ),
    bad_verbs=(
        "hated",
        "regretted",
        "was let down by",
        "grew tired of",
        "was put off by",
        "had more than enough of",
        "suffered through",
        "was annoyed by",
    ),
)
GOOD_RANKS = ("far better than", "a clear step up from", "more fun than", "less trouble than")
BAD_RANKS = ("far worse than", "no match for", "less fun than", "more trouble than")
PARTS = (
    "service",
    "story",
    "sound",
    "price",
    "beginning",
    "atmosphere",
    "design",
    "ending",
    "crowd",
    "view",
)


def plain(draw: Draw, words: Opinions, good: bool) -> str:  # noqa: FBT001  the label; one signature for all
    """A verdict, said directly."""
    mine, _ = words.sides(good)
    first, second = draw.two(mine)
    core = draw.one(
        (
            f"the {draw.one(words.subjects)} was {first} and {second}",
            f"what a {first} {draw.one(words.subjects)} that was",
            f"I have seldom known such a {first} {draw.one(words.subjects)}",
            f"the {draw.one(PARTS)} was {first}, and so was the rest of the {draw.one(words.subjects)}",
        )
    )
    return draw.sentence(core)


def denied(draw: Draw, words: Opinions, good: bool) -> str:  # noqa: FBT001
    """The opposite, denied."""
    _, other = words.sides(good)
    said = draw.one(
        ("anything but {}", "not {} at all", "by no means {}", "never {}, not for a moment")
    )
    return draw.sentence(f"the {draw.one(words.subjects)} was {said.format(draw.one(other))}")


def contrast(draw: Draw, words: Opinions, good: bool) -> str:  # noqa: FBT001
    """A concession, then the verdict that counts."""
    mine, other = words.sides(good)
    aspect, subject = draw.one(PARTS), draw.one(words.subjects)
    core = draw.one(
        (
            f"although the {aspect} was {draw.one(other)}, the {subject} as a whole was {draw.one(mine)}",
            f"the {subject} was {draw.one(mine)}, even if the {aspect} was {draw.one(other)}",
            f"people had told me the {subject} was {draw.one(other)}, but I found it {draw.one(mine)}",
            f"I expected something {draw.one(other)}, and got a {subject} that was {draw.one(mine)}",
        )
    )
    return draw.sentence(core)


def ending(draw: Draw, words: Opinions, good: bool) -> str:  # noqa: FBT001
    """A fact, and what became of it."""
    end = draw.one(words.good_ends if good else words.bad_ends)
    return draw.sentence(
        f"we tried the {draw.one(words.subjects)} {draw.one(draw.words.times)}: {end}"
    )


def feeling(draw: Draw, words: Opinions, good: bool) -> str:  # noqa: FBT001
    """What it did to someone."""
    verb = draw.one(words.good_verbs if good else words.bad_verbs)
    who = draw.person()
    return draw.sentence(
        f"{who} {verb} the {draw.one(words.subjects)}", draw.one(draw.words.places)
    )


def measured(draw: Draw, words: Opinions, good: bool) -> str:  # noqa: FBT001
    """Better or worse than something else."""
    first, second = draw.two(words.subjects)
    than = GOOD_RANKS if good else BAD_RANKS
    return draw.sentence(f"this {first} is {draw.one(than)} the {second} we had before")


Pattern = Callable[[Draw, Opinions, bool], str]
PATTERNS: tuple[Pattern, ...] = (plain, denied, contrast, ending, feeling, measured)
