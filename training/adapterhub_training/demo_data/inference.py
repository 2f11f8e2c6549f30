"""Pairs of a premise and a hypothesis, one function per phenomenon.

Each takes a `Draw` and the label that is wanted, and answers with both sentences: entailment follows from the premise,
contradiction cannot be true beside it, neutral may be either.
"""

from collections.abc import Callable

from adapterhub_training.demo_data.draw import Draw, plural

Pair = tuple[str, str]
ENTAILMENT, NEUTRAL, CONTRADICTION = "entailment", "neutral", "contradiction"


def detail(draw: Draw, want: str) -> Pair:
    """A premise with place and time; the hypothesis drops, changes or adds one."""
    who, thing, deed = draw.person(), draw.thing(), draw.deed()
    (place, elsewhere), time = draw.two(draw.words.places), draw.one(draw.words.times)
    premise = draw.sentence(f"{who} {deed.past} {thing}", place, time)
    core = f"{who} {draw.one((deed.past, deed.past, deed.like))} {thing}"
    if want == ENTAILMENT:
        return premise, draw.sentence(core, draw.one((place, time, "")))
    if want == NEUTRAL:
        reason = draw.one(draw.words.reasons)
        return premise, draw.sentence(core, draw.one((place, "")), reason)
    return premise, draw.one(
        (
            draw.sentence(core, elsewhere, time),
            draw.sentence(f"nobody {deed.past} {thing}", place),
            draw.sentence(f"{who} was {elsewhere} {time} and not {place}"),
        )
    )


def voice(draw: Draw, want: str) -> Pair:
    """Active and passive; the roles may be swapped."""
    (who, whom), deal, place = draw.people(), draw.dealing(), draw.one(draw.words.places)
    active, passive = f"{who} {deal.past} {whom}", f"{whom} was {deal.participle} by {who}"
    premise, hypothesis = draw.either(active, passive)
    premise = draw.sentence(premise, draw.one((place, "")))
    if want == ENTAILMENT:
        return premise, draw.sentence(hypothesis)
    if want == NEUTRAL:
        swapped = draw.one((f"{whom} {deal.past} {who}", f"{who} was {deal.participle} by {whom}"))
        return premise, draw.sentence(swapped, draw.one((place, "")))
    denied = (f"{who} never {deal.past} {whom}", f"{whom} was not {deal.participle} by {who}")
    return premise, draw.sentence(draw.one(denied))


def wording(draw: Draw, want: str) -> Pair:
    """A synonym, its opposite, or something else that was done."""
    if draw.chance(0.5):
        (who, whom), (verb, other) = draw.people(), draw.unrelated(draw.words.dealings)
    else:
        (who, whom), (verb, other) = (draw.person(), draw.thing()), draw.unrelated(draw.words.deeds)
    time = draw.one(draw.words.times)
    premise = draw.sentence(f"{who} {verb.past} {whom}", time)
    said = {ENTAILMENT: verb.like, CONTRADICTION: verb.against, NEUTRAL: other.past}[want]
    if want == CONTRADICTION:
        return premise, draw.sentence(f"{who} {said} {whom}", time)
    return premise, draw.sentence(f"{who} {said} {whom}", draw.one((time, "")))


def kind(draw: Draw, want: str) -> Pair:
    """From the special word to the general one, or back."""
    general, special = draw.kind()
    other_general, other = draw.kind(apart_from=general)
    deed, thing, place = draw.deed(), draw.thing(), draw.one(draw.words.places)
    said = f"{draw.one((deed.past, deed.like))} {thing}"
    premise = draw.sentence(f"a {special} {deed.past} {thing}", place)
    if want == ENTAILMENT:
        return premise, draw.sentence(f"a {general} {said}", draw.one((place, "")))
    if want == NEUTRAL:
        if draw.chance(0.5):
            general_first = draw.sentence(f"a {general} {deed.past} {thing}", place)
            return general_first, draw.sentence(f"a {special} {said}", place)
        return premise, draw.sentence(f"a {draw.one((other, other_general))} {said}")
    return premise, draw.sentence(f"no {draw.one((general, special))} {said}", place)


def count(draw: Draw, want: str) -> Pair:
    """Numbers against more, fewer and exactly."""
    _, special = draw.kind()
    few, many = draw.numbers()
    deed, thing = draw.deed(), draw.thing()
    tail = f"{plural(special)} {deed.past} {thing}"
    place = draw.one(draw.words.places)
    premise = draw.sentence(f"{many} {tail}", place)
    if want == ENTAILMENT:
        said = draw.one((f"more than {few}", f"at least {few}", "several", f"not just {few}"))
    elif want == NEUTRAL:
        said = f"{many} {draw.one(draw.words.adjectives)}"
    else:
        said = draw.one((f"only {few}", f"exactly {few}", f"no more than {few}", f"at most {few}"))
    return premise, draw.sentence(f"{said} {tail}", draw.one((place, "")))


def together(draw: Draw, want: str) -> Pair:
    """And, or, but not."""
    (who, other), deed, thing = draw.people(), draw.deed(), draw.thing()
    did = f"{deed.past} {thing}"
    time = draw.one(draw.words.times)
    if want == ENTAILMENT:
        premise = draw.one((f"{who} and {other} {did}", f"both {who} and {other} {did}"))
    elif want == NEUTRAL:
        premise = draw.one((f"{who} or {other} {did}", f"either {who} or {other} {did}"))
    else:
        premise = draw.one((f"{who} but not {other} {did}", f"neither {who} nor {other} {did}"))
    return draw.sentence(premise, time), draw.sentence(f"{other} {did}", draw.one((time, "")))


def comparison(draw: Draw, want: str) -> Pair:
    """Taller and shorter, with the roles kept or swapped."""
    who, other, third = draw.three_people()
    more, less = draw.either(*draw.one(draw.words.scales))
    premise = draw.sentence(f"{who} is {more} than {other}")
    if want == ENTAILMENT:
        return premise, draw.sentence(f"{other} is {less} than {who}")
    if want == NEUTRAL:
        return premise, draw.sentence(f"{who} is {more} than {third}")
    swapped = (f"{other} is {more} than {who}", f"{who} is {less} than {other}")
    return premise, draw.sentence(draw.one(swapped))


def transfer(draw: Draw, want: str) -> Pair:
    """Selling and buying, giving and receiving."""
    (giver, taker), thing = draw.people(), draw.thing()
    gave, got, kept = draw.one(
        (
            ("sold", "bought", "refused to sell"),
            ("gave", "received", "refused to give"),
            ("lent", "borrowed", "did not lend"),
            ("sent", "got", "never sent"),
        )
    )
    premise, converse = f"{giver} {gave} {thing} to {taker}", f"{taker} {got} {thing} from {giver}"
    premise, converse = draw.either(premise, converse)
    time = draw.one(draw.words.times)
    if want == ENTAILMENT:
        return draw.sentence(premise, time), draw.sentence(converse)
    if want == NEUTRAL:
        more = (f"{taker} was pleased with {thing}", f"{giver} {gave} everything to {taker}")
        return draw.sentence(premise, time), draw.sentence(draw.one(more))
    denied = (f"{giver} {kept} {thing} to {taker}", f"{taker} {got} nothing from {giver}")
    return draw.sentence(premise, time), draw.sentence(draw.one(denied))


def attempt(draw: Draw, want: str) -> Pair:
    """Managed to, failed to, tried to: did it happen."""
    who, deed, thing = draw.person(), draw.deed(), draw.thing()
    did, not_done = f"{deed.past} {thing}", f"did not {deed.base} {thing}"
    happened = draw.one(("managed to", "was able to", "did not forget to", "went so far as to"))
    missed = draw.one(("failed to", "forgot to", "refused to", "was unable to"))
    opened = draw.one(("planned to", "hoped to", "promised to", "was asked to"))
    true = draw.chance(0.5)
    lead = {
        ENTAILMENT: happened if true else missed,
        NEUTRAL: opened,
        CONTRADICTION: missed if true else happened,
    }
    premise = draw.sentence(f"{who} {lead[want]} {deed.base} {thing}", draw.one(draw.words.times))
    return premise, draw.sentence(f"{who} {did if true else not_done}")


def order(draw: Draw, want: str) -> Pair:
    """Before and after."""
    (who, other), (deed, other_deed), thing = (
        draw.people(),
        draw.two(draw.words.deeds),
        draw.thing(),
    )
    first, second = f"{who} {deed.past} {thing}", f"{other} {other_deed.past} it"
    premise = draw.sentence(f"{first} before {second}")
    if want == ENTAILMENT:
        return premise, draw.sentence(
            draw.one((f"{second} after {first}", f"{other} {other_deed.past} {thing}"))
        )
    if want == NEUTRAL:
        return premise, draw.sentence(f"{first} because {second}")
    return premise, draw.sentence(draw.one((f"{first} after {second}", f"{second} before {first}")))


def hearsay(draw: Draw, want: str) -> Pair:
    """Said is not known; wrongly believed is not so."""
    (who, other), deed, thing = draw.people(), draw.deed(), draw.thing()
    fact = f"{other} {deed.past} {thing}"
    lead = {
        ENTAILMENT: ("found out that", "was glad that", "forgot that", "admitted knowing that"),
        NEUTRAL: ("claimed that", "suspected that", "doubted that", "was told that"),
        CONTRADICTION: ("wrongly believed that", "pretended that", "invented the story that"),
    }
    premise = draw.sentence(f"{who} {draw.one(lead[want])} {fact}", draw.one(draw.words.times))
    return premise, draw.sentence(fact)


def exclusive(draw: Draw, want: str) -> Pair:
    """Only one did it."""
    (who, other), deed, thing = draw.people(), draw.deed(), draw.thing()
    did, time = f"{deed.past} {thing}", draw.one(draw.words.times)
    premise = draw.one((f"only {who} {did}", f"nobody except {who} {did}"))
    said = {
        ENTAILMENT: (f"{who} {did}", f"{other} did not {deed.base} {thing}"),
        NEUTRAL: (f"{who} {did} {draw.one(draw.words.reasons)}", f"{who} hoped for help"),
        CONTRADICTION: (f"{other} {did}", f"everyone {did}"),
    }
    return draw.sentence(premise, time), draw.sentence(draw.one(said[want]))


Phenomenon = Callable[[Draw, str], Pair]
PHENOMENA: tuple[Phenomenon, ...] = (
    detail,
    voice,
    wording,
    kind,
    count,
    together,
    comparison,
    transfer,
    attempt,
    order,
    hearsay,
    exclusive,
)
NEWS_PHENOMENA: tuple[Phenomenon, ...] = (wording, kind, count, together, attempt, hearsay)
