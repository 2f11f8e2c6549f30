"""Pairs that say the same, or nearly the same words with another meaning, one function per pattern.

Each takes a `Draw` and whether the two shall be paraphrases.
"""

from collections.abc import Callable

from adapterhub_training.demo_data.draw import Draw, plural

Pair = tuple[str, str]


def passive(draw: Draw, same: bool) -> Pair:  # noqa: FBT001  the label; one signature for all patterns
    """Active against passive; else with other people, or the roles swapped."""
    (who, whom, other), deal = draw.three_people(), draw.dealing()
    time = draw.one(draw.words.times)
    first = draw.sentence(f"{who} {deal.past} {whom}", time)
    if not same:
        who, whom = draw.one(((other, whom), (who, other), (whom, who)))
    second = draw.one(
        (f"{whom} was {deal.participle} by {who}", f"it was {who} who {deal.past} {whom}")
    )
    return first, draw.sentence(second, time)


def synonym(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """Another verb, with the same meaning or not."""
    who, thing, (deed, other) = draw.person(), draw.thing(), draw.unrelated(draw.words.deeds)
    place = draw.one(draw.words.places)
    said = deed.like if same else draw.one((deed.against, other.past))
    return (
        draw.sentence(f"{who} {deed.past} {thing}", place),
        draw.sentence(f"{who} {said} {thing}", place),
    )


def shuffled(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """The same parts in another order, one of them exchanged or not."""
    who, thing, deed = draw.person(), draw.thing(), draw.deed()
    (place, elsewhere), (time, later) = draw.two(draw.words.places), draw.two(draw.words.times)
    first = draw.sentence(f"{who} {deed.past} {thing}", place, time)
    if not same:
        place, time = draw.one(((elsewhere, time), (place, later)))
    second = draw.one(
        (
            draw.sentence(f"it was {place} that {who} {deed.like} {thing} {time}"),
            draw.sentence(f"{thing} was {deed.participle} by {who}", time, place),
            draw.sentence(f"{time}, {place}, {who} {deed.past} {thing}"),
        )
    )
    return first, second


def converse(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """Buying and selling, giving and receiving, more and less; else with other people, or the roles swapped."""
    (who, whom, other), thing = draw.three_people(), draw.thing()
    time = draw.one(draw.words.times)
    them = (who, whom) if same else draw.one(((other, whom), (who, other), (whom, who)))
    if draw.chance(0.4):
        more, less = draw.either(*draw.one(draw.words.scales))
        back = f"{them[1]} is {less} than {them[0]}"
        return draw.sentence(f"{who} is {more} than {whom}"), draw.sentence(back)
    gave, got = draw.one((("sold", "bought"), ("gave", "received"), ("lent", "borrowed")))
    first = f"{who} {gave} {thing} to {whom}"
    second = f"{them[1]} {got} {thing} from {them[0]}"
    return draw.sentence(first, time), draw.sentence(second, time)


def outcome(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """Did it, managed it, failed to, did not."""
    who, deed, thing = draw.person(), draw.deed(), draw.thing()
    done = (
        f"{who} {deed.past} {thing}",
        f"{who} managed to {deed.base} {thing}",
        f"{who} succeeded in the end and {deed.past} {thing}",
    )
    undone = (
        f"{who} did not {deed.base} {thing}",
        f"{who} failed to {deed.base} {thing}",
        f"{who} was unable to {deed.base} {thing}",
    )
    if same:
        first, second = draw.two(draw.one((done, undone)))
    else:
        first, second = draw.either(draw.one(done), draw.one(undone))
    return draw.sentence(first), draw.sentence(second)


def how(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """Questions on how something is done."""
    (deed, other), (thing, another) = draw.unrelated(draw.words.deeds), draw.things()
    asked = (
        "How can I {} {}?",
        "What is the best way to {} {}?",
        "Can someone tell me how to {} {}?",
        "How does one {} {} without help?",
        "What do I need to {} {}?",
    )
    first, second = draw.two(asked)
    if same:
        return first.format(deed.base, thing), second.format(deed.base, thing)
    verb, noun = draw.one(((other.base, thing), (deed.base, another)))
    return first.format(deed.base, thing), second.format(verb, noun)


def why(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """Questions on reasons; else for another deed, or other people."""
    (who, whom, third), (deal, other) = draw.three_people(), draw.unrelated(draw.words.dealings)
    first = f"Why was {whom} {deal.participle} by {who}?"
    asked = (
        "For what reason was it that {} {} {}?",
        "What made it so that {} {} {}?",
        "Is it known why {} {} {}?",
    )
    if same:
        return first, draw.one(asked).format(who, deal.past, whom)
    wrong = draw.one(((third, deal.past, whom), (who, other.past, whom)))
    return first, draw.one(asked).format(*wrong)


def numbers(draw: Draw, same: bool) -> Pair:  # noqa: FBT001
    """Quantities said in two ways."""
    few, many = draw.numbers()
    _, special = draw.kind()
    deed, thing, place = draw.deed(), draw.thing(), draw.one(draw.words.places)
    tail = f"{plural(special)} {deed.past} {thing}"
    ways = (
        ("no fewer than {}", "at least {}"),
        ("no more than {}", "at most {}"),
        ("exactly {}", "{}, no more and no fewer,"),
    )
    first, second = draw.either(*draw.one(ways))
    other = draw.one(ways[:2])[0] if draw.chance(0.3) else second
    said = second.format(many) if same else other.format(few)
    return draw.sentence(f"{first.format(many)} {tail}", place), draw.sentence(
        f"{said} {tail}", place
    )


Pattern = Callable[[Draw, bool], Pair]
PATTERNS: tuple[Pattern, ...] = (passive, synonym, shuffled, converse, outcome, how, why, numbers)
