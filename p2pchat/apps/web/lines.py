"""`ws /lines`: event lines out and command objects in, the same words as `p2pchat --json`; what the page speaks."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
