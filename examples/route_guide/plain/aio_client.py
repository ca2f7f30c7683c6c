"""Asks the guide, on a stock aio channel: python -m examples.route_guide.plain.aio_client."""

import asyncio
import sys

import grpc

from examples.route_guide.route import MILL, NEARBY, NOTES, ROUTE
from examples.route_guide.route_guide_pb2_grpc import RouteGuideStub


async def main(address: str = "127.0.0.1:50062") -> None:
    """For each line of the input, ask the guide at *address* all there is to ask."""
    channel = grpc.aio.insecure_channel(address)
    stub = RouteGuideStub(channel)
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            print("place:", (await stub.GetFeature(MILL)).name)
            print("nearby:", *[feature.name async for feature in stub.ListFeatures(NEARBY)])
            summary = await stub.RecordRoute(iter(ROUTE))
            print("route:", summary.point_count, "points,", summary.feature_count, "places")
            said = [note.message async for note in stub.RouteChat(iter(NOTES))]
            print("said:", *said, flush=True)
        except grpc.aio.AioRpcError as error:
            print(error.code().name, flush=True)
    await channel.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
