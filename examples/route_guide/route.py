"""What the clients ask the guide."""

from __future__ import annotations

from examples.route_guide.route_guide_pb2 import Point, Rectangle, RouteNote

MILL = Point(latitude=2, longitude=3)
NEARBY = Rectangle(lo=Point(), hi=Point(latitude=3, longitude=3))
ROUTE = [Point(latitude=1, longitude=1), Point(latitude=4), MILL]
NOTES = [RouteNote(location=MILL, message=text) for text in ("closed", "open", "busy")]
