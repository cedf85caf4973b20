"""Upload of a release to the Hugging Face hub: one commit with all files, and a tag with the version.

`upload_folder` may spread a folder over several commits, so that a killed upload would leave half a release;
`create_commit` of the same library sends the files first and then makes all of them visible at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twigma_core.release.publish import Package, PublishError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

KEEP = ".gitattributes"
"""The hub's own file, which says what it stores where."""


@dataclass(frozen=True)
class Pushed:
    """What became of an upload.

    Attributes:
        url: page of the dataset.
        commit: the commit.
        removed: files of an earlier release that this one does not have.
    """

    url: str
    commit: str
    removed: tuple[str, ...]


def push(package: Package, repo: str, token: str, private: bool = False) -> Pushed:
    """Upload a release to a dataset of the hub, which is made if it is not there.

    Args:
        package: the release.
        repo: name of the dataset, "somebody/name".
        token: with the right to write.
        private: make a new dataset private; one that is there stays as it is.

    Raises:
        PublishError: the hub refuses or does not answer, or has this version already. What is visible there
            is what was before.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(token=token, library_name="twigma")
    try:
        return _push(api, package, repo, private)
    except OfflineModeIsEnabled:
        raise PublishError("the hub is switched off here; unset HF_HUB_OFFLINE") from None
    except HFValidationError as error:
        raise PublishError(
            f"{repo}: no name of a dataset: {error}; give one such as somebody/twigma"
        ) from None
    except HfHubHTTPError as error:
        hint = (
            "; set HF_TOKEN to one that may write there" if error.response.status_code in (401, 403) else ""
        )
        said = error.server_message or error.response.reason_phrase
        raise PublishError(f"the hub, {repo}: {error.response.status_code} {said}{hint}") from None
    except httpx2.HTTPError as error:
        raise PublishError(f"the hub, {repo}: no answer ({type(error).__name__}); try again") from None


def _push(api: HfApi, package: Package, repo: str, private: bool) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    page = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    tags = {ref.name for ref in api.list_repo_refs(repo, repo_type="dataset").tags}
    if package.version in tags:
        raise PublishError(f"{page} has version {package.version} already; nothing was changed")
    there = api.list_repo_files(repo, repo_type="dataset")
    removed = tuple(sorted(set(there) - {*package.files, KEEP}))
    commit = api.create_commit(
        repo,
        [
            *(CommitOperationAdd(path, package.folder / path) for path in package.files),
            *(CommitOperationDelete(path, is_folder=False) for path in removed),
        ],
        commit_message=f"Release {package.version}",
        repo_type="dataset",
    )
    api.create_tag(repo, tag=package.version, revision=commit.oid, repo_type="dataset")
    return Pushed(str(page), commit.oid, removed)
