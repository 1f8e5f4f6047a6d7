"""Files of the same bytes, and groups that are linked by what they share."""

from apps.common.data.copies import ENDS, find_copies, linked


def test_copies_are_files_of_the_same_bytes(tmp_path):
    ends = b"a" * ENDS
    contents = [b"a" * 9000, b"b" * 9000, b"a" * 9000, b"", b"", b"a" * 8999 + b"c", b"b" * 9000]
    contents += [ends + b"one middle" + ends, ends + b"an other  " + ends, b"x"]
    paths = [tmp_path / f"{i} x.jpg" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert find_copies([*paths, tmp_path / "gone.jpg"]) == [[0, 2], [1, 6]]
    assert find_copies(paths[:7], sides=[1, 1, 1, 1, 1, 1, 2]) == [[1, 6]]
    assert find_copies(paths[:7], sides=[1, None, 2, 1, 1, 1, 2]) == [[0, 2]]
    assert find_copies([]) == []


def test_groups_that_share_a_member_are_one():
    assert linked(7, [[5, 1], [2, 3], [3, 5]]) == [[0], [1, 2, 3, 5], [4], [6]]
