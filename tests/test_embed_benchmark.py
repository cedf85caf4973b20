"""The embedding benchmark at a small size: what it compares must be equal; how fast it is, no test says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import embed


def test_ours_is_the_bare_model_on_what_open_clip_would_show_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = ["--count", "70", "--rounds", "1", "--slices", "2", "--no-peer", "--large", ""]
    (found,) = embed.main([*small, "--json", str(tmp_path / "found.json")]).values()
    assert (found["pixels"], found["wrong"]) == (0, 0)
    assert found["ours"] > 0
    assert found["bare"] > 0
    assert 0 < found["busy"] <= 1
    assert 0 < found["bound"] < 1
    assert "70 JPEGs of 256 px, sample" in capsys.readouterr().out
