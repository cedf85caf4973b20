"""A month collected from a real HTTP server: exact pages, exact resuming, nothing bought twice."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
import zstandard

from tests.core.collect.fake_x import FakeX, snowflake
from twigma_core.collect.budget import Budget, Prices, spent
from twigma_core.collect.page import Page
from twigma_core.collect.pages import COUNTS, PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.queries import Search, build_queries, hashtags_of, plan
from twigma_core.collect.search import collect_month, count_month, search_month
from twigma_core.collect.telling import time_for
from twigma_core.collect.x_api import RECENT, Stopped, XApiError, XClient
from twigma_core.lake import Lake

MONTH = "2022-08"
QUERY = "(#aiart) has:images -is:retweet"


class Killed(BaseException):
    pass


def collect(client, tmp_path, now, query=QUERY, **options) -> PageStore:
    store = PageStore(Lake(tmp_path), MONTH)
    search_month(client, store, [Search(query)], page_size=10, now=now, **options)
    return store


def kill_at(index: int):
    def kill(page: Page) -> None:
        if page.index == index:
            raise Killed

    return kill


def test_a_month_is_paged_to_its_end_and_a_second_run_buys_nothing(fake_x, client, tmp_path, after):
    fake_x.empty_page_at = 20
    store = collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "e20", "t30", "t40"]
    table = store.table()
    assert table["posts"].to_list() == [10, 10, 0, 10, 10, 7]
    assert set(table["source"]) == {"x"} and table["next_token"].to_list()[-1] is None
    tweets, *_ = parse_pages(store.pages(), MONTH)
    assert tweets["tweet_id"].to_list() == [post["id"] for post in fake_x.posts]
    assert store.bought() == (6, 47)

    collect(client, tmp_path, after)
    assert len(fake_x.searches) == 6


def test_a_page_is_kept_byte_for_byte(fake_x, client, tmp_path, after):
    odd = b'{"data":[],  "meta":{"result_count":0, "x":1.10}, "meta2":"\\u00e9"}'
    fake_x.fail(200, body=odd)
    store = collect(client, tmp_path, after)
    stored = zstandard.ZstdDecompressor().decompress(store.lake.read_bytes(store.table()["path"][0]))
    assert stored.partition(b"\n")[2] == odd


@pytest.mark.parametrize("index", range(5))
def test_a_killed_run_goes_on_at_the_exact_page(fake_x, client, tmp_path, after, index):
    with pytest.raises(Killed):
        collect(client, tmp_path, after, on_page=kill_at(index))
    assert len(fake_x.searches) == index + 1
    store = collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "t30", "t40"]
    assert store.table()["posts"].sum() == 47


def test_a_month_that_still_runs_is_completed_later_not_bought_again(fake_x, client, tmp_path, after):
    midway = datetime(2022, 8, 2, 0, 0, 30, tzinfo=UTC)
    store = collect(client, tmp_path, midway)
    assert store.table()["posts"].sum() == 24 and not store.is_complete()
    store = collect(client, tmp_path, after)
    assert store.table()["posts"].sum() == 47 and store.is_complete() and store.gaps(QUERY) == []
    assert fake_x.requests[-1][1]["start_time"] == "2022-08-02T00:00:00Z"
    with pytest.raises(ValueError, match="2022-08 has not begun"):
        collect(client, tmp_path / "new", datetime(2022, 7, 31, tzinfo=UTC))


def cut(stored: bytes) -> bytes:
    return stored[:-20]


def alter(stored: bytes) -> bytes:
    content = zstandard.ZstdDecompressor().decompress(stored)
    return zstandard.ZstdCompressor().compress(content.replace(b"picture 25", b"picture 26"))


@pytest.mark.parametrize("damage", [cut, alter, lambda stored: b""])
def test_a_damaged_page_is_bought_again_alone(fake_x, client, tmp_path, after, damage):
    store = collect(client, tmp_path, after)
    path = store.table()["path"][2]
    damaged = damage(store.lake.read_bytes(path))
    store.lake.write_bytes(path, damaged)
    store = PageStore(Lake(tmp_path), MONTH)
    row = store.table().row(2, named=True)
    assert row["status"] == "corrupt" and row["reason"] and row["query"] == QUERY
    assert [page.status for page in store.pages()].count("corrupt") == 1
    _, _, problems = parse_pages(store.pages(), MONTH)
    assert problems.filter(problems["what"].str.starts_with("corrupt page"))["where"].to_list() == [path]

    store = collect(client, tmp_path, after)
    assert fake_x.searches[5:] == ["t20"]
    assert store.table()["status"].to_list() == ["ok"] * 5 and store.table()["posts"].sum() == 47
    assert store.lake.read_bytes(path.replace(".json.zst", ".damaged")) == damaged


def test_what_was_collected_before_a_lasting_fault_is_kept(fake_x, client, tmp_path, after):
    def then_no_credit(page: Page) -> None:
        if page.index == 1:
            fake_x.fail(402)

    with pytest.raises(Stopped, match="payment"):
        collect(client, tmp_path, after, on_page=then_no_credit)
    assert PageStore(Lake(tmp_path), MONTH).table()["posts"].sum() == 20
    collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "t20", "t30", "t40"]


def test_a_repeating_token_does_not_buy_for_ever(fake_x, client, tmp_path, after):
    fake_x.repeat_token = True
    with pytest.raises(XApiError, match="used before"):
        collect(client, tmp_path, after)
    assert len(fake_x.searches) == 2


def test_a_token_that_x_takes_no_longer_is_gone_round_by_time(fake_x, client, tmp_path, after):
    with pytest.raises(Killed):
        collect(client, tmp_path, after, on_page=kill_at(2))
    fake_x.dead_tokens = {"t30"}
    store = collect(client, tmp_path, after)
    assert fake_x.searches[3:] == ["t30", None, "t10"]
    assert fake_x.requests[4][1]["end_time"] == "2022-08-01T17:00:01Z", "from the oldest post's second on"
    parsed = parse_pages(store.pages(), MONTH)
    assert parsed.tweets["tweet_id"].to_list() == [post["id"] for post in fake_x.posts]
    assert parsed.problems.rows() == [(store.table()["path"][3], "post on an earlier page", 1)]
    assert store.is_complete() and store.gaps(QUERY) == []
    collect(client, tmp_path, after)
    assert len(fake_x.searches) == 6


def test_a_token_refused_as_soon_as_it_is_given_ends_it(fake_x, client, tmp_path, after):
    fake_x.dead_tokens = {"t10"}
    with pytest.raises(XApiError, match=r"not take the page token any more .*though it gave it only now"):
        collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10"]


# ---------------------------------------------------------------- recent search


@pytest.fixture
def recent(fake_x, token) -> XClient:
    return XClient(token, fake_x.url, tier=RECENT, timeout_s=5, pace_s=0, max_wait_s=5, backoff_s=0.002)


def test_recent_search_says_what_it_cannot_reach(fake_x, recent, tmp_path, after):
    lake, tags = Lake(tmp_path), ["aiart"]
    with pytest.raises(XApiError, match=r"2022-08: recent search reaches back to 2022-12-25 00:30 UTC only"):
        collect_month(recent, lake, MONTH, tags, Budget(), print, now=after)
    assert fake_x.requests == []
    late = datetime(2022, 8, 8, 12, tzinfo=UTC)
    found = collect_month(recent, lake, MONTH, tags, Budget(), print, now=late)
    assert fake_x.requests[-1][1]["start_time"] == "2022-08-01T12:30:00Z"
    assert found.pages["posts"].sum() == 34, "the thirteen posts of the first half day are out of reach"
    assert found.gaps == ["2022-08-01 00:00 to 2022-08-01 12:30 UTC"]
    later = collect_month(recent, lake, MONTH, tags, Budget(), print, now=late + timedelta(days=9))
    assert later.gaps == [*found.gaps, "2022-08-08 11:59 to 2022-08-10 12:30 UTC"]


def test_recent_search_goes_on_with_what_is_left_of_a_window(fake_x, recent, tmp_path):
    now = datetime(2022, 8, 3, tzinfo=UTC)
    with pytest.raises(Killed):
        collect(recent, tmp_path, now, on_page=kill_at(1))
    store = collect(recent, tmp_path, datetime(2022, 8, 8, 12, tzinfo=UTC))
    assert fake_x.searches == [None, "t10", None, "t10", None], "not with a token of a window out of reach"
    assert fake_x.requests[2][1]["start_time"] == "2022-08-01T12:30:00Z"
    assert store.table()["posts"].sum() == 20 + 15
    assert [str(gap[1])[:16] for gap in store.gaps(QUERY, until=now)] == ["2022-08-01 12:30"]


# ---------------------------------------------------------------- the list changes


def tagged(fake_x: FakeX, *names: str) -> None:
    for number, post in enumerate(fake_x.posts):
        post["entities"] = {"hashtags": [{"tag": names[number % len(names)]}]}


def test_an_accepted_hashtag_buys_its_own_posts_alone(fake_x, client, tmp_path, after):
    lake = Lake(tmp_path)
    collect_month(client, lake, MONTH, ["aiart", "dalle"], Budget(), print, now=after)
    bought = len(fake_x.searches)
    again = collect_month(client, lake, MONTH, ["dalle", "aiart"], Budget(), print, now=after)
    assert again.bought.pages == 0 and len(fake_x.searches) == bought and fake_x.counts == 1
    collect_month(client, lake, MONTH, ["aiart", "dalle", "sdxl"], Budget(), print, now=after)
    asked = {params["query"] for path, params in fake_x.requests[bought + 1 :]}
    assert asked == {"(#sdxl) -#aiart -#dalle has:images -is:retweet"}


def test_a_hashtag_that_leaves_the_list_ends_its_query(fake_x, client, tmp_path, after):
    store, both = PageStore(Lake(tmp_path), MONTH), "(#aiart OR #dalle) has:images -is:retweet"
    midway = datetime(2022, 8, 2, 0, 0, 30, tzinfo=UTC)
    search_month(client, store, [Search(both)], now=midway)
    searches = plan(store, ["aiart"])
    until = midway - timedelta(seconds=30)
    assert searches == [Search(both, until=until), Search(QUERY, begin=until)]
    search_month(client, store, searches, now=after)
    assert fake_x.requests[-1][1]["start_time"] == "2022-08-02T00:00:00Z"
    assert store.table()["posts"].sum() == 47
    assert plan(store, ["aiart"]) == searches, "and so it stays"


def test_a_hashtag_that_leaves_the_list_under_an_open_query_asks_for_a_decision(
    fake_x, client, tmp_path, after
):
    both = "(#aiart OR #dalle) has:images -is:retweet"
    with pytest.raises(Killed):
        collect(client, tmp_path, after, both, on_page=kill_at(1))
    store = PageStore(Lake(tmp_path), MONTH)
    with pytest.raises(
        ValueError, match=r"before its page 2, and #dalle has left .*pages/2022-08/\w{16} away"
    ):
        plan(store, ["aiart"])


def test_queries_are_one_until_they_outgrow_the_limit():
    assert build_queries(["dalle", "aiart", "dalle"]) == ["(#aiart OR #dalle) has:images -is:retweet"]
    tags = [f"hashtag{n:03d}" for n in range(200)]
    for limit in (1024, 512):
        queries = build_queries(tags, limit)
        assert len(queries) > 1 and max(map(len, queries)) <= limit
        assert [tag for query in queries for tag in hashtags_of(query)] == tags
    excluding = build_queries(["x"], 512, without=tags)[0]
    assert 480 < len(excluding) <= 512 and hashtags_of(excluding) == ["x"] and "-#hashtag000" in excluding
    for wrong in (["#dalle"], ["Dalle"], [], ["x" * 1024]):
        with pytest.raises(ValueError, match="hashtag"):
            build_queries(wrong)


# ---------------------------------------------------------------- counts, estimate, budget


def test_counts_in_either_spelling_add_up_and_are_bought_once(fake_x, client, tmp_path, after):
    counts = PageStore(Lake(tmp_path), MONTH, COUNTS)
    frame = count_month(client, counts, [Search(QUERY)], now=after)
    assert frame.to_dicts() == [
        {"query": QUERY, "day": date(2022, 8, 1), "counted": 24},
        {"query": QUERY, "day": date(2022, 8, 2), "counted": 23},
    ]
    assert fake_x.requests[0][1]["granularity"] == "day"
    again = count_month(client, PageStore(Lake(tmp_path), MONTH, COUNTS), [Search(QUERY)], now=after)
    assert again.equals(frame) and fake_x.counts == 1


def test_counts_of_a_month_that_runs_are_completed_later(fake_x, client, tmp_path, after):
    counts = PageStore(Lake(tmp_path), MONTH, COUNTS)
    midway = datetime(2022, 8, 1, 12, 0, 30, tzinfo=UTC)
    assert count_month(client, counts, [Search(QUERY)], now=midway)["counted"].to_list() == [12]
    assert count_month(client, counts, [Search(QUERY)], now=after)["counted"].to_list() == [24, 23]


def test_counts_without_a_number_are_not_kept(fake_x, client, tmp_path, after):
    fake_x.fail(200, body={"data": [{"start": "2022-08-01T00:00:00Z"}], "meta": {}})
    counts = PageStore(Lake(tmp_path), MONTH, COUNTS)
    with pytest.raises(XApiError, match="a day without start or count"):
        count_month(client, counts, [Search(QUERY)], now=after)
    assert count_month(client, counts, [Search(QUERY)], now=after)["counted"].sum() == 47


def small(fake_x, token) -> XClient:
    """A client of ten posts a page, so that a month has five."""
    tier = RECENT.__class__("all", 1024, 10)
    return XClient(token, fake_x.url, tier=tier, pace_s=0, backoff_s=0.002)


def test_a_collection_says_what_it_costs_before_it_spends(fake_x, token, tmp_path, after):
    said: list[str] = []

    def say(words: str) -> None:
        said.append(f"{len(fake_x.searches)} {words}")

    found = collect_month(
        small(fake_x, token), Lake(tmp_path), MONTH, ["aiart"], Budget(Prices(), 10.0), say, now=after
    )
    assert said[0].startswith(
        "0 2022-08: X counts 47 posts, 0 are here; about 47 to buy on 5 pages: $0.24"
    ), said[0]
    assert said[0].endswith("$9.99 of the budget is left")
    assert "page 0 with 10 posts is on disk; 10 of about 47 posts, $0.050 so far; about " in said[1]
    assert said[-1].startswith("5 2022-08: page 4 with 7 posts") and said[-1].endswith("about 0 s left")
    assert (found.bought.pages, found.bought.posts, found.bought.counts) == (5, 47, 1)
    assert found.stopped is None and found.resumed_at is None
    assert spent(Lake(tmp_path), MONTH).dollars(Prices()) == pytest.approx(47 * 0.005 + 0.010)


def test_the_budget_stops_it_cleanly_and_a_higher_one_goes_on(fake_x, token, tmp_path, after):
    client, lake, said = small(fake_x, token), Lake(tmp_path), list[str]()
    found = collect_month(client, lake, MONTH, ["aiart"], Budget(Prices(), 0.14), said.append, now=after)
    assert found.pages["posts"].to_list() == [10, 10]
    assert said[0].endswith("$0.13 of the budget is left, which pays for 2 of them")
    assert fake_x.searches == [None, "t10"], "a third page might have cost more than is left"
    assert (
        "raw_tweets/2022-08: the budget of $0.14 stops it before page 2, which may cost $0.050: $0.11 is"
        in str(found.stopped)
    )
    assert "on 20 posts and 1 requests for counts" in str(found.stopped)
    assert "raise TWIGMA_BUDGET" in str(found.stopped)

    def so_far() -> Budget:
        from twigma_core.collect.budget import spent_in_all

        return Budget(Prices(), 0.30, spent_in_all(lake))

    again = collect_month(client, lake, MONTH, ["aiart"], so_far(), said.append, now=after)
    assert again.stopped is None and again.resumed_at == 2
    assert fake_x.searches == [None, "t10", "t20", "t30", "t40"] and fake_x.counts == 1
    assert (again.bought.pages, again.bought.posts, again.bought.counts) == (3, 27, 0)


def test_a_budget_that_pays_for_no_page_is_an_error_and_costs_nothing_more(fake_x, token, tmp_path, after):
    with pytest.raises(Stopped, match=r"budget of \$0\.00 stops it before a request for counts"):
        collect_month(
            small(fake_x, token), Lake(tmp_path), MONTH, ["aiart"], Budget(cap=0.0), print, now=after
        )
    assert fake_x.requests == []


def test_xs_own_cap_keeps_what_is_there_and_a_later_run_goes_on(fake_x, token, tmp_path, after):
    client, lake = small(fake_x, token), Lake(tmp_path)

    def say(words: str) -> None:
        if "page 1 with" in words:
            fake_x.fail(429, {"x-rate-limit-reset": "9999999999"}, {"title": "UsageCapExceeded"})

    found = collect_month(client, lake, MONTH, ["aiart"], Budget(), say, now=after)
    assert found.pages["posts"].to_list() == [10, 10]
    assert "monthly cap" in str(found.stopped)
    assert collect_month(client, lake, MONTH, ["aiart"], Budget(), print, now=after).resumed_at == 2
    assert fake_x.searches == [None, "t10", "t20", "t20", "t30", "t40"]


def test_the_sample_and_archives_cost_nothing(fake_x, token, tmp_path, after):
    client = XClient(token, fake_x.url, source="sample", pace_s=0)
    collect_month(client, Lake(tmp_path), MONTH, ["aiart"], Budget(Prices(0, 0)), print, now=after)
    store = PageStore(Lake(tmp_path), MONTH)
    store.append("archive.jsonl", {"data": [{"id": "1", "text": "t"}]}, source="archive")
    assert set(store.table()["source"]) == {"sample", "archive"}
    assert spent(Lake(tmp_path), MONTH).dollars(Prices()) == 0


def test_one_process_collects_at_a_time(fake_x, client, tmp_path, after):
    code = (
        "import time; from twigma_core.lake import Lake\n"
        f"with Lake({str(tmp_path)!r}).hold('pages'): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match="pages is written by another run"):
            collect_month(client, Lake(tmp_path), MONTH, ["aiart"], Budget(), print, now=after)
        assert fake_x.requests == []
    finally:
        other.kill()
        other.wait()
    assert (
        collect_month(client, Lake(tmp_path), MONTH, ["aiart"], Budget(), print, now=after).bought.posts == 47
    )


def test_the_time_of_many_pages_is_that_of_xs_windows():
    assert time_for(100, 1.05) == pytest.approx(105)
    assert time_for(4400, 1.05) == pytest.approx(14 * 900 + 200 * 1.05)
    assert time_for(4400, 0) == 0


def test_ids_of_the_fake_tell_their_time():
    from twigma_core.collect.fields import snowflake_time

    when = datetime(2022, 8, 1, 17, tzinfo=UTC)
    assert snowflake_time(snowflake(when)) == when
