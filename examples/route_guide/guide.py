"""The guide, for stock sync servers and for stock aio ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from grpc import StatusCode

from examples.route_guide.route_guide_pb2 import (
    Feature,
    Point,
    Rectangle,
    RouteNote,
    RouteSummary,
)
from examples.route_guide.route_guide_pb2_grpc import RouteGuideServicer
from examples.troubles import fails

PLACES = {(1, 1): "lighthouse", (2, 3): "mill", (5, 8): "well"}


def feature_at(point: Point) -> Feature:
    """Return what is at *point*."""
    return Feature(name=PLACES.get((point.latitude, point.longitude), ""), location=point)


def features_in(area: Rectangle) -> Iterator[Feature]:
    """Yield what there is in *area*."""
    for (latitude, longitude), name in PLACES.items():
        inside = area.lo.latitude <= latitude <= area.hi.latitude
        if inside and area.lo.longitude <= longitude <= area.hi.longitude:
            yield Feature(name=name, location=Point(latitude=latitude, longitude=longitude))


class Guide(RouteGuideServicer):
    """Knows three places."""

    def GetFeature(self, request: Point, context: Any) -> Feature:  # noqa: N802
        """Return what is there."""
        if fails():
            context.abort(StatusCode.UNAVAILABLE, "not yet")
        return feature_at(request)

    def ListFeatures(self, request: Rectangle, context: Any) -> Iterator[Feature]:  # noqa: N802
        """Yield what is in the rectangle."""
        if fails():
            context.abort(StatusCode.UNAVAILABLE, "not yet")
        yield from features_in(request)

    def RecordRoute(self, request_iterator: Iterator[Point], context: Any) -> RouteSummary:  # noqa: N802
        """Count the points of a route, and the places at them."""
        points = list(request_iterator)
        places = [point for point in points if feature_at(point).name]
        return RouteSummary(point_count=len(points), feature_count=len(places))

    def RouteChat(  # noqa: N802
        self, request_iterator: Iterator[RouteNote], context: Any
    ) -> Iterator[RouteNote]:
        """Say of each place what was said of it before in this chat."""
        said: list[RouteNote] = []
        for note in request_iterator:
            yield from (old for old in said if old.location == note.location)
            said.append(note)


class AioGuide(RouteGuideServicer):
    """The same in coroutines."""

    async def GetFeature(self, request: Point, context: Any) -> Feature:  # noqa: N802
        """Return what is there."""
        if fails():
            await context.abort(StatusCode.UNAVAILABLE, "not yet")
        return feature_at(request)

    async def ListFeatures(  # noqa: N802
        self, request: Rectangle, context: Any
    ) -> AsyncIterator[Feature]:
        """Yield what is in the rectangle."""
        if fails():
            await context.abort(StatusCode.UNAVAILABLE, "not yet")
        for feature in features_in(request):
            yield feature

    async def RecordRoute(  # noqa: N802
        self, request_iterator: AsyncIterator[Point], context: Any
    ) -> RouteSummary:
        """Count the points of a route, and the places at them."""
        points = [point async for point in request_iterator]
        places = [point for point in points if feature_at(point).name]
        return RouteSummary(point_count=len(points), feature_count=len(places))

    async def RouteChat(  # noqa: N802
        self, request_iterator: AsyncIterator[RouteNote], context: Any
    ) -> AsyncIterator[RouteNote]:
        """Say of each place what was said of it before in this chat."""
        said: list[RouteNote] = []
        async for note in request_iterator:
            for old in said:
                if old.location == note.location:
                    yield old
            said.append(note)
