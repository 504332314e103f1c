"""Pages of a query that a thread fetches while the caller stores the ones before.

A call is made only after the caller has allowed it, which is when it is counted: while rows are stored, the thread needs nothing
of the database. It asks for the next page as soon as one has come; parsing the rows is left to the caller, unless that is busy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from types import TracebackType
from typing import Self

from asapp.salesforce.records import ContactPage


class PagesAhead:
    """The pages that follow one. To be used in a with block: at its end, the call that is under way is waited for."""

    def __init__(self, fetch: Callable[[str], ContactPage], path: str) -> None:
        self.outstanding = 0  # calls that were allowed and whose pages have not been taken
        self._number_allowed = self._number_made = 0
        self._allowed = Semaphore(0)
        self._is_over = False
        self._come: SimpleQueue[ContactPage | BaseException] = SimpleQueue()
        self._error: BaseException | None = None
        run = copy_context().run  # log lines of that thread carry the run's ids
        self._thread = Thread(target=run, args=(self._fetch_all, fetch, path), name="salesforce", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._is_over = True
        self._allowed.release()
        self._thread.join()

    @property
    def unspent(self) -> int:
        """Return how many calls were allowed and not made; to be asked when the block has ended."""
        return self._number_allowed - self._number_made

    def allow(self) -> None:
        """Allow one more call."""
        self.outstanding += 1
        self._number_allowed += 1
        self._allowed.release()

    def take(self) -> list[ContactPage]:
        """Wait for the next page; return it, and those after it that have come as well. Raises what fetching it raised."""
        if self._error is not None:
            raise self._error
        pages = [self._checked(self._come.get())]
        while self._error is None:
            try:
                one = self._come.get_nowait()
            except Empty:
                break
            if isinstance(one, BaseException):
                self._error = one  # raised once the pages before it are stored
            else:
                pages.append(one)
        self.outstanding -= len(pages)
        return pages

    @staticmethod
    def _checked(one: ContactPage | BaseException) -> ContactPage:
        if isinstance(one, BaseException):
            raise one
        return one

    def _fetch_all(self, fetch: Callable[[str], ContactPage], path: str) -> None:
        coming: str | None = path
        try:
            while coming is not None:
                self._allowed.acquire()
                if self._is_over:
                    return
                self._number_made += 1
                page = fetch(coming)
                coming = page.next_path
                if not self._come.empty():  # the caller is busy: no one waits for this page yet
                    page.parse()
                self._come.put(page)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            self._come.put(error)
