"""What holds for the whole suite: no network unless a test is marked so, and a second device."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest

# Plain modules that tests of every room import: devices/second_device.py, ranks/forked.py and
# ranks/launch.py.
sys.path[:0] = [str(Path(__file__).parent / room) for room in ("devices", "ranks")]

# Two workers share the machine, and tests compare numbers: one thread, where a test does not say
# more, and none that turns round and round while it waits. Read when torch and numpy are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Connecting anywhere but to this machine, or listening for others, fails the test."""
    if request.node.get_closest_marker("network"):
        return
    connect, bind = socket.socket.connect, socket.socket.bind

    def checked_connect(self, address):
        if self.family != socket.AF_UNIX and address[0] not in _LOCAL:
            pytest.fail(f"a test tried to reach {address}")
        return connect(self, address)

    def checked_bind(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:
            pytest.fail(f"a test tried to listen on {address}")
        return bind(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked_connect)
    monkeypatch.setattr(socket.socket, "bind", checked_bind)


@pytest.fixture(autouse=True)
def one_thread():
    """What a test chooses is not the next one's: it begins with one thread of torch."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def registered():
    """Registers the test device before anything else: torch counts devices at its first gradient,
    and one that comes later has no place in that count.
    """
    with contextlib.suppress(ImportError):  # environments without torch have tests as well
        import second_device  # noqa: F401


@pytest.fixture(scope="session")
def second():
    """The test device (devices/second_device.py), registered for the rest of the process."""
    torch = pytest.importorskip("torch")
    import second_device

    return torch.device(second_device.NAME, 0)


@pytest.fixture
def memory_path():
    """A folder in memory where there is one: fsync costs nothing, kills and errors are the same."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="playout-test-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)
