"""A program with users and sessions of its own, who chat below /chat/. They are p2pchat's by the ids of their rows.

python -m uvicorn --app-dir examples existing_users:app --port 8083 --no-proxy-headers --timeout-graceful-shutdown 5
"""

import os
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Request, Response
from starlette.requests import HTTPConnection

from p2pchat import TCPPeer
from p2pchat.web import Caller, create_app


def rows(sql: str, *values: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(os.environ.get("USERS", "users.db"))) as database, database:
        return database.execute(sql, values).fetchall()


def who(request: HTTPConnection) -> Caller | None:
    """Say who makes a request: p2pchat asks at every door."""
    sql = "SELECT users.id, name FROM users JOIN sessions ON users.id = user WHERE sessions.id = ?"
    found = rows(sql, request.cookies.get("session", ""))
    return Caller(str(found[0][0]), name=found[0][1]) if found else None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    rows("CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT, password TEXT)")  # better its hash
    rows("CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, user INTEGER)")
    async with TCPPeer(int(os.environ.get("PORT", "8084")), name="company") as peer:
        chat = create_app(peer, authenticate=who)
        app.mount("/chat", chat)
        app.state.gateway = chat.state.gateway
        yield
        await chat.state.gateway.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/login")
def login(name: Annotated[str, Body()], password: Annotated[str, Body()], answer: Response) -> None:
    found = rows("SELECT id FROM users WHERE name = ? AND password = ?", name, password)
    if not found:
        raise HTTPException(403, "wrong name or password")
    session = secrets.token_urlsafe()
    rows("INSERT INTO sessions VALUES (?, ?)", session, found[0][0])
    answer.set_cookie("session", session, httponly=True, samesite="lax")


@app.post("/logout")
async def logout(request: Request) -> None:
    caller = who(request)
    rows("DELETE FROM sessions WHERE id = ?", request.cookies.get("session", ""))
    if caller is not None:
        app.state.gateway.sign_out(caller.key)  # after that: open connections end, and nobody lets them in again
