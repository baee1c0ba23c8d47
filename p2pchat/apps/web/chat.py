"""`ws /chat`: the public chat and direct messages over a WebSocket."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
