"""The ranges of the numbers in a config; msgspec checks them when a config is read."""

import sys
from typing import Annotated

from msgspec import Meta

_LARGEST = sys.float_info.max

Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1)]
Decimal = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
"""neither infinite nor NaN; a whole number is read as a decimal one"""
Number = int | Decimal
"""stays whole or decimal: the two have different ids"""
Factor = Annotated[int, Meta(gt=0)] | Annotated[float, Meta(gt=0, le=_LARGEST)]
Rate = Annotated[float, Meta(ge=0, le=1)]
LayerNumbers = list[Count]
