"""Free text of the reference hub in one spelling: languages, metrics, handles, empty fields."""

import re

LANGUAGES = {
    "arabic": ["ar"],
    "chinese": ["zh"],
    "dutch": ["nl"],
    "english": ["en"],
    "french": ["fr"],
    "german": ["de"],
    "hindi": ["hi"],
    "hinglish": ["hi", "en"],
    "italian": ["it"],
    "japanese": ["ja"],
    "korean": ["ko"],
    "portuguese": ["pt"],
    "russian": ["ru"],
    "spanish": ["es"],
    "turkish": ["tr"],
}
METRICS = {
    "pearson correlation": "pearson",
    "pearsonr": "pearson",
    "spearman rank correlation": "spearman",
    "spearmanr": "spearman",
}

_TAG = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


def languages(text: str) -> tuple[list[str], list[str]]:
    """The language tags that a free text means, each once, and the words that mean none."""
    found: list[str] = []
    unknown: list[str] = []
    for word in (part.strip() for part in text.split(",")):
        tags = LANGUAGES.get(word.lower(), [word] if _TAG.fullmatch(word) else [])
        found += [tag for tag in tags if tag not in found]
        if word and not tags:
            unknown.append(word)
    return found, unknown


def metric(text: str) -> str:
    """The name of a metric in lower case, by one word where there are several."""
    plain = " ".join(text.split()).lower()
    return METRICS.get(plain, plain)


def handle(text: str) -> str:
    """A handle without its `@`."""
    return text.strip().lstrip("@")
