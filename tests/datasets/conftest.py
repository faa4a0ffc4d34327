import threading

import pytest

from tests.datasets.server import Server


@pytest.fixture
def server(monkeypatch):
    """A server that HF_ENDPOINT names."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint + "/")
    yield server
    server.shutdown()
    server.server_close()
