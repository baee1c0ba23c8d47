"""Two worker threads that report to the room, without asyncio. Whoever writes "stop" there ends them.

python examples/worker_threads.py 8092 localhost:8080
"""

import sys
from threading import Event, Thread

from p2pchat.sync import Message, TCPPeer


def work(peer: TCPPeer, name: str, stop: Event) -> None:
    steps = 0
    while not stop.wait(timeout=0.1):  # the work
        steps += 1
        peer.broadcast(f"{name}: step {steps}")
    peer.broadcast(f"{name}: stopped after {steps} steps").delivered(timeout=60)


def main(port: int, *endpoints: str) -> None:
    stop = Event()
    with TCPPeer(port, *endpoints, name="workers") as peer:
        threads = [Thread(target=work, args=(peer, name, stop)) for name in ("left", "right")]
        for thread in threads:
            thread.start()
        try:
            for event in peer.events(Message):  # misses nothing since the start
                if event.text == "stop" and not event.old:
                    break
        finally:  # also after Ctrl-C
            stop.set()
            for thread in threads:
                thread.join()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python examples/worker_threads.py PORT HOST:PORT")
    main(int(sys.argv[1]), *sys.argv[2:])
