"""Which attributes are shown only to those who ask for them.

Hidden by default is what people are rather than what a picture shows: sex, age, ethnicity and skin, features of the
face that are read as signs of these, and verdicts on looks and body. A guess at them from a photo is often wrong, more
often for some groups than for others, and hurts when it is. Shown is what is worn, how hair and beard are done, and
what the face does: Eyeglasses, Bangs, Mustache, Smiling.

This hides, it does not protect: a beard or lipstick reveals most of what is hidden, and a sensitive attribute of your
own with another name is shown. Evaluation shows everything, so that such errors are found.
"""

from collections.abc import Sequence

SENSITIVE_NAMES = frozenset(
    {
        "pale skin",
        "big nose",
        "pointy nose",
        "big lips",
        "narrow eyes",
        "attractive",
        "chubby",
        "double chin",
        "bags under eyes",
        "oval face",
        "white",
        "black",
        "indian",
        "old",
    }
)
"""Whole names, of CelebA's 40 attributes and LFWA's 73, in lower case with spaces."""
SENSITIVE_WORDS = frozenset(
    {
        *("male", "female", "man", "woman", "boy", "girl", "gender", "sex"),
        *("age", "aged", "young", "senior", "elderly", "adult", "child", "kid", "teen", "youth", "baby", "toddler"),
        *("race", "ethnicity", "ethnic", "asian", "african", "caucasian", "hispanic", "latino", "skin"),
        *("attractive", "beautiful", "pretty", "ugly", "fat", "obese"),
    }
)
"""Words that make a name sensitive: Attractive_Woman, Middle_Aged, East_Asian."""


def is_sensitive(attribute: str) -> bool:
    """Whether an attribute is hidden by default; case, underscores and hyphens in its name do not matter."""
    words = attribute.lower().replace("_", " ").replace("-", " ").split()
    return " ".join(words) in SENSITIVE_NAMES or not SENSITIVE_WORDS.isdisjoint(words)


def shown(attributes: Sequence[str], show_sensitive: bool) -> list[str]:
    """The attributes to show, in their order: all, or those that are not sensitive."""
    return [name for name in attributes if show_sensitive or not is_sensitive(name)]
