"""Sensitive attributes, which are hidden by default.

Hidden are personal traits: sex, age, ethnicity and skin, facial features associated with them, and judgements of looks
and body. Predicting them from a photo is often wrong, more often for some groups than for others, and then harmful.
Shown are things worn, hair and beard styles, and expressions: Eyeglasses, Bangs, Mustache, Smiling.

Hiding is not protection: a beard or lipstick reveals most of the hidden attributes, and your own sensitive attributes
with other names are shown. Evaluation shows everything, so that such errors are found.
"""

import re
import unicodedata
from collections.abc import Sequence

SENSITIVE_NAMES = frozenset(
    "paleskin bignose pointynose biglips narroweyes attractive chubby doublechin bagsundereyes ovalface white black "
    "brown indian old elder elders thin overweight handsome roundface squareface agegroup aging "
    "ageing blackperson whiteperson".split()
)
"""Whole names, of CelebA's 40 attributes and LFWA's 73, and others, in lower case without spaces."""
SENSITIVE_WORDS = frozenset(
    "male female man woman boy girl gender sex age aged young senior elderly adult child kid teen youth baby toddler "
    "men women lady ladies guy guys gentleman gentlemen feminine masculine femininity masculinity infant infants teens "
    "boys girls babies kids teenager teenagers toddlers grandma grandpa jewish muslim "
    "race ethnicity ethnic nationality asian african caucasian hispanic latino latina latinx eastern arab european "
    "skin attractive beautiful pretty ugly fat obese".split()
)
"""Words that make a name sensitive: Attractive_Woman, Middle_Aged, East_Asian."""
SENSITIVE_PARTS = (*(word for word in SENSITIVE_WORDS if len(word) > 4), "male", "skin", "middleaged")
"""Those of them that are found in a name without spaces, too: eastasian, ismale."""


def is_sensitive(attribute: str) -> bool:
    """Whether an attribute is hidden by default, in any spelling: Pale_Skin, paleskin, isMale, EastAsian."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFKC", attribute))
    words = re.findall(r"[^\W\d_]+", spaced.casefold())
    words = words[1:] if words[:1] in (["is"], ["has"]) else words
    joined = "".join(words)
    known = joined in SENSITIVE_NAMES or not SENSITIVE_WORDS.isdisjoint(words)
    return known or any(part in joined for part in SENSITIVE_PARTS)


def shown(attributes: Sequence[str], show_sensitive: bool) -> list[str]:
    """The attributes to show, in their order: all, or those that are not sensitive."""
    return [name for name in attributes if show_sensitive or not is_sensitive(name)]
