"""What a program holds in its hand: TCPPeer, and what it is composed of."""
