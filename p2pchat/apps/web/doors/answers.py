"""Errors as HTTP answers: one shape for all of them, FastAPI's own included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from p2pchat import P2PChatError
from p2pchat.web.errors import Problem, WebError
from p2pchat.web.gateway import gateway_of

_WORDS = {404: "not_found", 405: "method", 400: "malformed", 403: "forbidden", 413: "too_large", 401: "unauthorized"}


def answer(problem: Problem) -> JSONResponse:
    """Return a problem as an HTTP answer."""
    return JSONResponse(problem.to_json(), problem.status, dict(problem.headers))


def install(app: FastAPI) -> None:
    """Have every error of an application told in this shape."""

    def told(request: Request, problem: Problem) -> JSONResponse:
        gateway_of(request).metrics.refuse(problem.code)
        return answer(problem)

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return answer(gateway_of(request).metrics.problem(error))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _WORDS.get(error.status_code, "failed")
        return told(request, Problem(error.status_code, code, str(error.detail), error.headers or {}))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return told(request, Problem(422, "malformed", "; ".join(_sentence(each) for each in error.errors()[:5])))

    for kind in (WebError, P2PChatError, ValueError):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def _sentence(error: Mapping[str, Any]) -> str:
    """Which field, and what is wrong with it; never what was sent there, which may be a text or a token."""
    where = ".".join(str(part) for part in error.get("loc", ()) if part not in ("body", "query"))
    return f"{where}: {error.get('msg', '')}" if where else str(error.get("msg", ""))
