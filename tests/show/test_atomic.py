"""Files are complete or not there."""

import pytest

from onnxscope.show.atomic import replacing


def test_a_block_that_ends_well_replaces_the_file(tmp_path):
    """And leaves nothing else in the folder."""
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as part:
        part.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_raises_leaves_what_was_there(tmp_path):
    """Half a file is never seen."""
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half():
        with replacing(target) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_keeps_pointing_to_the_new_file(tmp_path):
    """Its target is replaced, not the link."""
    target, link = tmp_path / "a.txt", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_device_is_not_replaced(tmp_path):
    """Somebody who names /dev/null must not lose it."""
    with pytest.raises(OSError, match="regular file"), replacing(tmp_path):
        pass


def test_a_missing_folder_is_named(tmp_path):
    """And not made."""
    with pytest.raises(FileNotFoundError, match="does not exist"), replacing(tmp_path / "no" / "a"):
        pass
