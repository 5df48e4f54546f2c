"""Prints what comes to a Unix datagram socket, a line each: what systemd would be told by sd_notify(3)."""

import socket
import sys

receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print('listening', flush=True)
while True:
    # Descriptors that come along are closed, which is what systemd-notify waits for.
    words = receiver.recv(65536).decode()
    if words:
        print(words, flush=True)
