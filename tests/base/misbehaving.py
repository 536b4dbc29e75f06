"""A library that does whatever a test asks for, in a process of its own."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ternac.bounded import serve


def begin(first: Any) -> Any:
    if first == "fail":
        raise ValueError("no such file")

    def answer(request: list[Any]) -> Any:
        what, number = request
        if what == "sleep":
            time.sleep(number)
        elif what == "allocate":
            return len(bytearray(number))
        elif what == "die":
            os._exit(int(number))
        elif what == "raise":
            raise BaseException("a panic")
        elif what == "print":
            sys.stdout.write("noise" * 1000)
            sys.stdout.flush()
            os.write(1, b"more noise")
        return [first, number]

    return answer


if __name__ == "__main__":
    serve(begin)
