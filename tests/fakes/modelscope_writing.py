"""A stand-in for ModelScope that modelscope_hub writes to and reads from.

Written after the calls of the library (modelscope_hub 0.5): ``/api/v1/models`` (create),
``.../revisions``, ``.../repo/files``, ``.../repo``, ``.../repo/tag``, and
``/api/v1/repos/models/.../commit/<branch>`` and ``.../info/lfs/objects/batch``. As there, a commit
names no parent, an object that is there already is not mentioned, and no tag can be removed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from tests.fakes.hub_git import Blob, Repository
from tests.fakes.hub_server import Answer, Asked, HubServer, Refused

_MISSING = 10010205001
_EXISTS = 10010101001


class WritableModelScope(HubServer):
    """``repositories`` by their names; ``stored`` are large files by SHA-256."""

    def __init__(self, users: Mapping[str, str]) -> None:
        super().__init__(users)
        self.repositories: dict[str, Repository] = {}
        self.licenses: dict[str, str] = {}
        self.stored: dict[str, bytes] = {}

    def unauthorized(self) -> Answer:
        return _failed(401, 401, "Unauthorized: token expired")

    def forbidden(self) -> Answer:
        return _failed(403, 403, "no permission to write")

    def route(self, asked: Asked) -> Answer:
        words = asked.path.strip("/").split("/")
        if words[0] == "storage":
            return self._store(asked, words[1])
        user = self.user_of(asked)
        if words == ["api", "v1", "models"]:
            return self._create(asked)
        if words[:4] == ["api", "v1", "repos", "models"]:
            name = "/".join(words[4:6])
            return self._repos(asked, user, self._repository(name), words[6:])
        if words[:3] == ["api", "v1", "models"]:
            name = "/".join(words[3:5])
            return self._models(asked, self._repository(name), words[5:])
        raise Refused(_failed(404, 404, f"no such route: {asked.path}"))

    def _repository(self, name: str) -> Repository:
        if name not in self.repositories:
            raise Refused(_failed(404, _MISSING, "the model is not found"))
        return self.repositories[name]

    def _create(self, asked: Asked) -> Answer:
        value = asked.json
        name = f"{value['Path']}/{value['Name']}"
        if name in self.repositories:
            return _failed(400, _EXISTS, "model already exists")
        self.repositories[name] = Repository("master", private=value["Visibility"] == 1)
        self.licenses[name] = value["License"]
        return _good({"Path": value["Path"], "Name": value["Name"]})

    def _models(self, asked: Asked, repo: Repository, words: list[str]) -> Answer:
        if words == ["revisions"]:
            tags = [n[5:] for n in repo.refs if n.startswith("tags/")]
            branches = [n for n in repo.refs if not n.startswith("tags/")]
            listed = {
                "Tags": [{"Revision": name} for name in tags],
                "Branches": [{"Revision": name} for name in branches],
            }
            return _good({"RevisionMap": listed})
        if words == ["repo", "tag"]:
            return _tagged(asked.json, repo)
        commit = repo.at(asked.query.get("Revision", "master"))
        if commit is None:
            return _failed(404, _MISSING, "the revision is not found")
        if words == ["repo", "files"]:
            return _good({"Files": [_entry(path, blob) for path, blob in commit.tree.items()]})
        if words == ["repo"]:
            blob = commit.tree.get(asked.query["FilePath"])
            return Answer(200, blob.data) if blob else _failed(404, _MISSING, "no such file")
        raise Refused(_failed(404, 404, f"no such route: {asked.path}"))

    def _repos(self, asked: Asked, user: str, repo: Repository, words: list[str]) -> Answer:
        if words == ["info", "lfs", "objects", "batch"]:
            wanted = [one for one in asked.json["objects"] if one["oid"] not in self.stored]
            listed = [
                {**one, "actions": {"upload": {"href": self._address(one["oid"])}}}
                for one in wanted
            ]
            return _good({"objects": listed})
        if words[0] != "commit" or words[1] not in repo.refs:
            return _failed(404, _MISSING, "the branch is not found")
        tree = dict(repo.commits[repo.refs[words[1]]].tree)
        for action in asked.json["actions"]:
            self._apply(tree, action)
        made = repo.commit(words[1], tree, asked.json["commit_message"], user)
        return _good({"CommitId": made.oid})

    def _address(self, oid: str) -> str:
        return f"{self.storage_url}/storage/{oid}?Signature=0123456789abcdef"

    def _apply(self, tree: dict[str, Blob], action: Mapping[str, Any]) -> None:
        path = action["path"]
        if action["action"] == "delete":
            if tree.pop(path, None) is None:
                raise Refused(_failed(400, 400, f"{path} is not there"))
        elif action["type"] == "lfs":
            if action["sha256"] not in self.stored:
                raise Refused(_failed(400, 400, f"{path} was not uploaded"))
            tree[path] = Blob(self.stored[action["sha256"]], large=True)
        else:
            tree[path] = Blob(base64.b64decode(action["content"]))

    def _store(self, asked: Asked, sha256: str) -> Answer:
        if hashlib.sha256(asked.body).hexdigest() != sha256:
            return Answer(400, b"<Error>BadDigest</Error>")
        self.stored[sha256] = asked.body
        return Answer(200)


def _tagged(value: Mapping[str, str], repo: Repository) -> Answer:
    name = f"tags/{value['TagName']}"
    if name in repo.refs:
        return _failed(400, 10010101099, "the tag already exists")
    repo.refs[name] = repo.refs[value["Ref"]]
    return _good({})


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    return {
        "Name": path.rpartition("/")[2],
        "Path": path,
        "Type": "blob",
        "Size": len(blob.data),
        "Sha256": blob.sha256,
        "IsLFS": blob.large,
    }


def _good(data: Any) -> Answer:
    return Answer.json({"Code": 200, "Success": True, "Message": "success", "Data": data})


def _failed(status: int, code: int, message: str) -> Answer:
    return Answer.json({"Code": code, "Success": False, "Message": message}, status)
