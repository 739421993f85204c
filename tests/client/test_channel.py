"""How a server is reached."""

from __future__ import annotations

import _thread
import signal
import threading

import grpc
import numpy as np
import pytest

import onnxscope
from onnxscope.channel import Address

ROWS = np.ones((2, 3), np.float32)


def opened(address):
    """What gRPC is asked for: the kind of channel, the target, and the credentials."""
    return address.open(
        lambda target, credentials, options: ("secure", target, credentials),
        lambda target, options: ("insecure", target, None),
    )


@pytest.mark.parametrize("tls", [None, False])
def test_a_plain_connection(tls):
    """Without tls= there is none."""
    assert opened(Address("host:1", tls=tls)) == ("insecure", "host:1", None)


def test_tls_reads_what_it_is_given(tmp_path, monkeypatch):
    """True trusts the system, a path is a file of authorities, a TLS has a certificate too."""
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr(grpc, "ssl_channel_credentials", lambda *given: given)
    tls = onnxscope.TLS(tmp_path / "ca", tmp_path / "cert", str(tmp_path / "key"))
    assert opened(Address("h", tls=True)) == ("secure", "h", (None, None, None))
    assert opened(Address("h", tls=tmp_path / "ca")) == ("secure", "h", (b"ca", None, None))
    assert opened(Address("h", tls=str(tmp_path / "ca"))) == ("secure", "h", (b"ca", None, None))
    assert opened(Address("h", tls=tls)) == ("secure", "h", (b"ca", b"key", b"cert"))


def test_a_plain_server_does_not_pass_for_one_with_tls(fake):
    """The error says to look at tls=."""
    with (
        onnxscope.connect(fake.target, tls=True, timeout=10) as scope,
        pytest.raises(onnxscope.UnavailableError, match="tls="),
    ):
        scope.models()


@pytest.fixture
def interruptible():
    """Lets SIGINT through, which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_call(fake, interruptible):
    """Ctrl-C in a notebook stops the server's work too."""
    with onnxscope.connect(fake.target) as scope:
        model = scope.load("echo")
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            model.capture(ROWS, "slow")
        assert fake.cancelled.wait(5)
        timer.join()


def test_closing_from_another_thread_ends_the_call(fake):
    """Who waits is told that the scope was closed."""
    scope = onnxscope.connect(fake.target)
    model = scope.load("echo")
    timer = threading.Timer(0.3, scope.close)
    timer.start()
    with pytest.raises(onnxscope.UnavailableError, match="closed"):
        model.capture(ROWS, "slow")
    timer.join()


def test_a_server_that_dies_within_an_answer_has_cut_it(fake):
    """What came so far is not taken for all."""
    with onnxscope.connect(fake.target, timeout=20) as scope:
        results = scope.load("echo").stream((ROWS for _ in iter(int, 1)), "a")
        next(results)
        fake.stop()
        with pytest.raises(onnxscope.StreamCutError):
            list(results)
