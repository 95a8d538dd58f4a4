"""`/v1/session`: the page's way in: a browser keeps the token where no script can read it."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Request, Response

from dat_runtime import fields
from dat_runtime.cloud.access import COOKIE
from dat_runtime.cloud.body import require_type

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

MAX_BYTES = 4_096
DAYS = 30


def router(receiver: "Receiver") -> APIRouter:
    """The routes of this module."""
    routes = APIRouter()

    @routes.get("/v1/session")
    async def get(request: Request) -> dict[str, object]:
        """Who asks, and what they may do; 401 where a token is needed."""
        who = receiver.access.who(request)
        return {"name": who.name, "node": who.node, "reviews": who.reviews}

    @routes.post("/v1/session", status_code=204)
    async def post(request: Request) -> Response:
        require_type(request, "application/json")
        value = await receiver.bodies.read_json(request, MAX_BYTES)
        try:
            token = fields.checked(value, {"token": fields.NAME}, "")["token"]
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        if not receiver.access.is_open and receiver.access.of(token) is None:
            raise HTTPException(401, "this token is not known")
        answer = Response(status_code=204)
        if not receiver.access.is_open:
            answer.set_cookie(
                COOKIE,
                token,
                max_age=DAYS * 86_400,
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="strict",
            )
        return answer

    @routes.delete("/v1/session", status_code=204)
    async def delete() -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return routes
