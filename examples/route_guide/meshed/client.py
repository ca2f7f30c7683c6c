"""Asks the guide, on a stock sync channel: python -m examples.route_guide.plain.client."""

import sys

import grpc

import mesh
from examples.route_guide.route import MILL, NEARBY, NOTES, ROUTE
from examples.route_guide.route_guide_pb2_grpc import RouteGuideStub


def main(address: str = "127.0.0.1:50062") -> None:
    """For each line of the input, ask the guide at *address* all there is to ask."""
    channel = grpc.insecure_channel(address)
    channel = grpc.intercept_channel(channel, *mesh.sync.interceptors("route_guide"))
    stub = RouteGuideStub(channel)
    for _ in sys.stdin:
        try:
            print("place:", stub.GetFeature(MILL).name)
            print("nearby:", *(feature.name for feature in stub.ListFeatures(NEARBY)))
            summary = stub.RecordRoute(iter(ROUTE))
            print("route:", summary.point_count, "points,", summary.feature_count, "places")
            print("said:", *(note.message for note in stub.RouteChat(iter(NOTES))), flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)
    channel.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
