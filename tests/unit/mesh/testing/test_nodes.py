"""Nodes that are stopped for a while, and nodes that share a database."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import NotFound, Unavailable
from mesh.testing.cluster import Cluster, Faults, Point
from mesh.testing.loop import run_virtual
from services.user.service import service as user
from shop.user.v1 import user_pb2 as pb
from shop.user.v1 import user_pb2_grpc

ANN = pb.CreateUserRequest(user_id="ann", email="ann@example.com")
GET = pb.GetUserRequest(user_id="ann")


class KillSecondAtCommit(Faults):
    def kills(self, point: Point) -> bool:
        return point == Point("user-2", "commit")


async def started(folder: Path, processes: int, faults: Faults | None = None) -> tuple[Any, Any]:
    cluster = Cluster({"user": user}, folder, faults, processes={"user": processes})
    await cluster.start()
    return cluster, user_pb2_grpc.UserServiceStub(cluster.channel("user"))


def test_a_stopped_node_answers_once_it_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        cluster, users = await started(tmp_path, 1)
        cluster.stop("user")
        asked = asyncio.get_running_loop().create_task(users.CreateUser(ANN))
        await asyncio.sleep(2.0)
        assert not asked.done()
        cluster.go_on("user")
        assert (await asked).user_id == "ann"

    run_virtual(story())


def test_a_node_that_dies_while_it_is_stopped_never_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        cluster, users = await started(tmp_path, 1)
        cluster.stop("user")
        asked = asyncio.get_running_loop().create_task(users.CreateUser(ANN))
        await asyncio.sleep(1.0)
        cluster.kill("user")
        cluster.go_on("user")
        with pytest.raises(Unavailable):
            await asked
        await asyncio.sleep(2.0)
        with pytest.raises(NotFound):
            await users.GetUser(GET)

    run_virtual(story())


def test_what_one_process_writes_the_other_reads(tmp_path: Path) -> None:
    async def story() -> None:
        cluster, users = await started(tmp_path, 2)
        assert cluster.names == ["user", "user-2"]
        await users.CreateUser(ANN)
        for _ in range(4):  # by turns, from both
            assert (await users.GetUser(GET)).email == "ann@example.com"

    run_virtual(story())


def test_who_dies_in_its_turn_to_write_holds_up_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        _, users = await started(tmp_path, 2, KillSecondAtCommit())
        for number in range(6):
            user_id = f"user-{number}"
            request = pb.CreateUserRequest(user_id=user_id, email=f"{user_id}@example.com")
            assert (await users.CreateUser(request)).user_id == user_id

    run_virtual(story())
