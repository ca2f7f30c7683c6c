"""A disk that forgets: what SQLite did to it, in order, and what a power cut leaves of that.

`Disk` is SQLite's default VFS, on real files, and keeps a log of every write, truncation, sync,
new and deleted file. From a prefix of that log, `Disk.cut` makes the files as they may be found
after the power failed there: what was synced, and of the rest any part at all. The method is that
of *All File Systems Are Not Created Equal* (Pillai et al., OSDI 2014).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import apsw

#: What a disk writes whole or, when the power fails, in part.
SECTOR_BYTES: Final = 512
#: With these, opening makes a file whose folder its first sync syncs too (`unixSync`, DIRSYNC).
_LOGS: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were written."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was cut to a size."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A file was synced; or was not, and the kernel forgets that it was to be written."""

    file: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A name stands for a file from now on; for none if `file` is None."""

    name: str
    file: int | None


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """The names are durable."""


Operation: TypeAlias = Write | Truncate | Sync | Link | SyncFolder


class Disk(apsw.VFS):
    """The files below *folder*. While it is `in_use`, every new connection goes through it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[Operation] = []
        #: Called before each sync of the file with this name; what it raises is the sync's error.
        self.before_sync: Callable[[str], None] = lambda name: None
        #: The same before each write.
        self.before_write: Callable[[str], None] = lambda name: None
        self._files: dict[str, int] = {}
        self._count = 0
        for path in sorted(folder.rglob("*.db*")):  # what is there is durable
            if not path.name.endswith(("-shm", ".lock")):
                name = path.relative_to(folder).as_posix()
                file = self.link(name)
                self.log += [Write(file, 0, path.read_bytes()), Sync(file), SyncFolder()]
        self.began = len(self.log)
        super().__init__("forgetful", "unix", makedefault=True)

    @classmethod
    @contextmanager
    def in_use(cls, folder: Path) -> Iterator[Disk]:
        """Log what is done below *folder*; then no connection may be open."""
        disk = cls(folder)
        try:
            yield disk
        finally:
            disk.unregister()

    def link(self, name: str) -> int:
        """Return the number of the file called *name*, a new one if there is none."""
        if name not in self._files:
            self._count += 1
            self._files[name] = self._count
            self.log.append(Link(name, self._count))
        return self._files[name]

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:  # a temporary file
            return apsw.VFSFile("unix", name, flags)
        return _File(self, Path(path).relative_to(self.folder).as_posix(), name, flags)

    def xDelete(self, path: str, sync: bool) -> None:  # noqa: N802
        super().xDelete(path, sync)
        name = Path(path).relative_to(self.folder).as_posix()
        if self._files.pop(name, None):
            self.log.append(Link(name, None))
        if sync:
            self.log.append(SyncFolder())

    def cut(self, at: int, folder: Path, random: Random) -> None:
        """Write to *folder* what may be left if the power fails after `log[:at]`."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in _left(self.log[:at], random).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if random.random() < 0.5:  # shared memory: its file may hold anything
                Path(f"{path}-shm").write_bytes(random.randbytes(32_768))


class _File(apsw.VFSFile):
    """An open file, whose every change is logged."""

    def __init__(self, disk: Disk, name: str, given: Any, flags: list[int]) -> None:
        super().__init__("unix", given, flags)
        self._disk = disk
        self._name = name
        self._file = disk.link(name)
        self._syncs_folder = bool(flags[0] & _LOGS)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.before_write(self._name)
        super().xWrite(data, offset)
        self._disk.log.append(Write(self._file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self._disk.log.append(Truncate(self._file, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self._disk.before_sync(self._name)
        except Exception:
            self._disk.log.append(Sync(self._file, failed=True))
            raise
        self._disk.log.append(Sync(self._file))  # that is what counts: the real one is left out
        if self._syncs_folder:
            self._syncs_folder = False
            self._disk.log.append(SyncFolder())


@dataclass
class _Inode:
    """What of a file is durable, and what was done to it since."""

    content: bytearray
    pending: list[Write | Truncate]

    def settle(self, luck: _Luck | None = None) -> None:
        """Make what is pending durable; only what has *luck*, if that matters."""
        for operation in self.pending:
            if isinstance(operation, Truncate):
                if luck is None or luck.survives():
                    del self.content[operation.size :]
            elif luck is None:
                self._write(operation.offset, operation.data)
            else:
                for offset, data in luck.parts(operation):
                    self._write(offset, data)
        self.pending.clear()

    def _write(self, offset: int, data: bytes) -> None:
        self.content.extend(bytes(max(0, offset - len(self.content))))
        self.content[offset : offset + len(data)] = data


class _Luck:
    """What survives of that which was not synced. How much is another in each cut."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._chance = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        self._torn = random.choice((0.0, 0.05))

    def survives(self) -> bool:
        return self._random.random() < self._chance

    def parts(self, write: Write) -> Iterator[tuple[int, bytes]]:
        """The sectors of *write* that survive, each as (offset, bytes); a torn one in part."""
        begin = write.offset
        end = begin + len(write.data)
        while begin < end:
            upto = min(end, begin - begin % SECTOR_BYTES + SECTOR_BYTES)
            if self.survives():
                whole = write.data[begin - write.offset : upto - write.offset]
                torn = self._random.random() < self._torn
                yield begin, whole[: self._random.randrange(len(whole))] if torn else whole
            begin = upto


def _left(log: list[Operation], random: Random) -> dict[str, bytes]:
    """Return the files that a power cut after *log* leaves."""
    luck = _Luck(random)
    inodes: dict[int, _Inode] = {}
    names: dict[str, int | None] = {}
    renamed: list[Link] = []
    for operation in log:
        if isinstance(operation, Link):
            renamed.append(operation)
            if operation.file is not None:
                inodes[operation.file] = _Inode(bytearray(), [])
        elif isinstance(operation, SyncFolder):
            names.update((link.name, link.file) for link in renamed)
            renamed.clear()
        elif isinstance(operation, Sync):
            inodes[operation.file].settle(luck if operation.failed else None)
        else:
            inodes[operation.file].pending.append(operation)
    for inode in inodes.values():
        inode.settle(luck)
    names.update((link.name, link.file) for link in renamed if luck.survives())
    return {name: bytes(inodes[file].content) for name, file in names.items() if file is not None}
