"""Versions pushed to and pulled from a repository, with the Hub's genuine client over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, errors
from registered_models import Pebble, pebble, register, value_of

import zoo
from loopback_hub import TOKEN, Fault, LoopbackHub
from loopback_hub_uploads import READER
from zoo.checkpoints.store import Store
from zoo.versions import hub_repositories
from zoo.versions.model_card import model_card

REPO = "hf://lab/pets"


@pytest.fixture
def there(tmp_path: Path) -> zoo.ModelRegistry:
    """The registry of another machine."""
    return zoo.ModelRegistry(tmp_path / "another machine")


def files(hub: LoopbackHub, repo: str = "lab/pets", branch: str = "main") -> dict[str, bytes]:
    kept = hub.repos[repo]
    return {name: file.data for name, file in kept.commits[kept.branches[branch]].items()}


def told(registry: zoo.ModelRegistry) -> list[object]:
    return [replace(record, aliases=(), imported=None) for record in registry.list()]


def test_what_is_pushed_is_pulled_as_it_was(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry
) -> None:
    registry.register(name="m", version="1.0.0", model=pebble(1.0), tags=["kept"], metrics={"top1": 0.5}, data="ours")
    registry.register(name="m", version="1.1.0", model=pebble(2.0), parent="m@1.0.0")
    registry.promote("m", "1.0.0", "production")
    went = registry.push("m", REPO, every=True, private=True)
    assert went.added == ("local/m@1.0.0", "local/m@1.1.0")
    head = hub.repos["lab/pets"].branches["main"]
    assert went.place == f"{REPO}@{head}"
    assert hub.repos["lab/pets"].private
    assert sorted(files(hub)) == [
        ".gitattributes", "README.md",
        *(f"m/{v}/{name}" for v in ("1.0.0", "1.1.0") for name in ("config.json", "model.safetensors", "record.json")),
        "zoo-registry.json",
    ]  # fmt: skip
    came = there.pull(REPO)
    assert (came.place, came.added) == (went.place, went.added)
    assert told(there) == told(registry)
    record = there.show("m")
    assert record.imported is not None
    assert record.imported.source == f"{REPO}@{head}"  # the commit is pinned
    assert value_of(there.load("m")) == 2.0
    assert [parent.version for parent in there.lineage("m")] == ["1.0.0"]
    assert [(meaning.alias, meaning.version) for meaning in came.aliases] == [("production", "1.0.0")]
    with pytest.raises(zoo.NotFoundError):
        there.show("m", "production")
    assert there.pull(REPO, "m@production", aliases=True).moved == ("m@production",)
    assert there.show("m", "production").version == "1.0.0"


def test_one_version_is_fetched_without_the_others(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry
) -> None:
    register(registry, "1.0.0", "1.1.0", "2.0.0")
    registry.push("m", REPO, every=True)
    hub.seen.clear()
    assert there.pull(REPO, "m@^1").added == ("local/m@1.1.0",)
    assert not [seen.path for seen in hub.seen if "/2.0.0/" in seen.path or "/1.0.0/" in seen.path]
    assert len([seen for seen in hub.of("cdn", "GET") if seen.bytes]) == 1
    with pytest.raises(zoo.NotFoundError, match=r"hf://lab/pets@.* has no version"):
        there.pull(REPO, "m@^3")


def test_a_later_push_adds_and_an_earlier_commit_stays(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry
) -> None:
    register(registry, "1.0.0", "1.1.0")
    first = registry.push("m@1.0.0", REPO)
    again = registry.push("m@1.0.0", REPO)
    assert (again.place, again.added, again.unchanged) == (first.place, (), ("local/m@1.0.0",))  # no commit
    second = registry.push("m@1.1.0", REPO)
    assert second.place != first.place
    assert there.pull(first.place).added == ("local/m@1.0.0",)
    assert there.pull(REPO).added == ("local/m@1.1.0",)


def test_nothing_in_a_repository_is_overwritten(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry
) -> None:
    register(registry, "1.0.0")
    registry.push("m", REPO)
    before = files(hub)
    there.register(name="m", version="1.0.0+mine", model=pebble(5.0))
    there.register(name="m", version="1.1.0", model=pebble(6.0))
    with pytest.raises(zoo.ZooError, match=r"has m 1\.0\.0 already, and nothing registered is overwritten") as caught:
        there.push("m", REPO, every=True)
    assert "other weights" in str(caught.value)
    assert files(hub) == before
    hub.add("lab/pets", "m/1.1.0/model.safetensors", b"somebody's")
    with pytest.raises(zoo.ZooError, match="no push put there"):
        there.push("m@1.1.0", REPO)
    assert there.push("m@1.1.0", "hf://lab/other").added == ("local/m@1.1.0",)


def test_the_same_content_registered_elsewhere_is_the_same(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    monkeypatch.setattr("zoo.versions.filing.user", lambda: "somebody else")
    register(there, "1.0.0")
    assert registry.show("m").author != there.show("m").author
    first = registry.push("m", REPO)
    assert there.push("m", REPO).place == first.place


def test_a_repository_s_aliases_move_only_when_asked(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry
) -> None:
    register(registry, "1.0.0", "1.1.0")
    registry.promote("m", "1.0.0", "production")
    assert registry.push("m@1.0.0", REPO).moved == ("m@production",)
    registry.promote("m", "1.1.0", "production")
    assert registry.push("m@1.1.0", REPO).moved == ()
    assert there.pull(REPO, "m@production").added == ("local/m@1.0.0",)
    assert registry.push("m@1.1.0", REPO, aliases=True).moved == ("m@production",)
    assert registry.push("m@1.1.0", REPO, aliases=True).moved == ()  # it means that already
    assert there.pull(REPO, "m@production").added == ("local/m@1.1.0",)


def test_a_branch_is_pushed_to_and_pulled_from(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry
) -> None:
    register(registry, "1.0.0")
    hub.add("lab/pets", "notes.txt", b"", lfs=False)
    hub.add("lab/pets", "notes.txt", b"", lfs=False, branch="dev")
    registry.push("m", f"{REPO}@dev")
    with pytest.raises(zoo.SourceError, match=r"zoo-registry\.json"):
        there.pull(REPO)
    assert there.pull(f"{REPO}@dev").added == ("local/m@1.0.0",)
    with pytest.raises(zoo.SourceError, match="no branch 'nowhere'"):
        registry.push("m", f"{REPO}@nowhere")


def test_a_pushed_version_opens_by_its_folder(hub: LoopbackHub, registry: zoo.ModelRegistry) -> None:
    registry.register(name="m", version="1.0.0", model=pebble(7.0, num_classes=5))
    pushed = registry.push("m", REPO)
    for root in (REPO, pushed.place):
        opened = Pebble.from_pretrained(f"{root}/m/1.0.0", allow_licenses="unknown")
        assert (value_of(opened), opened.num_classes) == (7.0, 5)


def test_the_first_page_is_written_once_and_says_the_licence(hub: LoopbackHub, registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0", "1.1.0")
    registry.push("m@1.0.0", REPO)
    page = files(hub)["README.md"].decode()
    assert "zoo registry pull hf://lab/pets m@latest" in page
    assert "license" not in page.split("---")[1]  # nobody stated one
    hub.add("lab/pets", "README.md", b"mine", lfs=False)
    registry.push("m@1.1.0", REPO)
    assert files(hub)["README.md"] == b"mine"
    values = registry.show("m").to_dict()
    for license, line in (
        ("Apache-2.0", "license: apache-2.0"),
        ("Strange-1", 'license: other\nlicense_name: "Strange-1"'),
    ):
        values["saved"] = {**values["saved"], "provenance": {"license": license}}
        assert line in model_card([values], "lab/pets").decode()
    values["metrics"] = {"<script>|": 1.0}
    assert "<script>" not in model_card([values], "lab/pets").decode()


# Not allowed, not there, not reachable


def test_who_may_not_write_is_told_how_to(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(zoo.SourceError, match="does not let you in") as caught:
        registry.push("m", REPO)
    assert "HF_TOKEN" in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(zoo.SourceError, match="does not let you in"):
        registry.push("m", REPO)
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(zoo.SourceError, match="may not write there"):
        registry.push("m", REPO)
    assert "lab/pets" not in hub.repos
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    registry.push("m", REPO, private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(zoo.SourceError, match="none that you may see"):
        there.pull(REPO)
    monkeypatch.setenv("HF_TOKEN", READER)
    assert there.pull(REPO).added == ("local/m@1.0.0",)


def test_no_repository_no_name_and_no_network_are_told_apart(
    hub: LoopbackHub, registry: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    for wrong in ("lab/pets", "hf://lab", "hf://lab/pets/m/1.0.0", "hf://lab/pets@", "hf://lab/../pets", 7):
        for call in (lambda: registry.push("m", wrong), lambda: registry.pull(wrong)):  # type: ignore[arg-type]  # noqa: B023  # called at once
            with pytest.raises(zoo.SourceError, match="not a repository on the Hub"):
                call()
    with pytest.raises(zoo.SourceError):
        registry.pull("hf://lab/nowhere")
    with pytest.raises(zoo.NotFoundError):
        registry.push("nobody", REPO)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    hub.seen.clear()
    for call in (lambda: registry.push("m", REPO), lambda: registry.pull(REPO)):
        with pytest.raises(zoo.OfflineError):
            call()
    assert hub.seen == []


def test_damaged_weights_are_not_pushed(hub: LoopbackHub, registry: zoo.ModelRegistry, zoo_home: Path) -> None:
    register(registry, "1.0.0")
    (blob,) = zoo_home.glob("blobs/sha256/*/*")
    body = bytearray(blob.read_bytes())
    body[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(body)
    with pytest.raises(zoo.DigestError, match=r"local/m@1\.0\.0 are damaged"):
        registry.push("m", REPO)
    assert "m/1.0.0/record.json" not in files(hub)


# Faults


@pytest.mark.parametrize(
    ("route", "fault"),
    [
        ("upload", Fault(cut_after=100)), ("upload", Fault(status=500)), ("batch", Fault(status=503)),
        ("commit", Fault(status=412)), ("commit", Fault(status=409)),
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry, route: str, fault: Fault
) -> None:
    register(registry, "1.0.0")
    hub.upload_faults[route] = [fault]
    registry.push("m", REPO)
    assert hub.upload_faults[route] == []
    there.pull(REPO)
    assert value_of(there.load("m")) == 0.0


@pytest.mark.parametrize(
    ("route", "fault"),
    [
        ("create", Fault(status=500)), ("preupload", Fault(status=400)), ("batch", Fault(status=403)),
        ("upload", Fault(status=400)), ("verify", Fault(status=422)), ("commit", Fault(status=500)),
        ("commit", Fault(cut_after=10)), ("paths", Fault(status=404)),
    ],
)  # fmt: skip
def test_what_does_not_pass_leaves_nothing_and_can_be_done_again(
    hub: LoopbackHub, registry: zoo.ModelRegistry, route: str, fault: Fault
) -> None:
    register(registry, "1.0.0")
    hub.upload_faults[route] = [fault]
    with pytest.raises(zoo.SourceError, match="nothing was pushed to hf://lab/pets") as caught:
        registry.push("m", REPO)
    assert caught.value.fix
    assert not [name for name in (files(hub) if "lab/pets" in hub.repos else ()) if name.startswith(("m/", "zoo"))]
    assert registry.push("m", REPO).added == ("local/m@1.0.0",)


def lose_the_answer(monkeypatch: pytest.MonkeyPatch, *, after: Callable[[], object] = lambda: None) -> None:
    """The next commit is made, and its answer does not arrive."""
    real = HfApi.create_commit
    lost: list[int] = []

    def create_commit(*arguments: Any, **more: Any) -> Any:
        done = real(*arguments, **more)
        if not lost:
            lost.append(1)
            after()
            raise errors.HTTPError("Read timed out.")  # type: ignore[attr-defined]  # re-exported without saying so
        return done

    monkeypatch.setattr(HfApi, "create_commit", create_commit)


def test_a_commit_whose_answer_is_lost_is_found(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    lose_the_answer(monkeypatch)
    pushed = registry.push("m", REPO)
    assert pushed.added == ("local/m@1.0.0",)
    assert pushed.place == f"{REPO}@{hub.repos['lab/pets'].branches['main']}"
    assert there.pull(pushed.place).added == ("local/m@1.0.0",)


def test_a_commit_whose_answer_is_lost_is_found_under_somebody_elses(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    register(there, "2.0.0")
    lose_the_answer(monkeypatch, after=lambda: there.push("m", REPO))
    assert registry.push("m", REPO).added == ("local/m@1.0.0",)
    assert {"m/1.0.0/record.json", "m/2.0.0/record.json"} <= files(hub).keys()


def test_where_nobody_says_whether_a_commit_is_there_nothing_else_is_claimed(
    hub: LoopbackHub, registry: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")

    def unplugged(*arguments: Any, **more: Any) -> Any:
        raise OSError("the cable is out")

    with monkeypatch.context() as patched:
        lose_the_answer(patched, after=lambda: patched.setattr(HfApi, "repo_info", unplugged))
        with pytest.raises(zoo.SourceError, match="not known whether the push to hf://lab/pets@main arrived") as caught:
            registry.push("m", REPO)
    assert "the same command again" in str(caught.value)
    assert registry.push("m", REPO).unchanged == ("local/m@1.0.0",)


def test_an_upload_that_arrives_damaged_is_not_committed(hub: LoopbackHub, registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0")
    hub.damaged_uploads = 1
    with pytest.raises(zoo.SourceError, match="nothing was pushed"):
        registry.push("m", REPO)
    assert "m/1.0.0/model.safetensors" not in files(hub)


def test_what_the_hub_sends_wrong_is_not_registered(
    hub: LoopbackHub, registry: zoo.ModelRegistry, tmp_path: Path
) -> None:
    register(registry, "1.0.0")
    registry.push("m", REPO)
    for name in ("m/1.0.0/model.safetensors", "m/1.0.0/record.json", "zoo-registry.json"):
        there = zoo.ModelRegistry(tmp_path / name.replace("/", "_"))
        kept = hub.repos["lab/pets"]
        file = kept.commits[kept.branches["main"]][name]
        file.sent = file.data[:-1] + b"!"
        with pytest.raises(zoo.CheckpointError):
            there.pull(REPO)
        assert not there.list()
        file.sent = file.data
        assert there.pull(REPO).added == ("local/m@1.0.0",)


def test_a_huge_contents_file_is_not_fetched(
    hub: LoopbackHub, there: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("lab/pets", "zoo-registry.json", b"[" * 9_000_000)
    with pytest.raises(zoo.FormatError, match="more than the 8,000,000 bytes"):
        there.pull(REPO)
    assert hub.body_bytes < 10_000


# At once


def test_two_that_push_at_once_lose_nothing(hub: LoopbackHub, tmp_path: Path) -> None:
    registries = [zoo.ModelRegistry(tmp_path / str(number)) for number in range(4)]
    failed: list[BaseException] = []
    hub.add("lab/pets", ".gitattributes", b"", lfs=False)
    for number, registry in enumerate(registries):
        registry.register(name="m", version=f"1.{number}.0", model=pebble(float(number)))
        registry.register(name="m", version="1.0.9", model=pebble(9.0))  # all have this one

    def push(registry: zoo.ModelRegistry) -> None:
        try:
            registry.push("m", REPO, every=True)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=push, args=(registry,)) for registry in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    contents = json.loads(files(hub)["zoo-registry.json"])
    assert [entry["version"] for entry in contents["versions"]] == ["1.0.0", "1.0.9", "1.1.0", "1.2.0", "1.3.0"]
    fresh = zoo.ModelRegistry(tmp_path / "fresh")
    assert len(fresh.pull(REPO).added) == 5
    for number in range(4):
        assert value_of(fresh.load("m", f"1.{number}.0")) == number


def test_who_never_gets_through_is_told(
    hub: LoopbackHub, registry: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    monkeypatch.setattr(hub_repositories, "_TRIES", 2)
    hub.upload_faults["commit"] = [Fault(status=412)] * 2
    with pytest.raises(zoo.SourceError, match="others kept pushing"):
        registry.push("m", REPO)


def test_pulled_weights_are_the_registry_s_own(
    hub: LoopbackHub, registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    from huggingface_hub import hf_hub_download

    register(registry, "1.0.0")
    registry.push("m", REPO)
    cached = hf_hub_download(  # the user has looked at it before
        "lab/pets", "m/1.0.0/model.safetensors", endpoint=hub.endpoint, cache_dir=tmp_path / "hf-home" / "hub"
    )
    record = there.pull(REPO) and there.show("m")
    Path(cached).resolve().unlink()
    assert Path(Store(there.path).blob_path(record.sha256)).is_file()
    assert value_of(there.load("m")) == 0.0
