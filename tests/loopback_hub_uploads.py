"""The half of the loopback hub that is written to: repositories, large files by git-lfs' basic transfer, commits.

As the Hub does it: a repository is made; which files are large is asked first; those go to the CDN, each to the address
that the batch names, and are verified; one commit then names all of them, and fails where the branch has moved on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from loopback_hub import Fault, File, LoopbackHub, Repo, Seen

READER = "hf_reader"
"""A token that may read everything and write nothing."""

LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "other")
JSON = {"Content-Type": "application/json"}


class Uploads:
    """What the handler of the loopback hub does with POST and PUT."""

    hub: LoopbackHub
    name: str
    path: str
    headers: Any
    rfile: Any
    close_connection: bool
    fault: Fault
    request_seen: Seen

    def do_POST(self) -> None:
        self._take()

    def do_PUT(self) -> None:
        self._take()

    def _take(self) -> None:
        """Note the request, read its body unless it is to be cut, and answer by its path."""
        from loopback_hub import Fault, Seen

        headers = {key.lower(): value for key, value in self.headers.items()}
        self.request_seen = Seen(self.name, self.command, self.path, headers)
        self.hub.seen.append(self.request_seen)
        path = unquote(urlsplit(self.path).path)
        route, found = self._route(path)
        faults = self.hub.upload_faults.get(route, [])
        self.fault = faults.pop(0) if faults else Fault()
        if self.fault.cut_after is not None:
            self.rfile.read(self.fault.cut_after)
            self.close_connection = True
            self.connection.close()
            return
        body = self._body_of_request()
        if self.fault.status:
            self._say(self.fault.status, {"error": "as the test wishes"})
        elif found is None:
            self._say(404, {"error": "Not Found"})
        elif route == "upload" or self._may_write(route, found):
            getattr(self, f"_{route}")(found, body)

    def _route(self, path: str) -> tuple[str, re.Match[str] | None]:
        repo, revision = r"/([^/]+/[^/]+)", r"(refs/pr/\d+|[^/]+)"
        routes = {
            "create": r"/api/repos/create",
            "yaml": r"/api/validate-yaml",
            "preupload": rf"/api/models{repo}/preupload/{revision}",
            "paths": rf"/api/models{repo}/paths-info/{revision}",
            "commit": rf"/api/models{repo}/commit/{revision}",
            "batch": rf"{repo}\.git/info/lfs/objects/batch",
            "verify": rf"{repo}\.git/info/lfs/verify",
            "upload": r"/upload/([0-9a-f]{64})",
        }
        for route, pattern in routes.items():
            found = re.fullmatch(pattern, path)
            if found and (route == "upload") == (self.name == "cdn"):
                return route, found
        return "", None

    def _body_of_request(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return bytes(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _may_write(self, route: str, found: re.Match[str]) -> bool:
        """Whether the token allows it; the refusal is sent. Reading through POST needs what reading needs."""
        authorization = self.headers.get("Authorization")
        if route not in ("paths", "yaml"):
            if authorization == f"Bearer {READER}":
                self._say(403, {"error": "Your token has no write access"})
                return False
            if not authorization:
                self._say(401, {"error": "Invalid username or password."})
                return False
        if route == "create":
            from loopback_hub import TOKEN

            if authorization != f"Bearer {TOKEN}":
                self._say(401, {"error": "Invalid credentials in Authorization header"})
                return False
        refused = None if route in ("create", "yaml") else self._door(found[1])
        if refused:
            self._refuse(*refused)
        return not refused

    def _say(self, status: int, values: object) -> None:
        message = {"X-Error-Message": str(values["error"])} if isinstance(values, dict) and "error" in values else {}
        self._send(status, {**JSON, **message}, json.dumps(values).encode())

    # repositories

    def _create(self, found: re.Match[str], body: bytes) -> None:
        from loopback_hub import Repo

        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        answer = {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name}
        with self.hub.lock:
            if name in self.hub.repos:
                return self._say(409, {"error": "You already created this model repo", **answer})
            self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        self.hub.add(name, ".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", lfs=False)
        return self._say(200, answer)

    def _yaml(self, found: re.Match[str], body: bytes) -> None:
        content = json.loads(body)["content"]
        front = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        license = re.search(r"^license: (.*)$", front[1], re.MULTILINE) if front else None
        errors = [] if front else [{"message": "no front matter"}]
        if license and license[1] not in LICENSES:
            errors.append({"message": f'"license" must be one of {LICENSES}'})
        self._say(400 if errors else 200, {"errors": errors, "warnings": []})

    def _paths(self, found: re.Match[str], body: bytes) -> None:
        files = self._files(found)
        listed: list[dict[str, object]] = []
        for path in parse_qs(body.decode()).get("paths", []):
            if path in files:
                listed.append({"type": "file", "path": path, **_facts(files[path])})
            elif any(name.startswith(f"{path}/") for name in files):
                listed.append({"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest()})
        self._say(200, listed)

    def _files(self, found: re.Match[str]) -> dict[str, File]:
        repo: Repo = self.hub.repos[found[1]]
        return repo.commits[repo.branches.get(found[2], found[2])]

    # large files

    def _preupload(self, found: re.Match[str], body: bytes) -> None:
        files = self._files(found)
        answers = []
        for asked in json.loads(body)["files"]:
            base64.b64decode(asked["sample"])
            large = asked["path"].endswith(".safetensors") or asked["size"] > 10_000_000
            there = files.get(asked["path"])
            mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            answers.append({"path": asked["path"], **mode, "oid": there.etag if there else None})
        self._say(200, {"files": answers})

    def _batch(self, found: re.Match[str], body: bytes) -> None:
        asked = json.loads(body)
        assert asked["operation"] == "upload"
        assert "basic" in asked["transfers"]
        objects = []
        for wanted in asked["objects"]:
            known = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large:
                upload = {"href": f"{self.hub.cdn}/upload/{wanted['oid']}"}
                verify = {"href": f"{self.hub.endpoint}/{found[1]}.git/info/lfs/verify"}
                known["actions"] = {"upload": upload, "verify": verify}
            objects.append(known)
        self._say(200, {"transfer": "basic", "objects": objects})

    def _upload(self, found: re.Match[str], body: bytes) -> None:
        """As a bucket does, without a look at what it is; `damaged` uploads lose their last byte."""
        self.request_seen.bytes = len(body)
        if self.hub.damaged_uploads:
            self.hub.damaged_uploads -= 1
            body = body[:-1]
        self.hub.arrived[found[1]] = body
        self._send(200, {}, b"")

    def _verify(self, found: re.Match[str], body: bytes) -> None:
        asked = json.loads(body)
        arrived = self.hub.arrived.get(asked["oid"], b"")
        if (hashlib.sha256(arrived).hexdigest(), len(arrived)) != (asked["oid"], asked["size"]):
            return self._say(422, {"error": "the uploaded object is not what was announced"})
        self.hub.large[asked["oid"]] = arrived
        return self._say(200, {})

    # commits

    def _commit(self, found: re.Match[str], body: bytes) -> None:
        from loopback_hub import File

        lines = [json.loads(line) for line in body.splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        added: dict[str, File] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                data = base64.b64decode(value["content"])
                added[value["path"]] = File(data, data, False)
            elif line["key"] == "lfsFile":
                data = self.hub.large.get(value["oid"])
                if data is None:
                    return self._say(400, {"error": f"LFS pointer pointed to a file that does not exist: {value}"})
                added[value["path"]] = File(data, data, True)
        repo: Repo = self.hub.repos[found[1]]
        with self.hub.lock:
            before = repo.branches.get(found[2], "")
            if header.get("parentCommit") not in (None, before):
                return self._say(412, {"error": "A commit has happened since. Please refresh and try again."})
            files = {**repo.commits.get(before, {}), **added}
            listing = before + repr(sorted((name, file.etag) for name, file in files.items()))
            commit = hashlib.sha1(listing.encode()).hexdigest()
            repo.commits[commit], repo.branches[found[2]] = files, commit
        url = f"{self.hub.endpoint}/{found[1]}/commit/{commit}"
        return self._say(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})


def _facts(file: File) -> dict[str, object]:
    """A file as the Hub lists it."""
    pointer = {"oid": file.etag, "size": len(file.data), "pointerSize": 134}
    oid = hashlib.sha1(b"blob %d\0" % len(file.data) + file.data).hexdigest()
    return {"size": len(file.data), "oid": oid, **({"lfs": pointer} if file.lfs else {})}
