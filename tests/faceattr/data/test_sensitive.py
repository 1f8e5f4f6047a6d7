"""What is hidden by default, however it is spelt."""

import pytest

from apps.faceattr.data.sensitive import is_sensitive

HIDDEN = ("EastAsian", "PaleSkin", "isMale", "BigNose", "Middle Eastern", "MIDDLE-AGED", "paleskin", "has_pale_skin")
HIDDEN += ("ismale", "middleaged", "Skin_Tone", "BagsUnderEyes", "Big.Nose", "AgeGroup", "oldMan", "eastasian", "Male1")
HIDDEN += (
    "Women",
    "Men",
    "Kids",
    "Feminine",
    "overweight",
    "Elder",
    "agegroup",
    "Round_Face",
    "Black_Person",
    "Latinx",
)
SHOWN = ("Eyeglasses", "Bangs", "Mustache", "Smiling", "Wearing_Lipstick", "Black_Hair", "blackHair", "Bandage")
SHOWN += (
    "WearingHat",
    "Gray_Hair",
    "Image",
    "Big_Hat",
    "Braces",
    "manual",
    "Goatee",
    "Kidney",
    "Package",
    "Western_Hat",
    "Mentor",
    "Human",
    "5_o_Clock_Shadow",
    "Stage",
)


@pytest.mark.parametrize("name", HIDDEN)
def test_what_people_are_is_hidden(name):
    assert is_sensitive(name)


@pytest.mark.parametrize("name", SHOWN)
def test_what_they_wear_and_do_is_shown(name):
    assert not is_sensitive(name)
