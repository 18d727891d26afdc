"""One contract for all executors, and the same bytes of a run whichever it was."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runs import PART, front_bytes

from dse.errors import CannotRun, Fault, InputError
from dse.run.executors import RETRIES, Executor, Local, OnRay, choose
from dse.run.ray_address import reach
from dse.run.sweep import run_sweep


@pytest.fixture(
    scope="module",
    params=[
        "local",
        pytest.param(1, id="ray-1", marks=pytest.mark.ray),
        pytest.param(2, id="ray-2", marks=pytest.mark.ray),
    ],
)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], Executor]]:
    """Makes executors of one kind; a Ray is started once, of so many workers."""
    if request.param == "local":
        yield Local
        return
    import ray

    ship_this_module()
    OnRay(cpus=request.param)._start(ray)
    yield OnRay
    ray.shutdown()


def ship_this_module() -> None:
    """Workers cannot import a test: its classes travel with the work."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Square:
    """Work that can be sent to another process."""

    def __call__(self, index: int) -> int:
        return index * index


class Refuse:
    """Work that fails at one index, as the user's own error."""

    def __call__(self, index: int) -> int:
        if index == 2:
            raise InputError(Fault("is wrong; right would be 3", "field", "file.yaml", 1, 2))
        return index


class Broken:
    """Work that fails for no fault of the user."""

    def __call__(self, index: int) -> int:
        raise ZeroDivisionError("a mistake in the program")


def test_every_index_is_computed_and_handed_back_once(make) -> None:
    seen: list[tuple[int, int]] = []
    make().run(Square(), [5, 3, 8], lambda index, result: seen.append((index, result)))
    assert sorted(seen) == [(3, 9), (5, 25), (8, 64)]


def test_nothing_to_do_is_done(make) -> None:
    make().run(Square(), [], lambda index, result: pytest.fail("nothing was asked for"))


def test_an_error_arrives_as_it_was_raised(make) -> None:
    with pytest.raises(InputError) as caught:
        make().run(Refuse(), [1, 2, 3], lambda index, result: None)
    assert str(caught.value) == "file.yaml:1:2: field: is wrong; right would be 3"
    with pytest.raises(ZeroDivisionError, match="a mistake in the program"):
        make().run(Broken(), [1], lambda index, result: None)


def test_an_error_while_a_result_is_stored_ends_the_run(make) -> None:
    def full(index: int, result: int) -> None:
        raise CannotRun("the disk is full")

    # Often: tasks may be just finishing when the error comes, which once ended the whole process one time in fifty.
    for _ in range(150):
        with pytest.raises(CannotRun, match="the disk is full"):
            make().run(Square(), list(range(20)), full)


def test_fronts_are_the_same_bytes_whoever_computes(make, small, tmp_path) -> None:
    run = run_sweep(small, tmp_path / "own", executor=make(), part_points=PART)
    assert run.manifest["executor"] == make().name
    assert front_bytes(run.folder) == front_bytes(run_sweep(small, tmp_path / "one").folder)


class Dying:
    """Work whose worker dies the first so many times."""

    def __init__(self, folder: Path, deaths: int) -> None:
        self.folder = folder
        self.deaths = deaths

    def __call__(self, index: int) -> int:
        if len(list(self.folder.iterdir())) < self.deaths:
            (self.folder / os.urandom(8).hex()).touch()
            os._exit(1)
        return index


@pytest.mark.ray
def test_the_task_of_a_lost_worker_runs_again(tmp_path) -> None:
    ship_this_module()
    seen: list[int] = []
    OnRay(cpus=1).run(Dying(tmp_path, 1), [7], lambda index, result: seen.append(result))
    assert seen == [7]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.ray
def test_a_task_that_kills_every_worker_ends_the_run(tmp_path) -> None:
    ship_this_module()
    with pytest.raises(CannotRun, match=f"a Ray worker was lost {RETRIES + 1} times on one task"):
        OnRay(cpus=1).run(Dying(tmp_path, 99), [7], lambda index, result: None)


class Reply:
    """A stand-in for Ray that counts what is in flight."""

    def __init__(self, cpus: int) -> None:
        self.cpus, self.flying, self.most = cpus, 0, 0

    def remote(self, **options):
        reply = self

        def decorate(function):
            class Task:
                @staticmethod
                def remote(work, index):
                    reply.flying += 1
                    reply.most = max(reply.most, reply.flying)
                    return (work, index)

            return Task

        return decorate

    def put(self, work):
        return work

    def cluster_resources(self):
        return {"CPU": float(self.cpus)}

    def wait(self, tasks, num_returns):
        return [tasks[-1]], tasks[:-1]

    def get(self, task):
        self.flying -= 1
        work, index = task
        return work(index)


def test_no_more_than_twice_the_cores_are_in_flight() -> None:
    ray, seen = Reply(cpus=3), []
    OnRay()._submit(ray, Square(), list(range(50)), lambda index, result: seen.append(index))
    assert ray.most == 6
    assert sorted(seen) == list(range(50))


@pytest.mark.parametrize(
    ("points", "cores", "address", "name", "why"),
    [
        (1_000, 8, None, "local", "done in an instant"),
        (3_000_000, 8, None, "local", "about 1.0 s on one core"),
        (3_000_000_000, 8, None, "ray", "about 1,000 s on one core, 8 cores here"),
        (3_000_000_000, 1, None, "local", "about 1,000.0 s on one core"),
        (1_000, 1, "ray://head:10001", "ray", "a Ray address is given"),
    ],
)
def test_auto_takes_ray_where_it_pays_and_says_why(monkeypatch, points, cores, address, name, why) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    executor, reason = choose("auto", points, address)
    assert (executor.name, reason) == (name, why)


def test_an_executor_that_is_none() -> None:
    with pytest.raises(InputError, match="executor: expected one of auto, local, ray, got 'spark'"):
        choose("spark", 1)
    with pytest.raises(InputError, match="the local executor has no address"):
        choose("local", 1, "here")


@pytest.mark.parametrize(
    "address", ["", "here", "head:", ":6379", "head:99999", "head:x", "http://head:80", "ray://", "ray://head", "a:1/b"]
)
def test_an_address_that_can_be_none(address) -> None:
    with pytest.raises(InputError) as caught:
        choose("auto", 1, address)
    assert str(caught.value) == f"ray-address: expected HOST:PORT, ray://HOST:PORT or auto, got {address!r}"


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "10.0.0.1:6379", "[::1]:6379", "ray://head:10001"])
def test_an_address_that_may_be_one(address) -> None:
    assert choose("ray", 1, address)[0].address == address


class NeverAsked:
    """A Ray that would try for a minute."""

    def init(self, **options: object) -> None:
        pytest.fail("nobody is there, which a knock on the door tells")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_not_there_is_told_at_once(form) -> None:
    with socket.create_server(("", 0)) as server:  # a port that is free from now on
        port = server.getsockname()[1]
    address = form.format(port)
    with pytest.raises(CannotRun) as caught:
        OnRay(address)._start(NeverAsked())
    assert str(caught.value) == f"Ray cannot reach {address}: Connection refused; is the cluster running?"


def test_no_cluster_on_this_machine(monkeypatch) -> None:
    def nothing_found(addr: str) -> None:
        raise ConnectionError("Could not find any running Ray instance. Please specify another flag of ours.")

    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", nothing_found)
    with pytest.raises(CannotRun) as caught:
        OnRay("auto")._start(NeverAsked())
    said = "Ray cannot reach auto: Could not find any running Ray instance; is the cluster running?"
    assert str(caught.value) == said


@pytest.mark.parametrize("where", ["127.0.0.1:9", "nonsense"])
def test_auto_follows_a_wrong_ray_address_no_further(monkeypatch, where) -> None:
    monkeypatch.setenv("RAY_ADDRESS", where)
    with pytest.raises(CannotRun, match="Ray cannot reach auto: "):
        OnRay("auto")._start(NeverAsked())


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """The address of one that says this to whoever comes."""

    def serve() -> None:
        while True:
            try:
                guest, _ = listening.accept()
            except OSError:  # closed
                return
            with guest:
                guest.recv(100)
                guest.sendall(answer)

    with socket.create_server(("", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail"])
def test_something_that_answers_and_is_no_cluster(answer) -> None:
    with server(answer) as address, pytest.raises(CannotRun) as caught:
        OnRay(address)._start(NeverAsked())
    said = f"Ray cannot reach {address}: what answers there is no cluster of Ray; is the cluster running?"
    assert str(caught.value) == said


@pytest.mark.parametrize("error", [ConnectionError("of another version"), SystemExit(15)])
def test_a_cluster_that_ray_cannot_join(error) -> None:
    class Unwilling:
        def init(self, **options: object) -> None:
            raise error

    said = "what answers there is no cluster" if isinstance(error, SystemExit) else "of another version"
    with server(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as address, pytest.raises(CannotRun) as caught:
        OnRay(address)._start(Unwilling())
    assert str(caught.value).startswith(f"Ray cannot reach {address}: {said}")


@pytest.mark.parametrize("make", [pytest.param(2, id="ray-2", marks=pytest.mark.ray)], indirect=True)
def test_a_cluster_that_is_there_is_reached(make) -> None:
    """The one that the executors of this module use."""
    import ray

    reach(ray.get_runtime_context().gcs_address)
