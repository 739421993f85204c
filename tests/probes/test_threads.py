"""Tests of how many threads fits compute with."""

from threadpoolctl import threadpool_info

from onnxscope_server.probes.threads import one_thread


def counts() -> list[int]:
    """Returns how many threads each library computes with."""
    return [library["num_threads"] for library in threadpool_info()]


def test_libraries_have_one_thread_as_long_as_anybody_wants_it():
    """Nested uses end together, and the libraries have what they had before."""
    before = counts()
    with one_thread():
        with one_thread():
            assert set(counts()) == {1}
        assert set(counts()) == {1}
    assert counts() == before
