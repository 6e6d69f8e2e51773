"""The HTTP server: its shapes together, errors in one form, the page at `/`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from darkroom import __version__
from darkroom.errors import InputError, printable
from darkroom.serve import a1111, a1111_controlnet, jobs_api, openai
from darkroom.serve.database import Unreachable
from darkroom.serve.disk import Unkept
from darkroom.serve.guard import Guard, GuardConfig, error_body
from darkroom.serve.service import Busy, Service
from darkroom.serve.store import UsedKey

__all__ = ["make_app"]

TIDY_EVERY = 600.0  # seconds

log = logging.getLogger("darkroom.serve")


def make_app(service: Service, guard: GuardConfig) -> Any:
    """The ASGI application over `service`; it starts it, and stops it at its own end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        tidying = asyncio.create_task(_tidy_now_and_then(service))
        try:
            yield
        finally:
            tidying.cancel()
            await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="Darkroom",
        version=__version__,
        description="Pictures from sentences: jobs that survive, in three shapes.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(jobs_api.router, tags=["jobs"])
    app.include_router(openai.router, tags=["OpenAI"])
    app.include_router(a1111.router, tags=["AUTOMATIC1111"])
    app.include_router(a1111.internal, tags=["AUTOMATIC1111"])
    app.include_router(a1111_controlnet.router, tags=["AUTOMATIC1111"])
    _add_probes(app, service)
    _add_errors(app)
    app.mount("/", StaticFiles(directory=str(files("darkroom.serve") / "page"), html=True, check_dir=False))
    return Guard(app, guard)


async def _tidy_now_and_then(service: Service) -> None:
    while True:
        await asyncio.sleep(TIDY_EVERY)
        try:
            await asyncio.to_thread(service.tidy)
        except Exception:  # a full or a missing disk: next time, perhaps
            log.exception("what is kept no longer could not be removed")


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["operation"])
    async def health() -> dict[str, Any]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/ready", tags=["operation"])
    async def ready() -> JSONResponse:
        """Whether jobs are taken."""
        status = 503 if service.draining else 200
        return JSONResponse({"status": "draining" if service.draining else "ok"}, status)

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Numbers for Prometheus."""
        worker, models = service.worker, service.residents.shown()
        loaded = sum(model["state"] == "loaded" for model in models)
        text = worker.metrics.text(service.queue.running(), len(service.queue.order()), loaded)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _add_errors(app: FastAPI) -> None:
    def answer(status: int, message: str, kind: str, code: str | None = None, **headers: str) -> JSONResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return JSONResponse(error_body(message, kind, code), status, headers=named)

    @app.exception_handler(InputError)
    async def wrong(request: Request, error: InputError) -> JSONResponse:
        if isinstance(error, UsedKey):
            return answer(409, str(error), "idempotency_error", "used_key")
        return answer(400, str(error), "invalid_request_error", "invalid_request")

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        after = str(max(1, round(error.after)))
        return answer(429, str(error), "rate_limit_error", "queue_full", retry_after=after)

    @app.exception_handler(Unreachable)
    async def unreachable(request: Request, error: Unreachable) -> JSONResponse:
        return answer(503, str(error), "server_error", "store_unreachable", retry_after="5")

    @app.exception_handler(Unkept)
    async def unkept(request: Request, error: Unkept) -> JSONResponse:
        return answer(507, str(error), "server_error", "storage_error")

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed", 409: "conflict"}.get(error.status_code)
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        return JSONResponse(error_body(str(error.detail), kind, code), error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def misshapen(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return answer(400, printable(f"{where or 'the body'}: {first['msg']}", 500), "invalid_request_error", "invalid")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return answer(500, f"an error of the server: {type(error).__name__}", "server_error", "internal_error")
