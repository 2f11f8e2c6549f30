"""The words the demo's sentences are made of: one lexicon of everyday life, one of the news."""

from typing import TypeVar

import msgspec

Word = TypeVar("Word")
Words = tuple[str, ...]


class Verb(msgspec.Struct, frozen=True):
    """A transitive verb: its forms, a synonym's past and participle, and a past that contradicts it."""

    base: str
    past: str
    participle: str
    like: str
    like_participle: str
    against: str


class Lexicon(msgspec.Struct, frozen=True):
    """All words of one domain. `kinds` and `things` go from a general word to the special ones under it."""

    kinds: dict[str, Words]
    names: Words
    things: dict[str, Words]
    deeds: tuple[Verb, ...]
    """what is done to things"""
    dealings: tuple[Verb, ...]
    """what is done to people; none of them is symmetric"""
    places: Words
    times: Words
    adjectives: Words
    scales: tuple[tuple[str, str], ...]
    """comparatives and their converse"""
    reasons: Words
    hearsay: Words
    """first sentences that decide nothing"""

    def part(self, split: str) -> "Lexicon":
        """The words a split may use: about half of them are common to all, the others are its own.

        An eighth of each list is for training only, and another eighth for validation and for test each.
        """
        return Lexicon(
            kinds={kind: part(words, split) for kind, words in self.kinds.items()},
            names=part(self.names, split),
            things={kind: part(words, split) for kind, words in self.things.items()},
            deeds=part(self.deeds, split),
            dealings=part(self.dealings, split),
            places=part(self.places, split),
            times=part(self.times, split),
            adjectives=part(self.adjectives, split),
            scales=self.scales,
            reasons=part(self.reasons, split),
            hearsay=part(self.hearsay, split),
        )


TURN = {"train": 1, "validation": 3, "test": 6}


def part(words: tuple[Word, ...], split: str) -> tuple[Word, ...]:
    """The words a split may use: what is another split's own is left out."""
    closed = {turn for other, turn in TURN.items() if other != split}
    return tuple(word for position, word in enumerate(words) if position % 8 not in closed)


def listed(text: str) -> Words:
    """The words of a list with commas."""
    return tuple(word.strip() for word in text.split(","))


def _verbs(table: str) -> tuple[Verb, ...]:
    return tuple(Verb(*listed(line)) for line in table.strip().splitlines())


EVERYDAY = Lexicon(
    kinds={
        "musician": listed(
            "violinist, pianist, drummer, cellist, flautist, guitarist, harpist, organist"
        ),
        "athlete": listed("goalkeeper, sprinter, swimmer, cyclist, rower, boxer, fencer, skater"),
        "craftsman": listed(
            "carpenter, tailor, potter, blacksmith, mason, glazier, roofer, joiner"
        ),
        "medic": listed("nurse, dentist, surgeon, midwife, paramedic, optician, chemist, doctor"),
        "shopkeeper": listed(
            "baker, butcher, florist, grocer, bookseller, fishmonger, jeweller, ironmonger"
        ),
        "official": listed(
            "mayor, judge, customs officer, clerk, registrar, inspector, envoy, consul"
        ),
    },
    names=listed(
        "Anna, Boris, Chiara, Dmitri, Elif, Farid, Greta, Hugo, Ines, Jonas, Katya, Leo, Mira, Nuno, Olga, "
        "Pedro, Quentin, Rosa, Stefan, Tanja, Umut, Vera, Walter, Xenia, Yusuf, Zoe, Aylin, Bruno, Clara, "
        "Daniel, Emma, Felix"
    ),
    things={
        "vehicle": listed("van, bus, tractor, truck, tram, taxi, scooter, caravan"),
        "instrument": listed("guitar, flute, trumpet, violin, harp, cello, banjo, clarinet"),
        "tool": listed("hammer, saw, drill, wrench, ladder, spade, chisel, rake"),
        "piece of furniture": listed(
            "chair, table, wardrobe, sofa, bookcase, desk, bench, cupboard"
        ),
        "garment": listed("coat, scarf, shirt, jacket, cardigan, skirt, glove, raincoat"),
        "container": listed("basket, bucket, suitcase, barrel, crate, jar, kettle, backpack"),
    },
    deeds=_verbs("""
        repair, repaired, repaired, fixed, fixed, broke
        buy, bought, bought, purchased, purchased, sold
        hide, hid, hidden, concealed, concealed, displayed
        find, found, found, discovered, discovered, lost
        clean, cleaned, cleaned, washed, washed, soiled
        carry, carried, carried, hauled, hauled, left behind
        break, broke, broken, smashed, smashed, mended
        lift, lifted, lifted, raised, raised, lowered
        lend, lent, lent, loaned, loaned, kept
        throw away, threw away, thrown away, discarded, discarded, kept
        return, returned, returned, gave back, given back, kept
        order, ordered, ordered, requested, requested, refused
        collect, collected, collected, picked up, picked up, left behind
        build, built, built, constructed, constructed, dismantled
        steal, stole, stolen, made off with, made off with, gave back
        examine, examined, examined, inspected, inspected, ignored
    """),
    dealings=_verbs("""
        help, helped, helped, assisted, assisted, hindered
        praise, praised, praised, commended, commended, criticised
        hire, hired, hired, employed, employed, dismissed
        follow, followed, followed, trailed, trailed, ignored
        thank, thanked, thanked, expressed thanks to, offered thanks, insulted
        phone, phoned, phoned, called, called, ignored
        blame, blamed, blamed, accused, accused, defended
        invite, invited, invited, asked over, asked over, turned away
        teach, taught, taught, instructed, instructed, refused to teach
        protect, protected, protected, shielded, shielded, attacked
        deceive, deceived, deceived, tricked, tricked, told the truth to
        rescue, rescued, rescued, saved, saved, abandoned
        admire, admired, admired, looked up to, looked up to, despised
        warn, warned, warned, alerted, alerted, said nothing to
        push, pushed, pushed, shoved, shoved, pulled back
        amuse, amused, amused, entertained, entertained, bored
    """),
    places=listed(
        "in the kitchen, in the garden, at the station, near the river, on the roof, in the barn, at the market, "
        "in the library, on the beach, behind the church, at the airport, in the cellar, in front of the school, "
        "in the park, beside the bridge, in the courtyard, at the harbour, in the attic, on the balcony, "
        "in the workshop, at the crossroads, in the stable, outside the theatre, in the hallway"
    ),
    times=listed(
        "in the morning, yesterday, on Monday, before lunch, after the storm, at midnight, last week, "
        "during the break, on Friday, at dawn, two days ago, in the spring, at noon, after dinner, "
        "last night, on Sunday"
    ),
    adjectives=listed(
        "old, red, heavy, small, expensive, wooden, green, dusty, blue, light, cheap, new, yellow, huge, black, plain"
    ),
    scales=(
        ("taller", "shorter"),
        ("older", "younger"),
        ("richer", "poorer"),
        ("stronger", "weaker"),
        ("faster", "slower"),
        ("louder", "quieter"),
    ),
    reasons=listed(
        "because it was raining, for a friend, with great care, in a hurry, for the first time, without a word, "
        "to save money, by mistake, for a bet, out of habit, to please a neighbour, with some regret, "
        "as a surprise, against all advice, for a small reward, with a smile"
    ),
    hearsay=listed(
        "It was a quiet day., Nothing else happened., Everyone was tired., The weather was mild., "
        "The street was empty., Lunch was late., The radio was on., There was some noise."
    ),
)

NEWS = Lexicon(
    kinds={
        "company": listed(
            "airline, brewery, carmaker, retailer, shipyard, steelmaker, publisher, telecom operator"
        ),
        "public body": listed(
            "ministry, city council, central bank, tax office, regulator, parliament, health agency, border agency"
        ),
        "cultural institution": listed(
            "museum, opera house, film festival, orchestra, art academy, national archive, ballet, gallery"
        ),
        "association": listed(
            "trade union, farmers' league, chess federation, red cross branch, pilots' guild, "
            "teachers' union, consumer group, fishing cooperative"
        ),
    },
    names=listed(
        "Aldermann, Bashir, Castellan, Dubrova, Eriksen, Ferreira, Grolsch, Hanover, Ilves, Jankowski, Kovac, "
        "Lindqvist, Moreau, Nakata, Oduya, Petrescu, Quispe, Rahimi, Sorensen, Tamm, Ulrich, Varga, Wojcik, Zeller"
    ),
    things={
        "building": listed(
            "factory, power station, stadium, hospital, warehouse, courthouse, hotel, concert hall"
        ),
        "document": listed("report, treaty, budget, contract, petition, audit, map, charter"),
        "ship": listed("tanker, ferry, trawler, freighter, icebreaker, yacht, tugboat, submarine"),
        "proposal": listed(
            "tax plan, pension reform, merger offer, peace plan, price cap, toll scheme, visa rule, subsidy"
        ),
    },
    deeds=_verbs("""
        approve, approved, approved, endorsed, endorsed, rejected
        acquire, acquired, acquired, took over, taken over, sold off
        postpone, postponed, postponed, delayed, delayed, brought forward
        close, closed, closed, shut down, shut down, reopened
        publish, published, published, released, released, withheld
        demolish, demolished, demolished, tore down, torn down, preserved
        finance, financed, financed, paid for, paid for, withdrew all money from
        abandon, abandoned, abandoned, gave up, given up, stuck to
        inspect, inspected, inspected, looked over, looked over, overlooked
        redesign, redesigned, redesigned, revised, revised, left unchanged
        seize, seized, seized, confiscated, confiscated, handed back
        announce, announced, announced, made public, made public, kept secret
        damage, damaged, damaged, harmed, harmed, left unharmed
        rename, renamed, renamed, gave a new name to, given a new name, kept the name of
        insure, insured, insured, provided cover for, given cover, refused to cover
        replace, replaced, replaced, swapped out, swapped out, retained
    """),
    dealings=_verbs("""
        sue, sued, sued, took to court, taken to court, dropped its case against
        criticise, criticised, criticised, denounced, denounced, praised
        fine, fined, fined, penalised, penalised, cleared
        support, supported, supported, backed, backed, opposed
        outbid, outbid, outbid, offered more than, beaten at auction, lost to
        employ, employed, employed, gave work to, given work, laid off
        advise, advised, advised, counselled, counselled, misled
        investigate, investigated, investigated, looked into, looked into, refused to examine
        defeat, defeated, defeated, beat, beaten, lost to
        compensate, compensated, compensated, paid damages to, paid damages, refused to pay
        supply, supplied, supplied, delivered goods to, provided with goods, cut off
        petition, petitioned, petitioned, appealed to, approached, ignored
        audit, audited, audited, checked the books of, examined, refused to check
        absorb, absorbed, absorbed, swallowed up, swallowed up, broke away from
        honour, honoured, honoured, gave an award to, given an award, snubbed
        threaten, threatened, threatened, issued threats to, menaced, reassured
    """),
    places=listed(
        "in the capital, near the border, in the northern province, on the east coast, in the old town, at the summit, "
        "in the mountain region, along the canal, in the port district, on the island, in the business quarter, "
        "outside the city, in the valley, in the south, on the peninsula, at the trade fair"
    ),
    times=listed(
        "on Tuesday, in March, last year, after the election, in early autumn, during the strike, on Thursday, "
        "before the holidays, in December, at the weekend, this quarter, after months of talks, in July, overnight, "
        "in the first half, on Wednesday"
    ),
    adjectives=listed(
        "disputed, historic, costly, modern, abandoned, long-awaited, secret, draft, renovated, floating, "
        "regional, controversial, amended, unfinished, leaking, temporary"
    ),
    scales=(
        ("larger", "smaller"),
        ("wealthier", "poorer"),
        ("older", "younger"),
        ("more popular", "less popular"),
        ("more profitable", "less profitable"),
    ),
    reasons=listed(
        "to calm investors, despite protests, under pressure from voters, to cut costs, for safety reasons, "
        "in spite of a court order, without prior notice, at the request of residents, to win time, with outside help, "
        "for legal reasons, by a narrow margin, after a tip, on medical advice, to raise cash, amid heavy rain"
    ),
    hearsay=listed(
        "Markets barely moved., Officials declined to comment., Further details are expected., Reactions were mixed., "
        "Talks will go on next month., Local media carried the story., A spokesman gave no reasons., "
        "Analysts were not surprised."
    ),
)
