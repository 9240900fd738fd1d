"""A stand-in for the Hugging Face Hub that huggingface_hub writes to and reads from.

Written after the calls of the library (huggingface_hub 2.4) and the Hub's public descriptions of
its API: what a route is asked and has to answer is the comment beside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import yaml

from tests.fakes.hub_git import Blob, Commit, Pull, Repository
from tests.fakes.hub_server import Answer, Asked, HubServer, Refused

_SIGNATURE = "X-Amz-Signature=0123456789abcdef"
_PAGE = 7  # entries of a tree at once


class WritableHub(HubServer):
    """``repositories`` by their names; ``stored`` are large files by SHA-256."""

    def __init__(self, users: Mapping[str, str]) -> None:
        super().__init__(users)
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}

    def unauthorized(self) -> Answer:
        text = "Invalid credentials in Authorization header"
        return Answer.json({"error": text}, 401, X_Error_Message=text)

    def forbidden(self) -> Answer:
        text = "Forbidden: you must use a write token"
        return Answer.json({"error": text}, 403, X_Error_Message=text)

    def route(self, asked: Asked) -> Answer:
        words = asked.path.strip("/").split("/")
        if words[0] == "storage":
            return self._store(asked, words[1])
        user = self.user_of(asked)
        if words == ["api", "validate-yaml"]:
            return _validated(asked.json["content"])
        if words == ["api", "whoami-v2"]:
            return Answer.json({"name": user, "type": "user"})
        if words == ["api", "repos", "create"]:
            return self._create(asked, user)
        if words[:2] == ["api", "models"]:
            name = "/".join(words[2:4])
            return self._api(asked, user, name, self._repository(name), words[4:])
        if words[1].endswith(".git"):
            return self._lfs(asked, words)
        if words[2] == "resolve":
            return self._resolve(asked, words)
        raise Refused(Answer.json({"error": f"no such route: {asked.path}"}, 404))

    def _repository(self, name: str) -> Repository:
        if name not in self.repositories:
            raise Refused(
                Answer.json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            )
        return self.repositories[name]

    def _create(self, asked: Asked, user: str) -> Answer:
        value = asked.json
        name = f"{value.get('organization') or user}/{value['name']}"
        if name in self.repositories:
            return Answer.json({"error": "You already created this model repo"}, 409)
        self.repositories[name] = Repository("main", private=_is_private(value))
        return Answer.json({"url": f"{self.url}/{name}", "name": name})

    def _api(
        self, asked: Asked, user: str, name: str, repo: Repository, words: list[str]
    ) -> Answer:
        what, rest = (words or ["revision"])[0], words[1:]
        if what == "refs":
            return Answer.json(_refs(repo))
        if what == "discussions":
            return self._discussions(asked, user, name, repo, rest)
        if what == "tag":
            return _tag(asked, repo, "/".join(rest))
        commit = self._at(repo, "/".join(rest) or "main")
        if what == "tree":
            return self._tree(asked, name, commit)
        if what == "preupload":
            return _preupload(asked, commit)
        if what == "commit":
            return self._commit(asked, user, name, repo, "/".join(rest), commit)
        if what == "commits":
            return Answer.json([_told(one) for one in repo.history(commit.oid)])
        if what == "paths-info":
            paths = parse_qs(asked.body.decode())["paths"]
            found = [_entry(p, commit.tree[p]) for p in paths if p in commit.tree]
            return Answer.json(found)
        if what == "revision":
            siblings = [{"rfilename": path} for path in sorted(commit.tree)]
            info = {"_id": "1", "id": name, "sha": commit.oid, "siblings": siblings}
            return Answer.json({**info, "private": repo.private})
        raise Refused(Answer.json({"error": f"no such route: {asked.path}"}, 404))

    def _at(self, repo: Repository, revision: str) -> Commit:
        commit = repo.at(unquote(revision))
        if commit is None:
            raise Refused(
                Answer.json(
                    {"error": f"Invalid rev id: {revision}"}, 404, X_Error_Code="RevisionNotFound"
                )
            )
        return commit

    def _tree(self, asked: Asked, name: str, commit: Commit) -> Answer:
        paths = sorted(commit.tree)
        folders = sorted({p.rpartition("/")[0] for p in paths} - {""})
        entries = [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in folders]
        entries += [_entry(path, commit.tree[path]) for path in paths]
        start = int(asked.query.get("cursor", 0))
        answer = Answer.json(entries[start : start + _PAGE])
        if start + _PAGE < len(entries):
            link = f"{self.url}/api/models/{name}/tree/{commit.oid}?recursive=True"
            answer.headers["Link"] = f'<{link}&cursor={start + _PAGE}>; rel="next"'
        return answer

    def _lfs(self, asked: Asked, words: list[str]) -> Answer:
        if words[-1] == "verify":
            known = len(self.stored.get(asked.json["oid"], b"")) == asked.json["size"]
            return Answer.json({}, 200 if known else 404)
        objects = []
        for one in asked.json["objects"]:
            entry = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.stored:
                base = f"{self.url}/{words[0]}/{words[1]}/info/lfs/objects"
                upload = {
                    "href": f"{self.storage_url}/storage/{one['oid']}?{_SIGNATURE}",
                    "header": {},
                }
                entry["actions"] = {"upload": upload, "verify": {"href": f"{base}/verify"}}
            objects.append(entry)
        return Answer.json({"transfer": "basic", "objects": objects})

    def _store(self, asked: Asked, sha256: str) -> Answer:
        if asked.method in ("GET", "HEAD"):
            return _ranged(asked, self.stored[sha256])
        if hashlib.sha256(asked.body).hexdigest() != sha256:
            return Answer(400, b"<Error>BadDigest</Error>")
        self.stored[sha256] = asked.body
        return Answer(200)

    def _commit(
        self, asked: Asked, user: str, name: str, repo: Repository, revision: str, on: Commit
    ) -> Answer:
        ref = unquote(revision).removeprefix("refs/")
        lines = [json.loads(line) for line in asked.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        pull = asked.query.get("create_pr") == "1"
        parent = header.get("parentCommit")
        if parent and not pull and parent != on.oid:
            error = "A commit has happened since. Please refresh and try again."
            return Answer.json({"error": error}, 412, X_Error_Message=error)
        tree = dict(repo.commits[parent].tree if parent else on.tree)
        for line in lines:
            self._apply(tree, line["key"], line["value"])
        number = None
        if pull:
            number = len(repo.pulls) + 1
            repo.pulls[number] = Pull(
                number, header["summary"], user, "open", header.get("description", "")
            )
            ref = f"pr/{number}"
        made = repo.commit(ref, tree, header["summary"], user, (parent or on.oid,))
        answer = {"commitUrl": f"{self.url}/{name}/commit/{made.oid}", "commitOid": made.oid}
        if number is not None:
            answer["pullRequestUrl"] = f"{self.url}/{name}/discussions/{number}"
        return Answer.json({**answer, "success": True})

    def _apply(self, tree: dict[str, Blob], key: str, value: Any) -> None:
        if key == "file":
            tree[value["path"]] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in self.stored:
                raise Refused(Answer.json({"error": f"{value['path']} was not uploaded"}, 400))
            tree[value["path"]] = Blob(self.stored[value["oid"]], large=True)
        elif key == "deletedFile" and tree.pop(value["path"], None) is None:
            error = "A file with this name doesn't exist"
            raise Refused(Answer.json({"error": error}, 404, X_Error_Code="EntryNotFound"))

    def _discussions(
        self, asked: Asked, user: str, name: str, repo: Repository, words: list[str]
    ) -> Answer:
        if not words:
            start, size = int(asked.query["p"]) * 2, 2
            status = asked.query.get("status")
            pulls = [p for p in repo.pulls.values() if status in (None, p.status)][::-1]
            listed = [_discussion(name, one) for one in pulls[start : start + size]]
            return Answer.json({"count": len(pulls), "start": start, "discussions": listed})
        pull = repo.pulls[int(words[0])]
        if words[1] == "merge":
            if pull.status != "open" or not repo.merge(pull.number, user):
                return Answer.json({"error": "This pull request cannot be merged"}, 409)
            return Answer.json({})
        if words[1] == "status":
            if pull.status not in ("open", "draft"):
                return Answer.json({"error": "It is closed already"}, 400)
            pull.status = asked.json["status"]
            pull.comments.append(asked.json.get("comment", ""))
            event = {"id": "1", "type": "status-change", "createdAt": "2026-01-01T00:00:00.000Z"}
            data = {"status": pull.status}
            return Answer.json({"newStatus": {**event, "author": {"name": user}, "data": data}})
        raise Refused(Answer.json({"error": "no such route"}, 404))

    def _resolve(self, asked: Asked, words: list[str]) -> Answer:
        commit = self._at(self._repository("/".join(words[:2])), words[3])
        blob = commit.tree.get("/".join(words[4:]))
        if blob is None:
            return Answer.json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.git_sha1}"'}
        if blob.large:
            headers |= {
                "Location": f"{self.storage_url}/storage/{blob.sha256}?{_SIGNATURE}",
                "X-Linked-Size": str(len(blob.data)),
                "X-Linked-Etag": f'"{blob.sha256}"',
            }
            return Answer(302, b"", headers)
        answer = _ranged(asked, blob.data)
        answer.headers |= headers
        return answer


def _is_private(value: Mapping[str, Any]) -> bool:
    return bool(value.get("private")) or value.get("visibility") == "private"


def _ranged(asked: Asked, data: bytes) -> Answer:
    start = int((asked.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(data) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return Answer(206 if start else 200, data[start:], headers)


def _validated(content: str) -> Answer:
    errors = []
    if content.startswith("---\n"):
        try:
            head = yaml.safe_load(content[4 : content.index("\n---", 4)])
            if "license" in head and not isinstance(head["license"], str):
                errors.append({"message": '"license" must be a string'})
        except (ValueError, yaml.YAMLError) as error:
            errors.append({"message": str(error)})
    return Answer.json({"errors": errors, "warnings": []}, 400 if errors else 200)


def _refs(repo: Repository) -> dict[str, Any]:
    def entry(name: str, ref: str, oid: str) -> dict[str, str]:
        return {"name": name, "ref": ref, "targetCommit": oid}

    found: dict[str, list[dict[str, str]]] = {
        "branches": [], "tags": [], "converts": [], "pullRequests": []
    }  # fmt: skip
    for name, oid in repo.refs.items():
        short = name.partition("/")[2]
        if name.startswith("tags/"):
            found["tags"].append(entry(short, f"refs/{name}", oid))
        elif name.startswith("pr/"):
            found["pullRequests"].append(entry(short, f"refs/{name}", oid))
        else:
            found["branches"].append(entry(name, f"refs/heads/{name}", oid))
    return found


def _tag(asked: Asked, repo: Repository, revision: str) -> Answer:
    if asked.method == "DELETE":
        if repo.refs.pop(f"tags/{unquote(revision)}", None) is None:
            return Answer.json({"error": "no such tag"}, 404, X_Error_Code="RevisionNotFound")
        return Answer(204)
    name = f"tags/{asked.json['tag']}"
    if name in repo.refs:
        return Answer.json({"error": f"Tag reference exists already: refs/{name}"}, 409)
    commit = repo.at(unquote(revision))
    if commit is None:
        return Answer.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
    repo.refs[name] = commit.oid
    return Answer.json({})


def _preupload(asked: Asked, commit: Commit) -> Answer:
    files = []
    for one in asked.json["files"]:
        binary = b"\0" in base64.b64decode(one["sample"])
        large = binary or one["size"] > 10_000_000 or one["path"].endswith(".safetensors")
        entry = {
            "path": one["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
        }
        if (old := commit.tree.get(one["path"])) is not None:
            entry["oid"] = old.sha256 if old.large else old.git_sha1
        files.append(entry)
    return Answer.json({"files": files})


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    size = len(blob.data)
    found: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": blob.git_sha1}
    if blob.large:
        found["lfs"] = {"oid": blob.sha256, "size": size, "pointerSize": 130}
    return found


def _told(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": "",
        "date": "2026-01-01T00:00:00.000Z",
        "authors": [{"user": commit.author}],
    }


def _discussion(name: str, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.number,
        "title": pull.title,
        "status": pull.status,
        "isPullRequest": True,
        "author": {"name": pull.author},
        "createdAt": "2026-01-01T00:00:00.000Z",
        "repo": {"name": name, "type": "model"},
    }
