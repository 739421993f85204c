"""Names, versions and digests: what a caller's words stand for."""

from __future__ import annotations

import pytest

from onnxscope_server.catalog import names
from onnxscope_server.catalog.names import Names
from onnxscope_server.errors import ModelExistsError, ModelNotFoundError, UploadInvalidError

A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_defaults_are_the_short_digest_and_the_next_number():
    """Without a name the digest's first digits, without a version 1, 2 and so on."""
    table = Names()
    assert (table.add("", "", A).name, table.add("m", "", A).version) == ("a" * 12, "1")
    assert table.add("m", "", B).version == "2"
    table.add("m", "9", C)
    assert table.add("m", "", "d" * 64).version == "10"


def test_the_same_bytes_keep_their_version():
    """Adding a model again under its name changes nothing, not even the time."""
    table = Names()
    first = table.add("m", "", A)
    table.add("m", "", B)
    assert table.add("m", "", A) == first
    assert len(table.entries()) == 2


def test_the_newest_version_is_the_highest_number():
    """2 is newer than 10's text order says, numbers are newer than words, and of words the last one loaded."""
    table = Names()
    for version, digest in (("word", A), ("10", B), ("2", C)):
        table.add("m", version, digest)
    assert table.find("m").version == "10"
    table.add("n", "beta", A)
    table.add("n", "alpha", B)
    assert table.find("n").version == "alpha"
    assert [entry.version for entry in table.entries()] == ["2", "10", "word", "alpha", "beta"]


def test_a_digest_stands_for_itself():
    """A full digest finds the model under any of its names."""
    table = Names()
    table.add("m", "", A)
    assert table.find(A).name == "m"


def test_what_is_not_there_is_named_with_what_is():
    """The error lists the names, guesses what was meant, and has metadata."""
    table = Names()
    table.add("digits", "", A)
    with pytest.raises(
        ModelNotFoundError, match=r"no model 'digit'\. Did you mean 'digits'\? The catalog has 'digits'"
    ) as e:
        table.find("digit")
    assert e.value.metadata == {"model": "digit", "version": "", "known": "digits"}
    with pytest.raises(ModelNotFoundError, match=r"has no version '7'\. It has '1'"):
        table.find("digits", "7")
    with pytest.raises(ModelNotFoundError, match="Say which model"):
        table.find("")
    with pytest.raises(ModelNotFoundError, match="no models yet"):
        Names().find("m")


def test_a_version_of_other_bytes_is_refused():
    """Name and version together never change their meaning."""
    table = Names()
    table.add("m", "1", A)
    with pytest.raises(ModelExistsError) as caught:
        table.add("m", "1", B)
    assert caught.value.metadata == {"model": "m", "version": "1", "digest": A}


@pytest.mark.parametrize("name", [A, "x" * 201, "a\nb", " padded", "\x00"])
def test_names_that_mislead_are_refused(name):
    """Digests, endless names and what does not print."""
    with pytest.raises(UploadInvalidError):
        names.check(name, "")


@pytest.mark.parametrize("name", ["", "digits", "org/model-1.2", "Modell für Ziffern"])
def test_ordinary_names_are_taken(name):
    """Slashes, blanks inside and letters of any language are fine."""
    names.check(name, "v1.0")


def test_what_was_found_is_found_anew_when_names_change():
    """A name without a version means the newest one, also for who asked before it came, and after it went."""
    table = Names()
    first = table.add("m", "1", A)
    assert table.find("m") is first
    second = table.add("m", "2", B)
    assert table.find("m") is second
    table.remove([second])
    assert table.find("m") is first
    table.remove([first])
    with pytest.raises(ModelNotFoundError):
        table.find("m")
