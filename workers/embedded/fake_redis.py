"""A process that is a Redis as far as this project needs one: `python -m workers.embedded.fake_redis PORT`."""

import signal
import sys
import threading

from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler


def serve(port: int) -> None:
    """Serve on the loopback address until SIGTERM."""
    # With Nagle's algorithm each small reply waits for the last one's acknowledgement: 11 tasks a second, not 300.
    TCPFakeRequestHandler.disable_nagle_algorithm = True
    TcpFakeServer.request_queue_size = 128  # five by default: a starting worker opens more connections at once
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
