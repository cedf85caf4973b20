"""Ids to posts: against the sample's server, which has lost some, and against one that fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.core.collect.fake_x import TOKEN, FakeX
from twigma_core.collect.archives import read_archive
from twigma_core.collect.budget import Budget, Prices, Spend, spent_in_all
from twigma_core.collect.hydrate import STATUSES, hydrate, outcomes, plan, unclear_authors
from twigma_core.collect.ids import Asked, read_ids
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.replies import ACCOUNTS, folder_of, store
from twigma_core.collect.x_api import Stopped, XApiError, XClient
from twigma_core.lake import Lake
from twigma_core.sample.server import Running, ServerOptions, closed_accounts, serve_in_thread
from twigma_core.sample.world import World, load

FREE = Prices(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def world() -> World:
    return load()


@pytest.fixture(scope="module")
def fates(world: World) -> dict[str, str]:
    """What has become of each post of the sample world by now, by its id."""
    accounts = closed_accounts(world, 12)
    fate: dict[str, str] = {}
    for row in world.post_rows:
        gone = accounts.get(row["author_id"], "found")
        fate[row["tweet_id"]] = "deleted" if row["status"] == "deleted" else gone
    for post in [one for one, status in fate.items() if status == "found"][::50]:
        fate[post] = "withheld"
    return fate


@pytest.fixture
def running(world: World, fates: dict[str, str]) -> Iterator[Running]:
    authors = {row["tweet_id"]: row["author_id"] for row in world.post_rows}
    accounts = {authors[one]: fate for one, fate in fates.items() if fate in ("protected", "suspended")}
    withheld = {one: ("DE", "FR") for one, fate in fates.items() if fate == "withheld"}
    with serve_in_thread(world, ServerOptions(accounts=accounts, withheld=withheld)) as running:
        yield running


def client_of(url: str, source: str = "x") -> XClient:
    return XClient(TOKEN, url, pace_s=0, backoff_s=0.002, source=source)


def ask(client: XClient, lake: Lake, asked: Asked, **options: Any) -> Budget:
    budget = options.pop("budget", Budget())
    hydrate(client, lake, "ids", options.pop("ids", asked.ids), budget, **options)
    return budget


def test_each_id_ends_as_what_was_planted_and_the_numbers_add_up(
    tmp_path: Path, lake: Lake, world: World, fates: dict[str, str], running: Running
) -> None:
    rows = [(row["tweet_id"], row["author_id"]) for row in world.post_rows]
    strangers = [str(10**18 + n) for n in range(5)]
    file = tmp_path / "ids.csv"
    lines = [f"{one},{author}" for one, author in rows] + [f"{one}," for one in strangers]
    file.write_text("\n".join(["id,author_id", *lines, lines[0], "1.5e18,", "what,"]))
    asked = read_ids(file)
    ask(client_of(running.url), lake, asked)
    expected = fates | dict.fromkeys(strangers, "deleted")
    not_shown = {one for one, fate in expected.items() if fate in ("protected", "suspended")}

    first = outcomes(lake, "ids", "x", asked)
    assert dict(first.select("id", "status").iter_rows()) == {
        one: "not authorized" if one in not_shown else fate for one, fate in expected.items()
    } | {"1.5e18": "refused", "what": "refused"}
    assert len(not_shown) > 20 and first.height == len(rows) + 5 + 2 and asked.repeated == 1
    assert set(first["status"]) <= set(STATUSES)
    assert first.filter(pl.col("status") != "found")["reason"].null_count() == 0
    assert "protected and of suspended" in first.filter(status="not authorized")["reason"][0]
    assert first.filter(status="withheld")["reason"][0].startswith("in DE, FR")

    ask(client_of(running.url), lake, asked, ids=unclear_authors(first), kind=ACCOUNTS)
    second = outcomes(lake, "ids", "x", asked)
    found = dict(second.select("id", "status").iter_rows())
    assert {one: found[one] for one in expected} == expected
    assert Counter(found.values()) == Counter(expected.values()) + Counter(refused=2)
    assert running.requests["lookup"] == -(-(len(rows) + 5) // 100) and running.requests["users"] == 1


def test_the_posts_are_those_that_a_search_gives(
    lake: Lake, world: World, fates: dict[str, str], running: Running
) -> None:
    asked = Asked(list(fates))
    ask(client_of(running.url), lake, asked)
    parsed = parse_pages(read_archive(str(lake.path(folder_of("ids", "x")))))
    shown = {one for one, fate in fates.items() if fate in ("found", "withheld")}
    assert set(parsed.tweets["tweet_id"]) == shown
    row = next(one for one in world.post_rows if one["tweet_id"] in shown and one["like_count"])
    found = parsed.tweets.filter(tweet_id=row["tweet_id"]).row(0, named=True)
    assert (found["text"], found["like_count"]) == (row["text"], row["like_count"])
    assert found["followers"] == world.user_rows[row["author_id"]]["followers"]
    planted = {
        (row["tweet_id"], media)
        for row in world.post_rows
        for media in row["media_ids"]
        if row["tweet_id"] in shown and media in world.media_rows
    }
    assert set(parsed.media.select("tweet_id", "image_id").iter_rows()) == planted
    gone = parsed.problems.filter(pl.col("what").str.starts_with("X reports"))["count"].sum()
    assert gone == len(fates) - len(shown)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill_at", range(4))
def test_a_killed_run_asks_for_no_id_twice(lake: Lake, kill_at: int) -> None:
    from tests.core.collect.fake_x import serve

    with serve(FakeX(posts=330)) as fake:
        asked = Asked([str(post["id"]) for post in fake.posts])
        replies = iter(range(9))

        def kill(_: int) -> None:
            if next(replies) == kill_at:
                raise Killed

        with pytest.raises(Killed):
            ask(client_of(fake.url), lake, asked, on_reply=kill)
        before = outcomes(lake, "ids", "x", asked)["status"].to_list()
        assert before.count("found") == min(330, 100 * (kill_at + 1))
        assert before.count("pending") == 330 - before.count("found")
        asked.ids.append("20")  # a longer file goes on, too
        ask(client_of(fake.url), lake, asked)
        ask(client_of(fake.url), lake, asked)
        bought = [one for _, params in fake.requests for one in params["ids"].split(",")]
    assert Counter(bought) == Counter(asked.ids)
    assert outcomes(lake, "ids", "x", asked)["status"].value_counts(sort=True).rows()[0] == ("found", 330)


def test_the_budget_stops_it_before_it_could_be_crossed_and_counts_what_was_bought(
    lake: Lake, fake_x: FakeX
) -> None:
    asked = Asked([str(post["id"]) for post in fake_x.posts] + [str(n) for n in range(1, 154)])
    budget = Budget(Prices(0.005), cap=0.75)
    with pytest.raises(Stopped, match=r"stops it before the next 100 posts, which may cost \$0.50"):
        ask(client_of(fake_x.url), lake, asked, budget=Budget(Prices(0.005), cap=0.499))
    assert not fake_x.requests
    ask(client_of(fake_x.url), lake, asked, budget=budget)
    assert len(fake_x.requests) == 2 and budget.spend == Spend(posts=47), "what is gone is not billed"
    assert spent_in_all(lake) == Spend(posts=47)
    ask(client_of(fake_x.url, source="sample"), lake, asked)
    assert spent_in_all(lake) == Spend(posts=47), "the sample is kept apart and costs nothing"


def test_what_was_answered_before_a_lasting_fault_is_kept(lake: Lake, fake_x: FakeX, client: XClient) -> None:
    asked = Asked([str(post["id"]) for post in fake_x.posts] + [str(n) for n in range(1, 154)])
    with pytest.raises(Stopped, match="asks for payment"):
        ask(client, lake, asked, on_reply=lambda _: fake_x.fail(402))
    assert len(plan(lake, folder_of("ids", "x"), asked.ids).todo) == 100
    ask(client, lake, asked)
    assert len(fake_x.requests) == 3


def test_a_damaged_reply_is_told_and_its_ids_alone_are_asked_for_again(
    lake: Lake, fake_x: FakeX, client: XClient
) -> None:
    asked = Asked([str(post["id"]) for post in fake_x.posts] + [str(n) for n in range(1, 154)])
    ask(client, lake, asked)
    folder = folder_of("ids", "x")
    damaged = lake.list_files(folder)[0]
    lake.write_bytes(damaged, lake.read_bytes(damaged)[:-9])
    left = plan(lake, folder, asked.ids)
    assert left.damaged == [damaged] and left.todo == asked.ids[:100] and left.calls == 1
    ask(client, lake, asked)
    assert len(fake_x.requests) == 3 and not plan(lake, folder, asked.ids).todo
    assert len(lake.list_files(folder)) == 3, "the damaged one stays beside the new one"


def test_two_at_once_do_not_buy_the_same(lake: Lake, client: XClient) -> None:
    with (
        lake.hold("pages"),
        pytest.raises(RuntimeError, match="is written by another run"),
    ):
        ask(client, Lake(str(lake.root)), Asked(["20"]))


def test_a_reply_that_names_none_of_the_ids_is_no_answer(lake: Lake, fake_x: FakeX, client: XClient) -> None:
    fake_x.fail(200, body={"meta": {}})
    with pytest.raises(XApiError, match="says nothing of any of 1 ids"):
        ask(client, lake, Asked(["20"]))
    assert outcomes(lake, "ids", "x", Asked(["20"]))["status"].item() == "pending"


PROBLEM = "https://api.twitter.com/2/problems/"


def error(post_id: str, title: str, detail: str, kind: str, parameter: str = "ids") -> dict[str, Any]:
    return {
        "value": post_id,
        "resource_id": post_id,
        "parameter": parameter,
        "title": title,
        "detail": detail,
        "type": PROBLEM + kind,
    }


def test_every_answer_has_its_status(lake: Lake) -> None:
    body = {
        "data": [
            {"id": "1", "text": "t"},
            {"id": "3", "text": "t", "edit_history_tweet_ids": ["2", "3"]},
            {"id": "4", "text": "t", "withheld": {"copyright": True, "country_codes": ["XY"]}},
        ],
        "errors": [
            error("1", "Not Found Error", "Could not find", "resource-not-found", "referenced_tweets.id"),
            error("5", "Not Found Error", "Could not find tweet with ids: [5].", "resource-not-found"),
            error("6", "Authorization Error", "not authorized to see", "not-authorized-for-resource"),
            error("7", "Forbidden", "User has been suspended: [7].", "resource-not-found"),
            error("8", "Authorization Error", "The account is protected.", "not-authorized-for-resource"),
            error("9", "Unavailable", "This post is withheld in your country", "resource-unavailable"),
            error("10", "Disallowed Resource", "Not for you", "disallowed-resource"),
            "nothing",
            {"title": "no id"},
        ],
    }
    asked = [str(n) for n in range(1, 12)]
    store(lake, folder_of("ids", "x"), 0, asked, body)
    found = outcomes(lake, "ids", "x", Asked([*asked, "12"], refused={"x": "is no post id"}))
    assert dict(found.select("id", "status").iter_rows()) == {
        "1": "found",
        "2": "found",
        "3": "found",
        "4": "withheld",
        "5": "deleted",
        "6": "not authorized",
        "7": "suspended",
        "8": "protected",
        "9": "withheld",
        "10": "unavailable",
        "11": "unanswered",
        "12": "pending",
        "x": "refused",
    }
    reasons = dict(found.select("id", "reason").iter_rows())
    assert reasons["2"] == "edited; the post is now 3" and "copyright" in str(reasons["4"])


def test_real_errors_are_told_apart(shared_data: Path, lake: Lake) -> None:
    """Each error that X really sent, as if for an id of a lookup, beside what its words say."""
    seen = 0
    for file in sorted((shared_data / "tweets" / "twarc_csv_v2").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                reply = json.loads(line)
            except json.JSONDecodeError:
                continue
            for number, one in enumerate(reply.get("errors", []) if isinstance(reply, dict) else []):
                name = f"{file.stem}-{seen}-{number}"
                post_id = str(10**18 + seen)
                sent = one | {"parameter": "ids", "resource_id": post_id, "value": post_id}
                store(lake, folder_of(name, "x"), 0, [post_id], {"errors": [sent]})
                status = outcomes(lake, name, "x", Asked([post_id]))["status"].item()
                words = one["detail"]
                assert status == (
                    "suspended"
                    if words.startswith("User has been suspended")
                    else "not authorized"
                    if words.startswith("Sorry, you are not authorized")
                    else "deleted"
                ), one["title"]
                seen += 1
    assert seen == 27


def test_real_withheld_posts_are_told_apart(shared_data: Path, lake: Lake) -> None:
    replies = (shared_data / "tweets" / "twarc_csv_v2" / "withheld.jsonl").read_text().splitlines()
    bodies = [json.loads(line) for line in replies]
    posts = {one["id"]: "withheld" in one for body in bodies for one in body["data"]}
    for number, body in enumerate(bodies):
        store(lake, folder_of("ids", "x"), number, [one["id"] for one in body["data"]], body)
    found = outcomes(lake, "ids", "x", Asked(list(posts)))
    assert {one: status == "withheld" for one, status in found.select("id", "status").iter_rows()} == posts
    assert found["status"].is_in(["found", "withheld"]).all() and sum(posts.values()) > 10
