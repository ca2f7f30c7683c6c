"""Run a file as if typed into `python -m asyncio`: `await` at the top level is allowed."""

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from types import FunctionType


async def main(source: str) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, "snippet", "exec", flags, dont_inherit=True)
    result = FunctionType(code, {"__name__": "__main__"})()
    if inspect.isawaitable(result):
        await result


asyncio.run(main(Path(sys.argv[1]).read_text()))
