"""`hf://` sources: the genuine huggingface_hub client against a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from loopback_hub import TOKEN, Fault, LoopbackHub
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError, DigestError, OfflineError, SourceError

DATA = os.urandom(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
SOURCE = "hf://acme/model/weights.safetensors"


def everything_under(folder: str | Path) -> list[str]:
    """Every regular file or link below a folder that is not the client's own lock or tag."""
    found = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    return [path for path in found if not path.endswith((".lock", "CACHEDIR.TAG", ".gitignore"))]


def weights_files(hub_home: str, store: Store) -> list[str]:
    """What a reader could take for the weights."""
    kept = everything_under(os.path.join(hub_home, "hub")) + everything_under(os.path.join(store.root, "blobs"))
    return [path for path in kept if os.sep + "refs" + os.sep not in path]


def test_a_file_comes_through_the_redirect_with_its_commit_pinned(hub: LoopbackHub, store: Store) -> None:
    commit = hub.add("acme/model", "weights.safetensors", DATA)
    got = fetch([SOURCE], sha256=SHA, size=len(DATA), store=store)
    assert Path(got.path).read_bytes() == DATA
    assert got == (got.path, SHA, f"hf://acme/model@{commit}/weights.safetensors", "declared")
    assert hub.of("hub", "HEAD")[0].status == 302
    assert len(hub.of("cdn", "GET")) == 1


def into_the_hubs_cache(hub: LoopbackHub, file: str = "weights.safetensors") -> str:
    """Download with the Hub's own client, as another program would. Returns the path."""
    cache = os.path.join(os.environ["HF_HOME"], "hub")
    return huggingface_hub.hf_hub_download("acme/model", file, cache_dir=cache, endpoint=hub.endpoint)


def test_it_lands_in_the_store_where_checkpoints_share_it(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    hub.add("acme/other", "renamed.safetensors", DATA)
    got = fetch([SOURCE], store=store)
    assert got.path == store.blob_path(SHA)
    assert weights_files(os.environ["HF_HOME"], store) == [got.path]
    sent = hub.body_bytes
    assert fetch(["hf://acme/other/renamed.safetensors"], sha256=SHA, store=store).path == got.path
    assert hub.body_bytes == sent


def test_a_file_the_hub_cache_holds_is_not_downloaded_again(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    into_the_hubs_cache(hub)
    before = len(hub.seen)
    got = fetch([SOURCE], sha256=SHA, store=store)
    assert Path(got.path).read_bytes() == DATA
    assert len(hub.seen) == before  # the declared digest decides; nobody is asked


def test_what_the_hub_cache_holds_of_another_commit_is_not_downloaded_again(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    path = into_the_hubs_cache(hub)
    hub.add("acme/model", "weights.safetensors", DATA[::-1])
    commit = hub.add("acme/model", "copy.safetensors", DATA)
    sent = hub.body_bytes
    got = fetch(["hf://acme/model/copy.safetensors"], store=store)
    assert os.path.realpath(got.path) == os.path.realpath(path)
    assert got[1:3] == (SHA, f"hf://acme/model@{commit}/copy.safetensors")
    assert hub.body_bytes == sent


def test_a_second_fetch_asks_nobody(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    first = fetch([SOURCE], store=store)
    before = len(hub.seen)
    assert fetch([SOURCE], store=store) == first
    assert first.pinned == "first-use"
    assert len(hub.seen) == before


def test_what_was_pinned_on_first_use_is_not_replaced_by_a_newer_file(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    first = fetch([SOURCE], store=store)
    hub.add("acme/model", "weights.safetensors", DATA[::-1])
    assert fetch([SOURCE], store=store) == first
    os.unlink(first.path)  # even when the file is gone, another one does not take its place in silence
    with pytest.raises(DigestError, match="pinned") as caught:
        fetch([SOURCE], store=store)
    assert store.pin_path(SOURCE) in str(caught.value)
    os.unlink(store.pin_path(SOURCE))  # what the error says to type
    assert fetch([SOURCE], store=store).sha256 == hashlib.sha256(DATA[::-1]).hexdigest()


def test_a_revision_is_honoured(hub: LoopbackHub, store: Store) -> None:
    old = hub.add("acme/model", "weights.safetensors", DATA)
    hub.add("acme/model", "weights.safetensors", DATA[::-1])
    hub.add("acme/model", "weights.safetensors", b"pr", branch="refs/pr/1")
    assert fetch([f"hf://acme/model@{old}/weights.safetensors"], store=store).sha256 == SHA
    assert Path(fetch(["hf://acme/model@refs/pr/1/weights.safetensors"], store=store).path).read_bytes() == b"pr"


def test_other_bytes_than_declared_are_refused_before_they_are_downloaded(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    with pytest.raises(DigestError, match="not the promised file"):
        fetch([SOURCE], sha256="0" * 64, store=store)
    assert hub.body_bytes == 0


def test_bytes_other_than_the_hubs_own_digest_stay_nowhere(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA, sent=DATA[:-1] + b"X")
    for _ in range(2):
        with pytest.raises(DigestError, match="not those the Hub has"):
            fetch([SOURCE], store=store)
        assert weights_files(os.environ["HF_HOME"], store) == []
    hub.add("acme/model", "weights.safetensors", DATA)
    assert fetch([SOURCE], store=store).sha256 == SHA


def test_a_damaged_file_in_the_hub_cache_is_fetched_anew(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    path = os.path.realpath(into_the_hubs_cache(hub))
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(b"oops")
    for promised in (SHA, None):
        got = fetch([SOURCE], sha256=promised, store=store)
        assert Path(got.path).read_bytes() == DATA
        os.unlink(got.path)


def test_a_small_file_is_checked_by_its_git_hash(hub: LoopbackHub, store: Store) -> None:
    config = json.dumps({"a": 1}).encode()
    hub.add("acme/model", "config.json", config, lfs=False)
    assert Path(fetch(["hf://acme/model/config.json"], store=store).path).read_bytes() == config
    hub.add("acme/model", "other.json", config[::-1], sent=b"x" * len(config), lfs=False)
    with pytest.raises(DigestError):
        fetch(["hf://acme/model/other.json"], store=store)


def test_a_connection_cut_midway_is_resumed_where_it_broke(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    hub.cdn_faults = [Fault(cut_after=190_000)]
    assert Path(fetch([SOURCE], store=store).path).read_bytes() == DATA
    assert [request.range for request in hub.of("cdn", "GET")] == [None, "bytes=190000-"]


def test_a_download_given_up_is_resumed_by_the_next_call(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    hub.cdn_faults = [Fault(cut_after=50_000)] + [Fault(cut_after=0)] * 3
    with pytest.raises(SourceError, match="did not deliver"):
        fetch([SOURCE], store=store)
    assert store.find(SHA) is None
    assert fetch([SOURCE], store=store).sha256 == SHA
    assert hub.body_bytes == len(DATA)


def test_a_slow_link_is_waited_for(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    hub.cdn_faults = [Fault(slow=0.01)]
    shown: list[tuple[int, int | None]] = []
    assert fetch([SOURCE], sha256=SHA, store=store, progress=lambda *seen: shown.append(seen)).sha256 == SHA
    assert shown[-1] == (len(DATA), len(DATA))


def test_a_hub_that_does_not_answer_is_given_up(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.add("acme/model", "weights.safetensors", DATA)
    hub.hub_faults = [Fault(stall=30)]
    with pytest.raises(SourceError, match="did not deliver") as caught:
        fetch([SOURCE], store=store)
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in str(caught.value)


def test_a_hub_that_is_busy_once_is_asked_again(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    hub.hub_faults = [Fault(status=503)]
    assert fetch([SOURCE], store=store).sha256 == SHA


def test_no_server_at_all_says_what_failed(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(SourceError, match="did not deliver") as caught:
        fetch([SOURCE], store=store)
    assert "HF_ENDPOINT" in str(caught.value)


def test_a_server_that_is_no_hub_is_recognised(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.serve("/acme/model/resolve/main/weights.safetensors", DATA)
    monkeypatch.setenv("HF_ENDPOINT", hub.cdn)
    with pytest.raises(SourceError, match="not as a Hugging Face Hub"):
        fetch([SOURCE], store=store)


@pytest.mark.parametrize(
    ("source", "why", "fix"),
    [
        ("hf://acme/nothing/weights.safetensors", "no repository 'acme/nothing'", "hf auth login"),
        ("hf://acme/model@v9/weights.safetensors", "no revision 'v9'", "hf://acme/model/weights.safetensors"),
        ("hf://acme/model/weigths.safetensors", "no file 'weigths.safetensors'", "/acme/model/tree/main"),
        ("hf://acme/secret/weights.safetensors", "none that you may see", "HF_TOKEN="),
        ("hf://acme/gated/weights.safetensors", "accept its terms", "/acme/gated, then: HF_TOKEN="),
        ("hf://acme", "names no file", "hf://org/repo"),
        ("hf://acme/mo del/x", "not a name on the Hub", "hf://org/repo"),
    ],
)
def test_what_the_hub_refuses_is_explained(hub: LoopbackHub, store: Store, source: str, why: str, fix: str) -> None:
    for repo in ("acme/model", "acme/secret", "acme/gated"):
        hub.add(repo, "weights.safetensors", DATA)
    hub.repos["acme/secret"].private = True
    hub.repos["acme/gated"].gated = True
    with pytest.raises(SourceError, match=why) as caught:
        fetch([source], store=store)
    assert fix in str(caught.value.fix)
    assert weights_files(os.environ["HF_HOME"], store) == []


def test_a_token_opens_what_is_private_and_never_reaches_the_cdn(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/secret", "weights.safetensors", DATA)
    hub.repos["acme/secret"].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # set after the client was imported: still honoured
    assert fetch(["hf://acme/secret/weights.safetensors"], store=store).sha256 == SHA
    assert all("authorization" not in request.headers for request in hub.of("cdn", "GET"))


def test_a_hub_cache_that_cannot_be_written_does_not_matter(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert fetch([SOURCE], store=store).sha256 == SHA


def test_a_store_that_cannot_be_written_is_named(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        fetch([SOURCE], store=Store(str(tmp_path / "file")))
    assert "ZOO_HOME=" in str(caught.value.fix)


def test_a_wrong_token_is_named(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(SourceError, match="does not know your token") as caught:
        fetch([SOURCE], store=store)
    assert "hf auth login" in str(caught.value.fix)


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "ZOO_OFFLINE"])
def test_offline_says_which_file_is_missing_and_what_to_type(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    monkeypatch.setenv(switch, "1")
    with pytest.raises(OfflineError, match=SOURCE) as caught:
        fetch([SOURCE], store=store)
    assert "hf download acme/model weights.safetensors" in str(caught.value.fix)
    assert hub.seen == []


def test_offline_uses_what_the_hub_cache_has(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("acme/model", "weights.safetensors", DATA)
    into_the_hubs_cache(hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    got = fetch([SOURCE], store=store)
    assert got[1:] == (SHA, f"hf://acme/model@{commit}/weights.safetensors", "first-use")


def test_a_hub_that_went_away_does_not_matter_to_a_cached_file(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/model", "weights.safetensors", DATA)
    into_the_hubs_cache(hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch([SOURCE], store=store).sha256 == SHA
