"""Socket.IO at `/socket.io`."""
